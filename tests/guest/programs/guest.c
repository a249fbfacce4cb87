// The guest's one program: creates BPF maps whose contents the tests know, loads and runs BPF programs, starts tasks
// that keep the run queues filled in a known way, says "GUEST READY" on the console, and then holds it all.
//
// Maps and programs whose names begin with "live_" (and the section ".bss" of progs.bpf.c) change for ever; everything
// else stays as it was at GUEST READY. A failure ends the program with a line that says what failed.
//
// What a kernel or an architecture may lack is asked of the kernel itself, and what it refuses is left out: what there
// is beside the rest stands in /run/guest/made, a line each: see note() in guest.h. The parts that main() calls last, a file
// each, make maps of every type that there is and links of every type.
#define _GNU_SOURCE
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

#include "maps.skel.h"
#include "progs.skel.h"

enum { kHostnameCalls = 7, kDomainCalls = 5, kFunctionRuns = 50, kRunsPerCpu = 100 };

static void fill_types(struct maps_bpf *maps) {
  struct ints low = {.plain = 'c',
                     .small_signed = -128,
                     .small_unsigned = 255,
                     .yes = 1,
                     .half_signed = -32768,
                     .half_unsigned = 65535,
                     .word_signed = -2147483647 - 1,
                     .word_unsigned = 4294967295u,
                     .long_signed = (-9223372036854775807L - 1),
                     .long_unsigned = 18446744073709551615ul,
                     .wide_signed = -1,
                     .wide_unsigned = 9007199254740993ull};  // the first integer that a double cannot hold
  struct ints high = {.plain = 1, .small_signed = 127, .half_signed = 32767, .word_signed = 2147483647,
                      .wide_signed = 9223372036854775807LL, .no = 1};
  put_indexed(maps->maps.t_ints, 0, &low);
  put_indexed(maps->maps.t_ints, 1, &high);  // [2] stays zero

  struct int128s huge = {.huge_signed = -2, .huge_unsigned = ((unsigned __int128)0x0123456789abcdefULL << 64) | 0xfedcba9876543210ULL};
  struct int128s small = {.huge_signed = 5, .huge_unsigned = 6};
  put_indexed(maps->maps.t_int128, 1, &huge);
  put_indexed(maps->maps.t_int128, 2, &small);

  struct enums enums = {COLOR_GREEN, COLOR_BLUE, (enum color)77, FLAG_HIGH, WIDE_MINUS, WIDE_BIG};
  put_indexed(maps->maps.t_enums, 0, &enums);

  struct nested nested;
  memset(&nested, 0, sizeof(nested));
  nested.first = (struct point){-1, 2};
  nested.named.id = 7;
  nested.named.inner = (struct point){3, -4};
  nested.as_word = 0x04030201;
  nested.before = 9;
  nested.after_padding = 10;
  nested.number.whole = 0x0000000200000001ULL;
  nested.corner = (struct point){5, 6};
  put_indexed(maps->maps.t_nested, 1, &nested);

  struct arrays arrays = {.line = {1, 2, 65535},
                          .grid = {{1, 2, 3}, {4, 5, 6}},
                          .points = {{1, -1}, {2, -2}},
                          .text = "hello",
                          .full = {'f', 'u', 'l', 'l'},
                          .binary = {1, 0, 2, 0, (char)0xff, 0, 'x', 0},
                          .latin = {'c', 'a', 'f', (char)0xe9, 0},
                          .quotes = "a\"b\\c\n\t/",
                          .lines = {"one", "two"},
                          .numbers = {-1, 0, 1}};
  put_indexed(maps->maps.t_arrays, 0, &arrays);

  struct pointers pointers = {NULL, (const void *)0xffff888000000010UL, (struct point *)0x1000UL,
                              (void (*)(int))0xffffffff81000000UL};
  put_indexed(maps->maps.t_pointers, 0, &pointers);

  struct bits bits = {.one = 1, .three = 5, .crossing = 0x1abc & 0x1fff, .minus = -9, .plus = 63,
                      .forty = 0xa987654321ULL, .low = -300000, .tail = 2, .color = COLOR_GREEN, .flag = 1};
  struct bits full;
  memset(&full, 0xff, sizeof(full));
  put_indexed(maps->maps.t_bits, 0, &bits);
  put_indexed(maps->maps.t_bits, 1, &full);

  struct mixed mixed = {.constant = 11, .unstable = 12, .odd = {1, 2, 3, 4, 5}};
  put_indexed(maps->maps.t_mixed, 1, &mixed);
  s32 scalars[] = {-1, 0, 1, 2147483647};
  for (u32 i = 0; i < 4; i++) put_indexed(maps->maps.t_scalar, i, &scalars[i]);
  enum color colors[] = {COLOR_RED, COLOR_GREEN, COLOR_BLUE};
  for (int i = 0; i < 3; i++) put(maps->maps.t_enum, &colors[i], &colors[(i + 1) % 3]);
  corner_t corner = {-10, 20};
  put_indexed(maps->maps.t_typedef, 1, &corner);
  u64 text_key = 0x100000001ULL;
  put(maps->maps.t_text, &text_key, "twelve bytes");
  struct key_pair pair = {.cpu = 1, .port = 65535, .proto = 6};
  u32 pair_value = 99;
  put(maps->maps.t_key_pair, &pair, &pair_value);
  pair.proto = 17;
  put(maps->maps.t_key_pair, &pair, &pair_value);
  char text[16] = "eth0";
  u64 one = 1;
  put(maps->maps.t_key_text, text, &one);
  struct real real = {1.5f, -0.25};
  put_indexed(maps->maps.t_real, 0, &real);
}

