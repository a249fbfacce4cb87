// guest changing: maps that never stay as they are, changed on every CPU as fast as it goes, by processes of one group.
//
// Each value tells by itself whether it is whole: see changing.h. Of hash tables and the like, keys below kResident are written once and
// stay; the others come in a rush until the table is full, and go again. "c_static" never changes; "c_progress" has the turns of each
// process. A failure ends the process with a line on standard error.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "changing.h"
#include "guest.h"

#include "changing.skel.h"

enum {
  kResident = 128,    // keys that stay
  kComing = 1536,     // those that come and go, from there on
  kWideWords = 375,   // 3000 bytes: elements of no page size, some of which lie across pages
  kMaxWriters = 64,   // online CPUs; numbers in changing.bpf.c has as many
  kMapTypeRhash = 35,
};

static void fill_words(u64 *words, u32 count, u64 key, u64 number) {
  for (u32 i = 0; i < count; i++) words[i] = word_of(key, number, i);
}

// A map whose keys are numbers, or prefixes made of them.
struct table {
  u32 type;
  const char *name;
  u32 words, room, flags;
  u32 coming;  // how many come and go
  int fd;
};

// Room for any element: a value for each possible CPU, or the widest one.
static u64 *element_buffer(void) {
  u32 words = (u32)possible_cpus * kValueWords;
  u64 *buffer = calloc(words > kWideWords ? words : kWideWords, sizeof(u64));
  if (!buffer) fail("out of memory");
  return buffer;
}

static struct table tables[] = {
    {.type = BPF_MAP_TYPE_HASH, .name = "c_hash", .words = kValueWords, .room = 2048, .coming = kComing},
    {.type = BPF_MAP_TYPE_HASH, .name = "c_hash_np", .words = kValueWords, .room = 2048, .flags = BPF_F_NO_PREALLOC, .coming = kComing},
    {.type = BPF_MAP_TYPE_HASH, .name = "c_wide", .words = kWideWords, .room = 256, .flags = BPF_F_NO_PREALLOC, .coming = 64},
    {.type = BPF_MAP_TYPE_PERCPU_HASH, .name = "c_pcpu", .words = kValueWords, .room = 1024, .flags = BPF_F_NO_PREALLOC, .coming = 512},
    // Less room than keys: the kernel makes some, of whatever it likes.
    {.type = BPF_MAP_TYPE_LRU_HASH, .name = "c_lru", .words = kValueWords, .room = 1024, .coming = 4096},
    {.type = BPF_MAP_TYPE_LPM_TRIE, .name = "c_lpm", .words = kValueWords, .room = 1024, .flags = BPF_F_NO_PREALLOC, .coming = 512},
    // Grows and shrinks with its elements.
    {.type = kMapTypeRhash, .name = "c_rhash", .words = kValueWords, .room = 4096, .flags = BPF_F_NO_PREALLOC, .coming = 2048},
};

struct prefix {
  u32 bits;
  u8 address[4];
};

// The key's bytes. A prefix has 24 to 32 bits of which the first 24 are the key's own.
static const void *key_of(const struct table *table, u32 key) {
  static struct prefix prefix;
  static u32 number;
  if (table->type != BPF_MAP_TYPE_LPM_TRIE) {
    number = key;
    return &number;
  }
  prefix = (struct prefix){.bits = 24 + key % 9, .address = {10, (u8)(key >> 8), (u8)key, 0}};
  return &prefix;
}

static void write_key(const struct table *table, u32 key, u64 number) {
  static u64 *words;
  if (!words) words = element_buffer();
  int copies = table->type == BPF_MAP_TYPE_PERCPU_HASH ? possible_cpus : 1;
  // The kernel writes into an element's own values where there is one for each CPU, a word at a time: at an instant they are not whole.
  if (copies != 1 && number > 1) bpf_map_delete_elem(table->fd, key_of(table, key));
  for (int i = 0; i < copies; i++) fill_words(words + (u32)i * table->words, table->words, key, number);
  // A table that is full, memory that is short for a moment, or an element that somebody else changes now: next time.
  if (bpf_map_update_elem(table->fd, key_of(table, key), words, BPF_ANY) && errno != E2BIG && errno != ENOMEM && errno != EBUSY &&
      errno != ENOSPC)
    fail("update of %s", table->name);
}

static void write_staying(const struct table *table, u32 key) {
  static u64 *ignored;
  if (!ignored) ignored = element_buffer();
  for (int tries = 0; tries < 500; tries++) {
    write_key(table, key, 1);
    if (bpf_map_lookup_elem(table->fd, key_of(table, key), ignored) == 0) return;
    usleep(10000);
  }
  fail("key %u of %s", key, table->name);
}

static void make_tables_that_change(void) {
  for (size_t i = 0; i < COUNT(tables); i++) {
    struct table *table = &tables[i];
    LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = table->flags);
    u32 key_size = table->type == BPF_MAP_TYPE_LPM_TRIE ? sizeof(struct prefix) : sizeof(u32);
    table->fd = bpf_map_create((enum bpf_map_type)table->type, table->name, key_size, table->words * 8, table->room, &options);
    if (table->fd < 0 && table->type == kMapTypeRhash) continue;
    if (table->fd < 0) fail("creation of %s", table->name);
    // Of an LRU nothing stays for sure.
    for (u32 key = 0; table->type != BPF_MAP_TYPE_LRU_HASH && key < kResident; key++) write_staying(table, key);
  }
}

