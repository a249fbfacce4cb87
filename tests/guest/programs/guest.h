// What the parts of the guest's program share. Each part makes maps or programs of one theme and keeps their descriptors open
// for as long as the program lives. fail() ends the program; what a kernel may lack is left out with lacks().
#ifndef GUEST_H
#define GUEST_H

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "types.h"

#ifdef __aarch64__
#define SYSTEM_CALL "__arm64_sys_"
#else
#define SYSTEM_CALL "__x64_sys_"
#endif

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

extern int possible_cpus;

void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

// A line of /run/guest/made: what there is ("map NAME", "link NAME", "attached NAME", "btf KIND") or what the tests compare with
// ("fact NAME VALUE").
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));

// The line "lacks NAME: REASON", the reason being errno's.
void lacks(const char *name);

// Updates that must succeed.
void put_fd(int fd, const char *name, const void *key, const void *value);
void put(struct bpf_map *map, const void *key, const void *value);
void put_indexed(struct bpf_map *map, u32 index, const void *value);
void put_per_cpu(int fd, const char *name, const void *key, size_t value_size, u32 seed);

// Fills bytes with a sequence that differs between places and repeats only after 251.
void pattern(void *bytes, size_t size, u32 seed);

// One value per possible CPU, each rounded up to 8 bytes, as the system call wants it.
void *per_cpu_buffer(size_t value_size);

// A map without BTF, noted as "map NAME"; -1 and a "lacks" when the kernel does not make it.
int make_map(u32 type, const char *name, u32 key_size, u32 value_size, u32 max_entries, u32 flags);
int make_map_with(u32 type, const char *name, u32 key_size, u32 value_size, u32 max_entries, const struct bpf_map_create_opts *options);

// An object file's maps and programs, loaded; those of them that the kernel refuses are left out, when the whole is refused.
// What is there is noted, "map NAME" or "prog NAME", what is not as a "lacks". prepare may be NULL; it runs before every load.
struct bpf_object *load_object(const char *name, const void *bytes, size_t size, void (*prepare)(struct bpf_object *));

// Of a loaded object: -1 when the kernel refused it.
int map_of(const struct bpf_object *object, const char *name);
int prog_of(const struct bpf_object *object, const char *name);

void on_cpu(int cpu);
// Gives what the program returned.
u32 run_program(int fd, const char *name, const void *data, u32 size, int times);
void write_pid(const char *path, pid_t pid);

// Not a part: what the program does when it is called as `guest code …`; gives the exit status.
int print_code(int count, char **words);
int make_large(void);
int make_changing(void);
int run_scheduler(const char *how);

// The parts.
void make_typed(void);
void fill_handlers(void);  // once modules are loaded
void make_special(void);
void make_tables(void);
void make_buffers(void);
void make_stacks(void);
void make_network(void);
void make_storage(void);
void make_arena(void);
void make_links(void);

#endif