static void fill_kinds(struct maps_bpf *maps) {
  for (u32 i = 0; i < 16; i++) {
    u64 value = (u64)i * i * 0x100000001ULL;
    put_indexed(maps->maps.b_array, i, &value);
    put_indexed(maps->maps.b_mmap, i, &value);
  }
  for (u32 i = 0; i < 40; i++) {
    u32 key = i * 2654435761u;
    u64 value = i;
    put(maps->maps.b_hash, &key, &value);
    put(maps->maps.b_hash_np, &key, &value);
    put(maps->maps.b_lru, &key, &value);
    put(maps->maps.b_lru_nocommon, &key, &value);
    put_per_cpu(bpf_map__fd(maps->maps.b_lru_pcpu), "b_lru_pcpu", &key, sizeof(u64), i);
  }
  for (u32 i = 0; i < 5; i++) put_per_cpu(bpf_map__fd(maps->maps.b_pcpu_array), "b_pcpu_array", &i, sizeof(u64), i);
  struct counter *counters = per_cpu_buffer(sizeof(struct counter));
  for (u32 i = 0; i < 20; i++) {
    for (int cpu = 0; cpu < possible_cpus; cpu++) {
      counters[cpu] = (struct counter){.events = i * 1000 + (u32)cpu, .last_pid = i};
      snprintf(counters[cpu].comm, sizeof(counters[cpu].comm), "task-%u/%u", i % 100, (u32)cpu % 100);
    }
    put(maps->maps.b_pcpu_hash, &i, counters);
    put(maps->maps.b_pcpu_hash_np, &i, counters);
  }
  free(counters);
}

static void fill_sizes(struct maps_bpf *maps) {
  for (u32 i = 0; i < 100; i++) put_indexed(maps->maps.s_full, i, &i);
  for (u32 i = 0; i < 200; i++) put_indexed(maps->maps.s_deleted, i, &i);
  for (u32 i = 0; i < 200; i += 3)
    if (bpf_map_delete_elem(bpf_map__fd(maps->maps.s_deleted), &i)) fail("delete from s_deleted");
  for (u32 i = 0; i < 10000; i++) {
    u64 wide = (u64)i << 20;
    put_indexed(maps->maps.s_many, i, &wide);
    put(maps->maps.s_many_np, &wide, &i);
  }
  static struct big_value big;
  for (u32 i = 0; i < 64; i++) {
    big.index = i;
    pattern(big.body, sizeof(big.body), i);
    if (i < 10) put_indexed(maps->maps.s_big_value, i, &big);
    put_indexed(maps->maps.s_big_array, i, &big);
  }
  for (u32 i = 0; i < 4; i++) {
    u32 value = i + 100;
    put_indexed(maps->maps.frozen, i, &value);
  }
  if (bpf_map_freeze(bpf_map__fd(maps->maps.frozen))) fail("freeze");
}

