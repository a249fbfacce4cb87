// Large maps, trees of prefixes, maps of maps, tables of programs, perf events and groups.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest.h"

#include "tables.skel.h"

enum { kBig = 20000, kMapTypeRhash = 35 };

struct route {
  u32 hop;
  char name[8];
};

struct prefix {
  u32 bits;
  u8 address[16];
};

// key -> 3 * key + 1, the keys far apart; in one call, since 20,000 would take an emulated guest seconds.
static void fill_big(const struct bpf_object *object, const char *name) {
  static u64 keys[kBig], values[kBig];
  for (u64 i = 0; i < kBig; i++) {
    keys[i] = i * 0x100000007ULL;
    values[i] = keys[i] * 3 + 1;
  }
  u32 count = kBig;
  if (bpf_map_update_batch(map_of(object, name), keys, values, &count, NULL)) fail("batch into %s", name);
}

static void add_route(int fd, const char *name, u32 bits, const u8 *address, size_t size, u32 hop) {
  struct prefix prefix = {.bits = bits};
  memcpy(prefix.address, address, size);
  struct route route = {.hop = hop};
  snprintf(route.name, sizeof(route.name), "r%u", hop);
  u64 plain = hop * 1000;
  put_fd(fd, name, &prefix, size == 4 ? (const void *)&route : &plain);
}

static void fill_prefixes(const struct bpf_object *object) {
  // Nodes of the tree that hold no prefix of ours: 10.0.0.0/14 over .1 and .2, 192.168.0.0/23 over .0 and .1, …
  static const struct { u8 bits, address[4]; } kFour[] = {
      {0, {0}}, {8, {10}}, {16, {10, 1}}, {16, {10, 2}}, {24, {192, 168, 0}}, {24, {192, 168, 1}}, {32, {255, 255, 255, 255}},
      {32, {10, 1, 2, 3}}, {17, {10, 2, 128}}, {1, {128}}, {12, {172, 16}}, {30, {10, 1, 2, 4}}};
  static const struct { u8 bits, address[16]; } kSix[] = {
      {128, {[15] = 1}}, {10, {0xfe, 0x80}}, {32, {0x20, 0x01, 0x0d, 0xb8}}, {48, {0x20, 0x01, 0x0d, 0xb8, 0, 1}},
      {48, {0x20, 0x01, 0x0d, 0xb8, 0, 2}}, {127, {0x20, 0x01, 0x0d, 0xb8, 0, 2, [15] = 0xfe}}};
  int four = map_of(object, "k_lpm4"), six = map_of(object, "k_lpm6");
  for (u32 i = 0; i < COUNT(kFour); i++) add_route(four, "k_lpm4", kFour[i].bits, kFour[i].address, 4, i + 1);
  for (u32 i = 0; i < COUNT(kSix); i++) add_route(six, "k_lpm6", kSix[i].bits, kSix[i].address, 16, i + 1);
  // Taking a prefix out of the middle leaves its node there, without a prefix.
  struct prefix gone = {.bits = 16, .address = {10, 2}};
  if (bpf_map_delete_elem(four, &gone)) fail("delete from k_lpm4");
  // Five bytes of data: prefixes of up to 40 bits, keys of nine bytes.
  int odd = make_map(BPF_MAP_TYPE_LPM_TRIE, "k_lpm_odd", 9, 3, 8, BPF_F_NO_PREALLOC);
  static const struct { u8 bits, address[5]; } kOdd[] = {{40, {1, 2, 3, 4, 5}}, {33, {1, 2, 3, 4, 0x80}}, {7, {2}}};
  for (u32 i = 0; i < COUNT(kOdd); i++) {
    struct prefix prefix = {.bits = kOdd[i].bits};
    memcpy(prefix.address, kOdd[i].address, 5);
    u8 value[3];
    pattern(value, sizeof(value), i);
    put_fd(odd, "k_lpm_odd", &prefix, value);
  }
  make_map(BPF_MAP_TYPE_LPM_TRIE, "k_lpm_empty", 8, 4, 8, BPF_F_NO_PREALLOC);
}

static void fill_maps_of_maps(const struct bpf_object *object) {
  int hash_a = map_of(object, "k_inner_hash_a"), hash_b = map_of(object, "k_inner_hash_b");
  int array_a = map_of(object, "k_inner_arr_a"), array_b = map_of(object, "k_inner_arr_b");
  for (u32 i = 0; i < 4; i++) {
    u32 value = i + 50;
    put_fd(array_a, "k_inner_arr_a", &i, &value);
    struct route route = {.hop = i, .name = "inner"};
    put_fd(hash_b, "k_inner_hash_b", &i, &route);
  }
  for (u32 i = 1; i < 6; i += 2) put_fd(map_of(object, "k_outer_arr"), "k_outer_arr", &i, i == 3 ? &hash_b : &hash_a);
  for (u64 i = 0; i < 3; i++) {
    u64 key = i << 33;
    put_fd(map_of(object, "k_outer_hash"), "k_outer_hash", &key, i == 1 ? &array_b : &array_a);
    u8 odd[5];
    pattern(odd, sizeof(odd), (u32)i);
    put_fd(map_of(object, "k_outer_np"), "k_outer_np", odd, i == 1 ? &hash_a : &hash_b);
  }
}

