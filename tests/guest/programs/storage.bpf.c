// Storage that belongs to something: to groups, sockets, tasks, files. storage.c makes the owners and writes most of it.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "types.h"

struct note {
  u64 number;
  char text[8];
};

#define STORAGE(name_, type_, key_)       \
  struct {                                \
    __uint(type, type_);                  \
    __uint(map_flags, BPF_F_NO_PREALLOC); \
    __type(key, key_);                    \
    __type(value, struct note);           \
  } name_ SEC(".maps")

STORAGE(k_sk_store, BPF_MAP_TYPE_SK_STORAGE, int);
STORAGE(k_task_store, BPF_MAP_TYPE_TASK_STORAGE, int);
STORAGE(k_inode_store, BPF_MAP_TYPE_INODE_STORAGE, int);
STORAGE(k_cgrp_store, 32 /* BPF_MAP_TYPE_CGRP_STORAGE */, int);

struct {
  __uint(type, BPF_MAP_TYPE_CGROUP_STORAGE);
  __type(key, struct bpf_cgroup_storage_key);
  __type(value, struct note);
} k_cg_store SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_CGROUP_STORAGE);
  __type(key, u64);
  __type(value, u64);
} k_cg_store_id SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE);
  __type(key, struct bpf_cgroup_storage_key);
  __type(value, struct note);
} k_cg_pcpu SEC(".maps");

// Counts packets that leave: a storage for each group and way of attaching.
SEC("cgroup_skb/egress")
int count_egress(struct __sk_buff *packet) {
  struct note *all = bpf_get_local_storage(&k_cg_store, 0), *here = bpf_get_local_storage(&k_cg_pcpu, 0);
  __sync_fetch_and_add(&all->number, 1);
  here->number += packet->len;
  __builtin_memcpy(all->text, "egress", 7);
  return 1;
}

// Another program, whose storage is one for each group, however it is attached.
SEC("cgroup_skb/ingress")
int count_ingress(struct __sk_buff *packet) {
  u64 *bytes = bpf_get_local_storage(&k_cg_store_id, 0);
  __sync_fetch_and_add(bytes, packet->len);
  return 1;
}

char LICENSE[] SEC("license") = "GPL";
