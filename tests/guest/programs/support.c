// What the parts of the guest's program share: see guest.h.
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int possible_cpus;

void fail(const char *format, ...) {
  int error = errno;
  va_list arguments;
  va_start(arguments, format);
  printf("GUEST FAILED: ");
  vprintf(format, arguments);
  printf(": %s\n", strerror(error));
  va_end(arguments);
  exit(1);
}

void note(const char *format, ...) {
  static FILE *made;
  if (!made) made = fopen("/run/guest/made", "w");
  if (!made) fail("/run/guest/made");
  va_list arguments;
  va_start(arguments, format);
  vfprintf(made, format, arguments);
  va_end(arguments);
  fputc('\n', made);
  // Tasks are forked off: none may inherit what is not yet written.
  fflush(made);
}

void lacks(const char *name) { note("lacks %s: %s", name, strerror(errno)); }

void put_fd(int fd, const char *name, const void *key, const void *value) {
  // Before 6.1 an element that is not preallocated comes from what is free at once, and per CPU that is little: the kernel
  // gets more in the background.
  struct timespec pause = {0, 10000000};
  for (int tries = 0; bpf_map_update_elem(fd, key, value, BPF_ANY); tries++) {
    if (errno != ENOMEM || tries == 500) fail("update of %s", name);
    nanosleep(&pause, NULL);
  }
}

void put(struct bpf_map *map, const void *key, const void *value) { put_fd(bpf_map__fd(map), bpf_map__name(map), key, value); }

void put_indexed(struct bpf_map *map, u32 index, const void *value) { put(map, &index, value); }

void pattern(void *bytes, size_t size, u32 seed) {
  for (size_t i = 0; i < size; i++) ((u8 *)bytes)[i] = (u8)((seed * 31 + i * 7) % 251);
}

void *per_cpu_buffer(size_t value_size) {
  void *buffer = calloc((size_t)possible_cpus, (value_size + 7) & ~(size_t)7);
  if (!buffer) fail("out of memory");
  return buffer;
}

void put_per_cpu(int fd, const char *name, const void *key, size_t value_size, u32 seed) {
  size_t step = (value_size + 7) & ~(size_t)7;
  u8 *values = per_cpu_buffer(value_size);
  for (int cpu = 0; cpu < possible_cpus; cpu++) pattern(values + (size_t)cpu * step, value_size, seed + (u32)cpu * 1000);
  put_fd(fd, name, key, values);
  free(values);
}

int make_map_with(u32 type, const char *name, u32 key_size, u32 value_size, u32 max_entries, const struct bpf_map_create_opts *options) {
  int fd = bpf_map_create((enum bpf_map_type)type, name, key_size, value_size, max_entries, options);
  if (fd < 0) {
    lacks(name);
  } else {
    note("map %s", name);
  }
  return fd;
}

int make_map(u32 type, const char *name, u32 key_size, u32 value_size, u32 max_entries, u32 flags) {
  LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = flags);
  return make_map_with(type, name, key_size, value_size, max_entries, &options);
}

enum { kMaxParts = 64 };

// Which maps and programs of an object are to be made, by their place in it.
struct wanted {
  bool map[kMaxParts], program[kMaxParts];
};

static struct bpf_object *try_load(const char *name, const void *bytes, size_t size, void (*prepare)(struct bpf_object *),
                                   const struct wanted *wanted) {
  LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = name);
  struct bpf_object *object = bpf_object__open_mem(bytes, size, &options);
  if (!object) fail("open of %s", name);
  struct bpf_map *map;
  struct bpf_program *program;
  int place = 0;
  bpf_object__for_each_map(map, object) {
    if (place == kMaxParts) fail("too many maps in %s", name);
    if (!wanted->map[place++]) bpf_map__set_autocreate(map, false);
  }
  place = 0;
  bpf_object__for_each_program(program, object) {
    if (place == kMaxParts) fail("too many programs in %s", name);
    if (!wanted->program[place++]) bpf_program__set_autoload(program, false);
  }
  if (prepare) prepare(object);
  if (bpf_object__load(object) == 0) return object;
  int error = errno;
  bpf_object__close(object);
  errno = error;
  return NULL;
}

// Tries the parts one by one; gives those that the kernel has.
static struct wanted find_possible(const char *name, const void *bytes, size_t size, void (*prepare)(struct bpf_object *)) {
  struct wanted possible = {0};
  struct bpf_object *all = bpf_object__open_mem(bytes, size, NULL);
  if (!all) fail("open of %s", name);
  int place = 0;
  struct bpf_map *map;
  bpf_object__for_each_map(map, all) {
    struct wanted one = {0};
    one.map[place] = true;
    struct bpf_object *object = try_load(name, bytes, size, prepare, &one);
    possible.map[place++] = object;
    if (!object) lacks(bpf_map__name(map));
    bpf_object__close(object);
  }
  place = 0;
  struct bpf_program *program;
  bpf_object__for_each_program(program, all) {
    struct wanted one = possible;
    memset(one.program, 0, sizeof(one.program));
    one.program[place] = true;
    struct bpf_object *object = try_load(name, bytes, size, prepare, &one);
    if (!object) lacks(bpf_program__name(program));
    bpf_object__close(object);
    // After the others, so that each is tried with all maps and without other programs.
    possible.program[place++] = object;
  }
  bpf_object__close(all);
  return possible;
}

struct bpf_object *load_object(const char *name, const void *bytes, size_t size, void (*prepare)(struct bpf_object *)) {
  struct wanted wanted;
  memset(&wanted, true, sizeof(wanted));
  libbpf_print_fn_t print = libbpf_set_print(NULL);
  struct bpf_object *object = try_load(name, bytes, size, prepare, &wanted);
  if (!object) wanted = find_possible(name, bytes, size, prepare);
  libbpf_set_print(print);
  if (!object) object = try_load(name, bytes, size, prepare, &wanted);
  if (!object) fail("load of %s", name);
  struct bpf_map *map;
  struct bpf_program *program;
  bpf_object__for_each_map(map, object) if (bpf_map__fd(map) >= 0) note("map %s", bpf_map__name(map));
  bpf_object__for_each_program(program, object) if (bpf_program__fd(program) >= 0) note("prog %s", bpf_program__name(program));
  return object;
}

int map_of(const struct bpf_object *object, const char *name) {
  struct bpf_map *map = bpf_object__find_map_by_name(object, name);
  if (!map) fail("no map %s", name);
  return bpf_map__fd(map);
}

int prog_of(const struct bpf_object *object, const char *name) {
  struct bpf_program *program = bpf_object__find_program_by_name(object, name);
  if (!program) fail("no program %s", name);
  return bpf_program__fd(program);
}

void on_cpu(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof(set), &set)) fail("affinity to CPU %d", cpu);
}

u32 run_program(int fd, const char *name, const void *data, u32 size, int times) {
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = data, .data_size_in = size, .repeat = times);
  if (bpf_prog_test_run_opts(fd, &options)) fail("run of %s", name);
  return options.retval;
}

void write_pid(const char *path, pid_t pid) {
  FILE *file = fopen(path, "w");
  if (!file) fail("%s", path);
  fprintf(file, "%d\n", pid);
  fclose(file);
}
