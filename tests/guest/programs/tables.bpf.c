// Large maps, trees of prefixes, maps of maps and other tables, all with BTF, filled by tables.c.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "types.h"

#define TABLE(name_, type_, key_, value_, entries_, flags_) \
  struct {                                                  \
    __uint(type, type_);                                    \
    __uint(max_entries, entries_);                          \
    __uint(map_flags, flags_);                              \
    __type(key, key_);                                      \
    __type(value, value_);                                  \
  } name_ SEC(".maps")

struct prefix4 {
  u32 bits;
  u8 address[4];
};

struct prefix6 {
  u32 bits;
  u8 address[16];
};

struct route {
  u32 hop;
  char name[8];
};

// For answers in pages and for single elements.
TABLE(big_hash, BPF_MAP_TYPE_HASH, u64, u64, 20000, 0);
TABLE(big_hash_np, BPF_MAP_TYPE_HASH, u64, u64, 20000, BPF_F_NO_PREALLOC);
TABLE(big_lru, BPF_MAP_TYPE_LRU_HASH, u64, u64, 40000, 0);

TABLE(k_lpm4, BPF_MAP_TYPE_LPM_TRIE, struct prefix4, struct route, 32, BPF_F_NO_PREALLOC);
TABLE(k_lpm6, BPF_MAP_TYPE_LPM_TRIE, struct prefix6, u64, 32, BPF_F_NO_PREALLOC);
TABLE(k_rhash, 35 /* BPF_MAP_TYPE_RHASH */, u32, struct route, 1000, BPF_F_NO_PREALLOC);

struct inner_array {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 4);
  __type(key, u32);
  __type(value, u32);
};
struct inner_array k_inner_arr_a SEC(".maps"), k_inner_arr_b SEC(".maps");

struct inner_hash {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 16);
  __type(key, u32);
  __type(value, struct route);
};
struct inner_hash k_inner_hash_a SEC(".maps"), k_inner_hash_b SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, 6);
  __uint(key_size, 4);
  __array(values, struct inner_hash);
} k_outer_arr SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
  __uint(max_entries, 8);
  __uint(key_size, 8);
  __array(values, struct inner_array);
} k_outer_hash SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
  __uint(max_entries, 8);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(key_size, 5);
  __array(values, struct inner_hash);
} k_outer_np SEC(".maps");

char LICENSE[] SEC("license") = "GPL";
