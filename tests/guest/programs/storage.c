// Storage of groups, sockets, tasks and files. The owners' numbers are noted.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"

#include "storage.skel.h"

struct note {
  u64 number;
  char text[8];
};

// False, and a "lacks", where a kernel has the map but does not take this from outside.
static bool own(const struct bpf_object *object, const char *name, int owner, u64 number, const char *text) {
  struct note value = {.number = number};
  memcpy(value.text, text, strlen(text));
  int fd = map_of(object, name);
  if (fd < 0) return false;
  if (bpf_map_update_elem(fd, &owner, &value, BPF_ANY) == 0) return true;
  note("lacks %s's elements: %s", name, strerror(errno));
  return false;
}

static u64 inode(int fd) {
  struct stat status;
  if (fstat(fd, &status)) fail("stat");
  return status.st_ino;
}

static int opened(const char *path, int flags) {
  int fd = open(path, flags, 0644);
  if (fd < 0) fail("%s", path);
  return fd;
}

static void fill_socket_storage(const struct bpf_object *object) {
  static const int kFamilies[] = {AF_INET, AF_INET6, AF_UNIX};
  for (u32 i = 0; i < COUNT(kFamilies); i++) {
    int fd = socket(kFamilies[i], SOCK_DGRAM, 0);
    u64 cookie;
    socklen_t size = sizeof(cookie);
    if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size)) fail("socket");
    if (own(object, "k_sk_store", fd, i + 1, "socket")) {
      note("fact k_sk_store_%u_cookie %llu", i + 1, cookie);
      note("fact k_sk_store_%u_inode %llu", i + 1, inode(fd));
    }
  }
}

// Tasks that do nothing, the second of them a child's thread group of its own.
static void fill_task_storage(const struct bpf_object *object) {
  if (map_of(object, "k_task_store") < 0) return;
  for (u32 i = 1; i <= 2; i++) {
    pid_t pid = fork();
    if (pid < 0) fail("fork");
    if (pid == 0) {
      prctl(PR_SET_NAME, i == 1 ? "owner-one" : "owner-two");
      for (;;) pause();
    }
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0) fail("pidfd_open");
    if (own(object, "k_task_store", fd, i * 10, "task")) note("fact k_task_store_%u_pid %d", i * 10, pid);
  }
}

static void fill_file_storage(const struct bpf_object *object) {
  if (map_of(object, "k_inode_store") < 0) return;
  static const char *const kFiles[] = {"/run/owner", "/run/guest", "/init"};
  close(opened("/run/owner", O_CREAT | O_RDWR));
  for (u32 i = 0; i < COUNT(kFiles); i++) {
    int fd = opened(kFiles[i], O_RDONLY);
    if (own(object, "k_inode_store", fd, 100 + i, "file")) note("fact k_inode_store_%u_inode %llu", 100 + i, inode(fd));
  }
}

static void fill_group_storage(const struct bpf_object *object) {
  if (map_of(object, "k_cgrp_store") < 0) return;
  static const char *const kGroups[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/known", "/sys/fs/cgroup/known/inner"};
  for (u32 i = 0; i < COUNT(kGroups); i++) {
    int fd = opened(kGroups[i], O_RDONLY | O_DIRECTORY);
    if (own(object, "k_cgrp_store", fd, 7 + i, "group")) note("fact k_cgrp_store_%u_inode %llu", 7 + i, inode(fd));
  }
}

// Three packets, from and to a task in a group, on CPU 0.
static void send_from(const char *group) {
  pid_t pid = fork();
  if (pid < 0) fail("fork");
  if (pid == 0) {
    on_cpu(0);
    int procs = opened(group, O_WRONLY);
    if (write(procs, "0", 1) != 1) fail("%s", group);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(6006), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address))) fail("socket in the group");
    char data[72] = {0};
    for (int i = 0; i < 3; i++) {
      if (sendto(fd, data, sizeof(data), 0, (struct sockaddr *)&address, sizeof(address)) != sizeof(data)) fail("send");
      if (recv(fd, data, sizeof(data), 0) != sizeof(data)) fail("receive");
    }
    _exit(0);
  }
  int status;
  if (waitpid(pid, &status, 0) != pid || status) fail("packets of %s", group);
}

static void attach(const struct bpf_object *object, const char *program, int group) {
  if (!bpf_program__attach_cgroup(bpf_object__find_program_by_name(object, program), group)) fail("attach of %s", program);
}

static void run_in_groups(const struct bpf_object *object) {
  int known = opened("/sys/fs/cgroup/known", O_RDONLY | O_DIRECTORY), inner = opened("/sys/fs/cgroup/known/inner", O_RDONLY | O_DIRECTORY);
  attach(object, "count_egress", known);
  attach(object, "count_egress", inner);
  attach(object, "count_ingress", inner);
  send_from("/sys/fs/cgroup/known/inner/cgroup.procs");
  note("fact cgroup_known %llu", inode(known));
  note("fact cgroup_inner %llu", inode(inner));
}

void make_storage(void) {
  size_t size;
  const void *bytes = storage_bpf__elf_bytes(&size);
  struct bpf_object *object = load_object("storage", bytes, size, NULL);
  fill_socket_storage(object);
  fill_task_storage(object);
  fill_file_storage(object);
  fill_group_storage(object);
  run_in_groups(object);
}