// Some of this process's own keys: written, written again, or deleted, as the round says.
static void change_table(const struct table *table, u32 first, u32 step, u64 round, u64 number) {
  enum { kAtOnce = 24 };
  if (table->fd < 0) return;
  u64 turns = (table->coming / step + kAtOnce - 1) / kAtOnce;  // until all keys had their turn
  u32 from = (u32)(round % turns) * kAtOnce;
  for (u32 i = from; i < from + kAtOnce; i++) {
    u32 key = kResident + first + i * step;
    if (first + i * step >= table->coming) return;
    if (round / turns % 3 == 2) {
      bpf_map_delete_elem(table->fd, key_of(table, key));
    } else {
      write_key(table, key, number);
    }
  }
}

static int queue, stack, outer, progress, array;
static struct changing_bpf *ring;

static int made(int fd, const char *name) {
  if (fd < 0) fail("creation of %s", name);
  return fd;
}

static int make_inner(void) {
  return made(bpf_map_create(BPF_MAP_TYPE_HASH, "c_inner", 4, kValueWords * 8, 16, NULL), "c_inner");
}

static void make_others(void) {
  u32 size = kValueWords * 8;
  queue = made(bpf_map_create(BPF_MAP_TYPE_QUEUE, "c_queue", 0, size, 300, NULL), "c_queue");
  stack = made(bpf_map_create(BPF_MAP_TYPE_STACK, "c_stack", 0, size, 300, NULL), "c_stack");
  array = made(bpf_map_create(BPF_MAP_TYPE_ARRAY, "c_array", 4, 8, 4096, NULL), "c_array");
  progress = made(bpf_map_create(BPF_MAP_TYPE_ARRAY, "c_progress", 4, 8, kMaxWriters, NULL), "c_progress");
  LIBBPF_OPTS(bpf_map_create_opts, options, .inner_map_fd = (u32)make_inner());
  outer = made(bpf_map_create(BPF_MAP_TYPE_HASH_OF_MAPS, "c_outer", 4, 4, 64, &options), "c_outer");
  ring = changing_bpf__open_and_load();
  if (!ring) fail("c_ring");
  struct table fixed = {.name = "c_static", .words = kValueWords};
  fixed.fd = made(bpf_map_create(BPF_MAP_TYPE_HASH, "c_static", 4, size, 2000, NULL), "c_static");
  for (u32 key = 0; key < 2000; key++) write_staying(&fixed, key);
}

static void change_buffers(u32 writer, u64 number) {
  u64 words[kValueWords];
  for (u32 i = 0; i < 8; i++) {
    fill_words(words, kValueWords, writer, number * 8 + i);
    bpf_map_update_elem(queue, NULL, words, BPF_ANY);
    bpf_map_update_elem(stack, NULL, words, i % 2 ? BPF_EXIST : BPF_ANY);
  }
  for (u32 i = 0; i < 6 + number % 4; i++) {
    bpf_map_lookup_and_delete_elem(queue, NULL, words);
    bpf_map_lookup_and_delete_elem(stack, NULL, words);
  }
  for (u32 i = 0; i < 64; i++) {
    u32 index = (u32)(number * 64 + i) % 4096;
    u64 word = word_of(index, number, 0);
    bpf_map_update_elem(array, &index, &word, BPF_ANY);
  }
}

// A map that is there for a moment, beside others and inside of another one.
static void change_maps(u32 writer, u64 number) {
  u64 words[kValueWords];
  int inner = make_inner();
  for (u32 key = 0; key < 8; key++) {
    fill_words(words, kValueWords, key, number);
    bpf_map_update_elem(inner, &key, words, BPF_ANY);
  }
  u32 place = writer + (u32)(number % 4) * 16;
  bpf_map_update_elem(outer, &place, &inner, BPF_ANY);
  place = writer + (u32)((number + 1) % 4) * 16;
  bpf_map_delete_elem(outer, &place);
  close(inner);
}

static int forget(void *context, void *data, size_t size) {
  (void)context, (void)data, (void)size;
  return 0;
}

static void change_for_ever(u32 writer, u32 writers) {
  on_cpu((int)writer);
  u8 packet[64];
  memset(packet, (int)writer, sizeof(packet));  // a program of its type does not see what stands before the network's header
  struct ring_buffer *reader = NULL;
  if (writer == 0) reader = ring_buffer__new(bpf_map__fd(ring->maps.c_ring), forget, NULL, NULL);
  if (writer == 0 && !reader) fail("reader of c_ring");
  for (u64 round = 0;; round++) {
    u64 number = round * writers + writer + 2;
    for (size_t i = 0; i < COUNT(tables); i++) change_table(&tables[i], writer, writers, round, number);
    change_buffers(writer, number);
    if (round % 4 == 0) change_maps(writer, number);
    run_program(bpf_program__fd(ring->progs.write_changing), "write_changing", packet, sizeof(packet), 20);
    if (reader && round % 3 == 0) ring_buffer__consume(reader);
    bpf_map_update_elem(progress, &writer, &round, BPF_ANY);
  }
}

int make_changing(void) {
  possible_cpus = libbpf_num_possible_cpus();
  u32 online = (u32)sysconf(_SC_NPROCESSORS_ONLN);
  if (possible_cpus < 1) fail("%d possible CPUs", possible_cpus);
  if (online > kMaxWriters) fail("%u online CPUs", online);
  make_tables_that_change();
  make_others();
  if (daemon(0, 1)) fail("daemon");
  for (u32 writer = 1; writer < online; writer++)
    if (fork() == 0) change_for_ever(writer, online);
  write_pid("/run/changing.pid", getpid());
  change_for_ever(0, online);
  return 1;
}