static bool is_per_cpu(enum bpf_map_type type) {
  return type == BPF_MAP_TYPE_PERCPU_ARRAY || type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_LRU_PERCPU_HASH;
}

struct plain_map {  // a map without BTF
  enum bpf_map_type type;
  const char *name;
  u32 key_size, value_size, max_entries, flags;
  u32 fill;  // how many elements; an array's others stay zero
};

static const struct plain_map kPlainMaps[] = {
    {BPF_MAP_TYPE_ARRAY, "p_array_1", 4, 1, 9, 0, 9},
    {BPF_MAP_TYPE_ARRAY, "p_array_3", 4, 3, 9, 0, 9},
    {BPF_MAP_TYPE_ARRAY, "p_array_5", 4, 5, 9, 0, 4},
    {BPF_MAP_TYPE_ARRAY, "p_array_12", 4, 12, 9, 0, 9},
    {BPF_MAP_TYPE_ARRAY, "p_array_33", 4, 33, 300, 0, 300},
    {BPF_MAP_TYPE_ARRAY, "p_array_mmap", 4, 24, 200, BPF_F_MMAPABLE, 200},
    {BPF_MAP_TYPE_ARRAY, "p_array_big", 4, 1000, 2500, 0, 2500},  // 2.5 MB, scattered over physical memory
    {BPF_MAP_TYPE_ARRAY, "p_array_wide", 4, 70000, 2, 0, 2},
    {BPF_MAP_TYPE_HASH, "p_hash_1_1", 1, 1, 64, 0, 64},
    {BPF_MAP_TYPE_HASH, "p_hash_3_5", 3, 5, 64, 0, 30},
    {BPF_MAP_TYPE_HASH, "p_hash_13_33", 13, 33, 64, BPF_F_NO_PREALLOC, 30},
    {BPF_MAP_TYPE_HASH, "p_hash_40_5000", 40, 5000, 8, BPF_F_NO_PREALLOC, 8},
    {BPF_MAP_TYPE_HASH, "p_hash_seed", 4, 4, 64, BPF_F_ZERO_SEED, 30},
    {BPF_MAP_TYPE_PERCPU_ARRAY, "p_pcpu_arr_1", 4, 1, 3, 0, 3},
    {BPF_MAP_TYPE_PERCPU_ARRAY, "p_pcpu_arr_12", 4, 12, 3, 0, 3},
    {BPF_MAP_TYPE_PERCPU_ARRAY, "p_pcpu_arr_big", 4, 20000, 2, 0, 2},
    {BPF_MAP_TYPE_PERCPU_HASH, "p_pcpu_hash", 5, 3, 32, 0, 20},
    {BPF_MAP_TYPE_PERCPU_HASH, "p_pcpu_hash_np", 12, 33, 32, BPF_F_NO_PREALLOC, 20},
    {BPF_MAP_TYPE_LRU_HASH, "p_lru", 5, 12, 256, 0, 40},
    {BPF_MAP_TYPE_LRU_PERCPU_HASH, "p_lru_pcpu", 8, 3, 256, BPF_F_NO_COMMON_LRU, 40},
    {BPF_MAP_TYPE_HASH, "same_name", 4, 4, 4, 0, 1},
    {BPF_MAP_TYPE_HASH, "same_name", 4, 8, 4, 0, 2},
    {BPF_MAP_TYPE_HASH, "", 4, 4, 4, 0, 1},  // a map may have no name
    // Listed only: filled elsewhere or not at all.
    {BPF_MAP_TYPE_STACK, "p_stack", 0, 8, 4, 0, 0},
    {BPF_MAP_TYPE_BLOOM_FILTER, "p_bloom", 0, 8, 16, 0, 0},
    {BPF_MAP_TYPE_STACK_TRACE, "p_stacks", 4, 80, 16, 0, 0},
    {BPF_MAP_TYPE_PERF_EVENT_ARRAY, "p_perf", 4, 4, 4, 0, 0},
};

