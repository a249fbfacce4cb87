// Large maps, which only measurements need.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "large.h"

#define MAP(name_, type_, key_, value_, entries_) \
  struct {                                        \
    __uint(type, BPF_MAP_TYPE_##type_);           \
    __uint(max_entries, entries_);                \
    __type(key, key_);                            \
    __type(value, value_);                        \
  } name_ SEC(".maps")

MAP(large_hash, HASH, u64, struct sample, 100000);
MAP(huge_hash, HASH, u64, struct sample, 1000000);
MAP(large_array, ARRAY, u32, u64, 2 << 20);

char LICENSE[] SEC("license") = "GPL";
