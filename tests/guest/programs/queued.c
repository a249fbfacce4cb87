// queued CPU: starts tasks that never sleep, of every scheduling class, in groups and not, on that CPU (the deadline
// one, which cannot be pinned, on any). Prints a line for each: NAME PID. Whoever has started it kills them by pid.
//
// The groups are cgroups /queued/left and /queued/right/deep: only leaves may hold tasks.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CGROUPS "/sys/fs/cgroup"

// Of include/uapi/linux/sched/types.h, which not every C library passes on.
struct attributes {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
};

static void fail(const char *what) {
  fprintf(stderr, "queued: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void put_line(const char *path, const char *text) {
  int fd = open(path, O_WRONLY);
  if (fd < 0 || write(fd, text, strlen(text)) < 0) fail(path);
  close(fd);
}

static const struct task {
  const char *name, *comm, *group;
  struct attributes attributes;
} kTasks[] = {
    {"plain", "q-plain", NULL, {.policy = SCHED_OTHER}},
    {"low", "q-low", NULL, {.policy = SCHED_OTHER, .nice = 7}},
    {"high", "q-high", NULL, {.policy = SCHED_OTHER, .nice = -6}},
    {"batch", "q-batch", NULL, {.policy = SCHED_BATCH, .nice = 2}},
    {"idle", "q-idle", NULL, {.policy = SCHED_IDLE}},
    {"left-1", "q-left \"1\"", "left", {.policy = SCHED_OTHER}},
    {"left-2", "q\nleft\\2", "left", {.policy = SCHED_OTHER, .nice = 3}},
    {"left-3", "q\xff\xfeleft", "left", {.policy = SCHED_BATCH}},
    {"deep", "q-deep", "right/deep", {.policy = SCHED_OTHER}},
    {"fifo-1", "q-fifo", NULL, {.policy = SCHED_FIFO, .priority = 10}},
    {"fifo-2", "q-fifo", NULL, {.policy = SCHED_FIFO, .priority = 10}},
    {"rr", "q-rr", "left", {.policy = SCHED_RR, .priority = 5}},
    {"deadline", "q-deadline", NULL,
     {.policy = 6 /* SCHED_DEADLINE */, .runtime = 30000000, .deadline = 70000000, .period = 100000000}},
};

static void say(int pipe_end) {
  if (write(pipe_end, "", 1) != 1) fail("pipe");
}

static void hear(int pipe_end, const char *from) {
  char byte;
  if (read(pipe_end, &byte, 1) != 1) fail(from);
}

static void run(const struct task *task, int cpu, int ready, int go) {
  prctl(PR_SET_NAME, task->comm);
  if (task->group) {
    char path[256];
    snprintf(path, sizeof(path), CGROUPS "/queued/%s/cgroup.procs", task->group);
    put_line(path, "0");
  }
  cpu_set_t only;
  CPU_ZERO(&only);
  CPU_SET(cpu, &only);
  if (task->attributes.runtime == 0 && sched_setaffinity(0, sizeof(only), &only)) fail("affinity");
  say(ready);
  hear(go, "parent");
  for (;;) __asm__ volatile("");
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  mkdir(CGROUPS "/queued", 0755);
  put_line(CGROUPS "/cgroup.subtree_control", "+cpu");
  put_line(CGROUPS "/queued/cgroup.subtree_control", "+cpu");
  mkdir(CGROUPS "/queued/left", 0755);
  mkdir(CGROUPS "/queued/right", 0755);
  put_line(CGROUPS "/queued/right/cgroup.subtree_control", "+cpu");
  mkdir(CGROUPS "/queued/right/deep", 0755);
  // Before anything else can run before us.
  struct sched_param above = {.sched_priority = 50};
  if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &above)) fail("SCHED_FIFO");
  enum { kCount = sizeof(kTasks) / sizeof(*kTasks) };
  int ready[kCount][2], go[kCount][2];
  pid_t pids[kCount];
  for (int i = 0; i < kCount; i++) {
    if (pipe(ready[i]) || pipe(go[i])) fail("pipe");
    pids[i] = fork();
    if (pids[i] < 0) fail("fork");
    if (pids[i] == 0) {
      int null = open("/dev/null", O_RDWR);
      for (int fd = 0; fd < 2; fd++) dup2(null, fd);
      run(&kTasks[i], atoi(argv[1]), ready[i][1], go[i][0]);
    }
    close(ready[i][1]);
    hear(ready[i][0], kTasks[i].name);
  }
  // Only now, since changes of groups may have to wait for every CPU; and not by the tasks themselves, which may not
  // run any more.
  for (int i = 0; i < kCount; i++) {
    struct attributes attributes = kTasks[i].attributes;
    attributes.size = sizeof(attributes);
    if (syscall(SYS_sched_setattr, pids[i], &attributes, 0)) fail(kTasks[i].name);
    say(go[i][1]);
    printf("%s %d\n", kTasks[i].name, pids[i]);
  }
  return 0;
}