static void make_plain_maps(void) {
  u8 key[64], value[70016];
  for (size_t i = 0; i < sizeof(kPlainMaps) / sizeof(*kPlainMaps); i++) {
    const struct plain_map *map = &kPlainMaps[i];
    if (libbpf_probe_bpf_map_type(map->type, NULL) == 0) continue;
    if (map->fill == 0) note("map %s", map->name);
    LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = map->flags);
    int fd = bpf_map_create(map->type, *map->name ? map->name : NULL, map->key_size, map->value_size, map->max_entries, &options);
    if (fd < 0) fail("creation of %s", map->name);
    bool by_index = map->type == BPF_MAP_TYPE_ARRAY || map->type == BPF_MAP_TYPE_PERCPU_ARRAY;
    for (u32 n = 0; n < map->fill; n++) {
      pattern(key, sizeof(key), n);
      if (map->key_size == 1) key[0] = (u8)(n * 4);
      if (by_index) memcpy(key, &n, sizeof(n));
      if (is_per_cpu(map->type)) {
        put_per_cpu(fd, map->name, key, map->value_size, n);
      } else {
        pattern(value, map->value_size, n + 3);
        put_fd(fd, map->name, key, value);
      }
    }
  }
}

static void test_run(struct bpf_program *program, int times) {
  u8 packet[64] = {0};
  run_program(bpf_program__fd(program), bpf_program__name(program), packet, sizeof(packet), times);
}

static void run_programs(struct progs_bpf *progs, int online) {
  cpu_set_t all;
  sched_getaffinity(0, sizeof(all), &all);
  for (int cpu = 0; cpu < online; cpu++) {
    on_cpu(cpu);
    test_run(progs->progs.run_exactly, kRunsPerCpu * (cpu + 1));
  }
  sched_setaffinity(0, sizeof(all), &all);
  test_run(progs->progs.with_functions, kFunctionRuns);
  test_run(progs->progs.write_records, 3);
  for (int i = 0; i < kHostnameCalls; i++)
    if (sethostname("guest", 5)) fail("sethostname");
  for (int i = 0; i < kDomainCalls; i++)
    if (setdomainname("test", 4)) fail("setdomainname");
}

static void fill_others(struct progs_bpf *progs) {
  u32 zero = 0, three = 3;
  int with_functions = bpf_program__fd(progs->progs.with_functions), run_exactly = bpf_program__fd(progs->progs.run_exactly);
  put(progs->maps.tail_calls, &zero, &with_functions);
  put(progs->maps.tail_calls, &three, &run_exactly);
  for (u32 i = 0; i < 3; i++) {
    u32 value = 100 + i;
    if (bpf_map_update_elem(bpf_map__fd(progs->maps.queue), NULL, &value, BPF_ANY)) fail("push to queue");
    put(progs->maps.inner_one, &i, &value);
  }
  struct {
    u32 bits;
    u8 address[4];
  } route = {24, {10, 1, 2, 0}};
  u64 hop = 7;
  put(progs->maps.routes, &route, &hop);
  route.bits = 8;
  put(progs->maps.routes, &route, &hop);
}

// A program and a map that belong to user 1000: the kernel records the real user id of whoever loads.
static void load_as_user(void) {
  struct bpf_insn instructions[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1}, {.code = BPF_JMP | BPF_EXIT}};
  if (setreuid(1000, 0)) fail("setreuid");
  int fd = bpf_prog_load(BPF_PROG_TYPE_SOCKET_FILTER, "owned_by_1000", "GPL", instructions, 2, NULL);
  if (fd < 0) fail("load as user 1000");
  if (setreuid(0, 0)) fail("setreuid back");
}

