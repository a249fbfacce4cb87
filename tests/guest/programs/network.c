// Maps of devices, CPUs and sockets. The sockets are this program's own.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest.h"

#include "network.skel.h"

enum { kLoopback = 1 };  // the first interface of a network namespace

static void bring_up_loopback(void) {
  struct ifreq request = {.ifr_name = "lo"};
  int control = socket(AF_INET, SOCK_DGRAM, 0);
  if (control < 0 || ioctl(control, SIOCGIFFLAGS, &request)) fail("lo");
  request.ifr_flags |= IFF_UP;
  if (ioctl(control, SIOCSIFFLAGS, &request)) fail("lo up");
  close(control);
}

// "far0", a virtual device of the module veth, where the guest was given that module (see harness.py); else "lo" once more.
static u32 second_device(void) {
  int module = open("/veth.ko", O_RDONLY | O_CLOEXEC);
  if (module < 0) return kLoopback;
  if (syscall(SYS_finit_module, module, "", 0)) fail("module veth");
  close(module);
  if (system("ip link add name far0 type veth")) fail("device far0");
  u32 index = if_nametoindex("far0");
  if (!index) fail("index of far0");
  return index;
}

static void note_program(const char *name, int fd) {
  struct bpf_prog_info info = {0};
  u32 size = sizeof(info);
  if (bpf_obj_get_info_by_fd(fd, &info, &size)) fail("id of %s", name);
  note("fact prog_%s %u", name, info.id);
}

static void make_device_maps(int program) {
  u32 keys[] = {0, 2, 77};
  u32 devices[] = {kLoopback, second_device()};
  struct bpf_devmap_val with_program = {.ifindex = devices[1], .bpf_prog.fd = program};
  struct bpf_devmap_val without = {.ifindex = kLoopback, .bpf_prog.fd = -1};
  note("fact second_device %u", devices[1]);
  int small = make_map(BPF_MAP_TYPE_DEVMAP, "k_devmap4", 4, 4, 4, 0), large = make_map(BPF_MAP_TYPE_DEVMAP, "k_devmap8", 4, 8, 4, 0);
  int hash = make_map(BPF_MAP_TYPE_DEVMAP_HASH, "k_devhash4", 4, 4, 8, 0);
  int hash_large = make_map(BPF_MAP_TYPE_DEVMAP_HASH, "k_devhash8", 4, 8, 8, 0);
  for (u32 i = 0; i < 2; i++) {
    put_fd(small, "k_devmap4", &keys[i], &devices[i]);
    put_fd(large, "k_devmap8", &keys[i], i ? &with_program : &without);
    put_fd(hash, "k_devhash4", &keys[i + 1], &devices[i]);
    put_fd(hash_large, "k_devhash8", &keys[i + 1], i ? &with_program : &without);
  }
}

static void make_cpu_maps(int program) {
  u32 cpu = 0, size = 192;
  struct bpf_cpumap_val with_program = {.qsize = 256, .bpf_prog.fd = program};
  put_fd(make_map(BPF_MAP_TYPE_CPUMAP, "k_cpumap4", 4, 4, (u32)possible_cpus, 0), "k_cpumap4", &cpu, &size);
  put_fd(make_map(BPF_MAP_TYPE_CPUMAP, "k_cpumap8", 4, 8, (u32)possible_cpus, 0), "k_cpumap8", &cpu, &with_program);
}

static void note_socket(const char *name, int fd) {
  u64 cookie;
  socklen_t size = sizeof(cookie);
  struct sockaddr_in6 address = {0};
  socklen_t address_size = sizeof(address);
  if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size)) fail("cookie of %s", name);
  if (getsockname(fd, (struct sockaddr *)&address, &address_size)) fail("name of %s", name);
  note("fact cookie_%s %llu", name, cookie);
  note("fact port_%s %u", name, ntohs(address.sin6_port));  // where IPv4 has it, too
}

static int bound(int family, int type, u16 port, bool shared) {
  struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
  struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int fd = socket(family, type, 0), one = 1;
  if (fd < 0) fail("socket");
  if (shared && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one))) fail("SO_REUSEPORT");
  const struct sockaddr *address = family == AF_INET ? (const struct sockaddr *)&four : (const struct sockaddr *)&six;
  if (bind(fd, address, family == AF_INET ? sizeof(four) : sizeof(six))) fail("bind");
  return fd;
}

struct pair {
  int client, server;
};