static void fill_rhash(const struct bpf_object *object) {
  int fd = map_of(object, "k_rhash");
  if (fd < 0) return;
  for (u32 i = 0; i < 300; i++) {
    struct route route = {.hop = i * i};
    snprintf(route.name, sizeof(route.name), "n%u", i);
    put_fd(fd, "k_rhash", &i, &route);
  }
  for (u32 i = 0; i < 300; i += 4)
    if (bpf_map_delete_elem(fd, &i)) fail("delete from k_rhash");
}

static void make_perf_events(void) {
  int fd = make_map(BPF_MAP_TYPE_PERF_EVENT_ARRAY, "k_perf", 4, 4, (u32)possible_cpus, 0);
  struct perf_event_attr attributes = {
      .type = PERF_TYPE_SOFTWARE, .size = sizeof(attributes), .config = PERF_COUNT_SW_BPF_OUTPUT, .sample_type = PERF_SAMPLE_RAW};
  u32 cpu = 0;
  int event = (int)syscall(SYS_perf_event_open, &attributes, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
  if (event < 0) fail("perf event");
  put_fd(fd, "k_perf", &cpu, &event);
}

static void make_cgroups(void) {
  int fd = make_map(BPF_MAP_TYPE_CGROUP_ARRAY, "k_cgroups", 4, 4, 4, 0);
  if (mount("none", "/sys/fs/cgroup", "cgroup2", 0, NULL)) fail("cgroup2");
  mkdir("/sys/fs/cgroup/known", 0755);
  mkdir("/sys/fs/cgroup/known/inner", 0755);
  static const char *const kGroups[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/known/inner"};
  for (u32 i = 0; i < 2; i++) {
    u32 key = i * 2;
    int group = open(kGroups[i], O_RDONLY | O_DIRECTORY);
    struct stat status;
    if (group < 0 || fstat(group, &status)) fail("%s", kGroups[i]);
    put_fd(fd, "k_cgroups", &key, &group);
    note("fact cgroup_%u %llu", key, (u64)status.st_ino);
  }
}

// Programs of one type, as all that a table of programs takes must be.
static void make_programs(void) {
  struct bpf_insn instructions[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1}, {.code = BPF_JMP | BPF_EXIT}};
  int fd = make_map(BPF_MAP_TYPE_PROG_ARRAY, "k_progs", 4, 4, 300, 0);
  for (u32 i = 0; i < 300; i += 123) {
    char name[16];
    snprintf(name, sizeof(name), "tail_%u", i);
    int program = bpf_prog_load(BPF_PROG_TYPE_SOCKET_FILTER, name, "GPL", instructions, COUNT(instructions), NULL);
    if (program < 0) fail("load of %s", name);
    put_fd(fd, "k_progs", &i, &program);
  }
}

// Where instructions went: three of a program are looked for, one of which is gone when it is loaded.
static void make_instructions(void) {
  enum { kType = 34, kFdArrayCount = 0x94, kAttributes = 0xa8 };  // BPF_MAP_TYPE_INSN_ARRAY; attr.fd_array_cnt, its place
  struct bpf_insn instructions[] = {
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1},
      {.code = BPF_JMP | BPF_JA, .off = 0},
      {.code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = BPF_REG_0, .imm = 2},
      {.code = BPF_JMP | BPF_EXIT},
  };
  static const u32 kPlaces[] = {0, 2, 3};
  int fd = make_map(kType, "k_insns", 4, 16, COUNT(kPlaces), 0);
  if (fd < 0) return;
  for (u32 i = 0; i < COUNT(kPlaces); i++) {
    u32 value[4] = {kPlaces[i]};
    put_fd(fd, "k_insns", &i, value);
  }
  if (bpf_map_freeze(fd)) fail("freeze of k_insns");
  union {
    union bpf_attr known;
    u8 bytes[kAttributes];
  } attributes;
  memset(&attributes, 0, sizeof(attributes));
  attributes.known.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
  attributes.known.insns = (u64)(unsigned long)instructions;
  attributes.known.insn_cnt = COUNT(instructions);
  attributes.known.license = (u64)(unsigned long)"GPL";
  strcpy(attributes.known.prog_name, "with_insns");
  attributes.known.fd_array = (u64)(unsigned long)&fd;
  u32 one = 1;
  memcpy(attributes.bytes + kFdArrayCount, &one, sizeof(one));
  if (syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof(attributes)) < 0) fail("load of with_insns");
}

void make_tables(void) {
  size_t size;
  const void *bytes = tables_bpf__elf_bytes(&size);
  struct bpf_object *object = load_object("tables", bytes, size, NULL);
  fill_big(object, "big_hash");
  fill_big(object, "big_hash_np");
  fill_big(object, "big_lru");
  fill_prefixes(object);
  fill_maps_of_maps(object);
  fill_rhash(object);
  make_perf_events();
  make_cgroups();
  make_programs();
  make_instructions();
}