// With "only", everything but that program is left out.
static struct progs_bpf *open_programs(const char *only) {
  struct progs_bpf *progs = progs_bpf__open();
  if (!progs) fail("programs");
  bpf_program__set_attach_target(progs->progs.on_sethostname, 0, SYSTEM_CALL "sethostname");
  struct bpf_program *program;
  bpf_object__for_each_program(program, progs->obj) {
    if (only) bpf_program__set_autoload(program, strcmp(bpf_program__name(program), only) == 0);
  }
  return progs;
}

static bool loads_alone(const char *name) {
  struct progs_bpf *progs = open_programs(name);
  int status = progs_bpf__load(progs);
  progs_bpf__destroy(progs);
  return status == 0;
}

static struct progs_bpf *load_without(const char *const *optional, size_t count) {
  struct progs_bpf *progs = open_programs(NULL);
  for (size_t i = 0; i < count; i++)
    if (!loads_alone(optional[i])) bpf_program__set_autoload(bpf_object__find_program_by_name(progs->obj, optional[i]), false);
  if (progs_bpf__load(progs)) fail("programs");
  return progs;
}

// Attaches a program that not every kernel and architecture can attach, when it was loaded.
static void attach_if_possible(struct bpf_program *program, struct bpf_link **link) {
  enum { kNotSupported = 524 };  // the kernel's ENOTSUPP, which C libraries do not have
  if (!bpf_program__autoload(program)) return;
  *link = bpf_program__attach(program);
  if (*link) {
    note("attached %s", bpf_program__name(program));
  } else if (errno != kNotSupported && errno != EOPNOTSUPP) {
    fail("attach of %s", bpf_program__name(program));
  }
}

static struct progs_bpf *load_programs(int online) {
  static const char *const kOptional[] = {"on_sethostname", "on_setdomain"};
  struct progs_bpf *progs = open_programs(NULL);
  if (progs_bpf__load(progs)) {
    progs_bpf__destroy(progs);
    progs = load_without(kOptional, sizeof(kOptional) / sizeof(*kOptional));
  }
  fill_others(progs);
  // Attached one by one: never_run, and those for BPF_PROG_TEST_RUN, stay loose.
  attach_if_possible(progs->progs.on_sethostname, &progs->links.on_sethostname);
  attach_if_possible(progs->progs.on_setdomain, &progs->links.on_setdomain);
  run_programs(progs, online);
  progs->links.on_switch = bpf_program__attach(progs->progs.on_switch);
  if (!progs->links.on_switch) fail("attach of on_switch");
  return progs;
}

// Kinds of types that the kernel may not know yet. libbpf replaces them, in what it loads for the maps, by others of the
// same size.
static void note_btf_kinds(void) {
  struct btf *with_float = btf__new_empty(), *with_enum64 = btf__new_empty();
  if (!with_float || !with_enum64) fail("empty BTF");
  libbpf_print_fn_t print = libbpf_set_print(NULL);
  btf__add_float(with_float, "double", 8);
  btf__add_enum64(with_enum64, "wide", 8, false);
  btf__add_enum64_value(with_enum64, "WIDE_BIG", 1ULL << 40);
  if (btf__load_into_kernel(with_float) == 0) note("btf float");
  if (btf__load_into_kernel(with_enum64) == 0) note("btf enum64");
  libbpf_set_print(print);
  btf__free(with_float);
  btf__free(with_enum64);
}