static struct pair connected(int family, u16 port, const char *client_name, const char *server_name) {
  int listener = bound(family, SOCK_STREAM, port, false);
  struct sockaddr_in6 address;
  socklen_t size = sizeof(address);
  if (listen(listener, 1) || getsockname(listener, (struct sockaddr *)&address, &size)) fail("listen");
  struct pair pair = {.client = socket(family, SOCK_STREAM, 0)};
  if (pair.client < 0 || connect(pair.client, (struct sockaddr *)&address, size)) fail("connect");
  pair.server = accept(listener, NULL, NULL);
  if (pair.server < 0) fail("accept");
  note_socket(client_name, pair.client);
  note_socket(server_name, pair.server);
  return pair;
}

static void make_socket_maps(void) {
  struct pair four = connected(AF_INET, 4004, "client4", "server4");
  struct pair six = connected(AF_INET6, 4006, "client6", "server6");
  for (u32 size = 4; size <= 8; size += 4) {
    char map_name[16], hash_name[16];
    snprintf(map_name, sizeof(map_name), "k_sockmap%u", size);
    snprintf(hash_name, sizeof(hash_name), "k_sockhash%u", size);
    int map = make_map(BPF_MAP_TYPE_SOCKMAP, map_name, 4, size, 8, 0);
    int hash = make_map(BPF_MAP_TYPE_SOCKHASH, hash_name, 6, size, 16, 0);
    u64 sockets[] = {(u64)four.client, (u64)four.server, (u64)six.client, (u64)six.server};
    for (u32 i = 0; i < 4; i++) {
      u32 index = i * 2;
      u8 key[6];
      pattern(key, sizeof(key), i);
      put_fd(map, map_name, &index, &sockets[i]);
      put_fd(hash, hash_name, key, &sockets[i]);
    }
  }
}

static void make_reuseport_maps(void) {
  int first = bound(AF_INET, SOCK_DGRAM, 5005, true), second = bound(AF_INET, SOCK_DGRAM, 5005, true);
  // A socket may be in one such map only.
  int third = bound(AF_INET6, SOCK_DGRAM, 5006, true);
  note_socket("reuse_first", first);
  note_socket("reuse_second", second);
  note_socket("reuse_third", third);
  int large = make_map(BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, "k_reuse8", 4, 8, 4, 0);
  int small = make_map(BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, "k_reuse4", 4, 4, 4, 0);
  u64 fds[] = {(u64)first, (u64)second, (u64)third};
  u32 keys[] = {0, 3, 1};
  put_fd(large, "k_reuse8", &keys[0], &fds[0]);
  put_fd(large, "k_reuse8", &keys[1], &fds[1]);
  put_fd(small, "k_reuse4", &keys[2], &fds[2]);
}

static void make_xdp_socket_map(void) {
  enum { kFrame = 4096, kFrames = 16, kRing = 8 };
  int fd = socket(AF_XDP, SOCK_RAW, 0);
  if (fd < 0) {
    lacks("k_xsk");
    return;
  }
  void *memory = mmap(NULL, kFrame * kFrames, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  struct xdp_umem_reg region = {.addr = (u64)(unsigned long)memory, .len = kFrame * kFrames, .chunk_size = kFrame};
  int ring = kRing;
  if (memory == MAP_FAILED || setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &region, sizeof(region)) ||
      setsockopt(fd, SOL_XDP, XDP_UMEM_FILL_RING, &ring, sizeof(ring)) ||
      setsockopt(fd, SOL_XDP, XDP_UMEM_COMPLETION_RING, &ring, sizeof(ring)) || setsockopt(fd, SOL_XDP, XDP_RX_RING, &ring, sizeof(ring)))
    fail("XDP socket");
  struct sockaddr_xdp address = {.sxdp_family = AF_XDP, .sxdp_ifindex = kLoopback, .sxdp_flags = XDP_COPY};
  if (bind(fd, (struct sockaddr *)&address, sizeof(address))) fail("bind of the XDP socket");
  u32 key = 2;
  put_fd(make_map(BPF_MAP_TYPE_XSKMAP, "k_xsk", 4, 4, 4, 0), "k_xsk", &key, &fd);
}

void make_network(void) {
  bring_up_loopback();
  size_t size;
  const void *bytes = network_bpf__elf_bytes(&size);
  struct bpf_object *object = load_object("network", bytes, size, NULL);
  note_program("at_device", prog_of(object, "at_device"));
  note_program("at_cpu", prog_of(object, "at_cpu"));
  make_device_maps(prog_of(object, "at_device"));
  make_cpu_maps(prog_of(object, "at_cpu"));
  make_socket_maps();
  make_reuseport_maps();
  make_xdp_socket_map();
}