// Starts a task of a known name; its pid goes to /run/tasks/NAME, through which the command `busy` stops and continues it.
static void start_task(const char *name, int cpu, int nice_value, int fifo_priority, void (*body)(void *), void *argument) {
  fflush(stdout);
  pid_t pid = fork();
  if (pid < 0) fail("fork of %s", name);
  if (pid) {
    char path[64];
    snprintf(path, sizeof(path), "/run/tasks/%s", name);
    write_pid(path, pid);
    return;
  }
  prctl(PR_SET_NAME, name);
  if (cpu >= 0) on_cpu(cpu);
  if (nice_value && setpriority(PRIO_PROCESS, 0, nice_value)) fail("nice");
  struct sched_param parameter = {.sched_priority = fifo_priority};
  if (fifo_priority && sched_setscheduler(0, SCHED_FIFO, &parameter)) fail("SCHED_FIFO");
  body(argument);
  _exit(1);
}

static void spin(void *unused) {
  (void)unused;
  for (volatile unsigned long turns = 0;; turns++) {
  }
}

static void doze(void *interval_ms) {
  long milliseconds = (long)interval_ms;
  struct timespec pause = {milliseconds / 1000, milliseconds % 1000 * 1000000};
  for (;;) nanosleep(&pause, NULL);
}

// Adds 1 to every element of live_wave, in order, for ever: at any one instant the map is a run of n + 1 followed by a
// run of n. A read that is not of one instant breaks that.
static void wave(void *map) {
  volatile u64 *elements = mmap(NULL, 4096 * sizeof(u64), PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);
  if (elements == MAP_FAILED) fail("mmap of live_wave");
  for (u64 round = 1;; round++)
    for (int i = 0; i < 4096; i++) elements[i] = round;
}

// Deletes the oldest key of live_churn and adds a new one, for ever: at any instant it has 63 or 64 consecutive keys,
// and each value is its key times 3.
static void churn(void *map) {
  int fd = bpf_map__fd(map);
  struct timespec pause = {0, 200000};
  for (u32 next = 0;; next++) {
    u32 value = next * 3, oldest = next - 64;
    if (next >= 64 && bpf_map_delete_elem(fd, &oldest)) fail("delete from live_churn");
    put_fd(fd, "live_churn", &next, &value);
    if (next >= 64) nanosleep(&pause, NULL);
  }
}

static void start_tasks(struct progs_bpf *progs, int online) {
  char name[16];
  mkdir("/run/tasks", 0755);
  for (int cpu = 0; cpu < online; cpu++) {
    snprintf(name, sizeof(name), "busy-%d", cpu);
    start_task(name, cpu, 0, 0, spin, NULL);
  }
  start_task("nice-0", 0, 10, 0, spin, NULL);
  start_task("wave", online - 1, 5, 0, wave, progs->maps.live_wave);
  start_task("churn", -1, 0, 0, churn, progs->maps.live_churn);
  start_task("fifo", 0, 0, 50, doze, (void *)20L);
  start_task("sleeper", -1, 0, 0, doze, (void *)3600000L);
}

int main(int count, char **words) {
  if (count > 2 && strcmp(words[1], "code") == 0) return print_code(count - 2, words + 2);
  if (count == 2 && strcmp(words[1], "large") == 0) return make_large();
  if (count == 2 && strcmp(words[1], "changing") == 0) return make_changing();
  if (count == 3 && strcmp(words[1], "scx") == 0) return run_scheduler(words[2]);
  setvbuf(stdout, NULL, _IOLBF, 0);
  possible_cpus = libbpf_num_possible_cpus();
  int online = (int)sysconf(_SC_NPROCESSORS_ONLN);
  if (possible_cpus < 1) fail("%d possible CPUs", possible_cpus);
  mkdir("/run/guest", 0755);
  note_btf_kinds();
  struct maps_bpf *maps = maps_bpf__open_and_load();
  if (!maps) fail("maps");
  fill_types(maps);
  fill_kinds(maps);
  fill_sizes(maps);
  make_plain_maps();
  load_as_user();
  struct progs_bpf *progs = load_programs(online);
  make_typed();
  make_special();
  make_tables();
  make_buffers();
  make_network();
  fill_handlers();
  make_stacks();
  make_storage();
  make_arena();
  make_links();
  start_tasks(progs, online);
  write_pid("/run/guest.pid", getpid());
  printf("GUEST READY\n");
  for (;;) pause();
}
