// Programs: some run for ever (their maps are the only ones here that change), some an exact number of times.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "types.h"

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, u32);
  __type(value, u64);
} live_switches SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 512);
  __type(key, u32);
  __type(value, struct counter);
} live_by_pid SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
  __uint(max_entries, 8);
  __uint(key_size, 4);
  __uint(value_size, 4);
} tail_calls SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 4096);
} records SEC(".maps");

struct inner {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 4);
  __type(key, u32);
  __type(value, u32);
};
struct inner inner_one SEC(".maps"), inner_two SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, 4);
  __uint(key_size, 4);
  __array(values, struct inner);
} outer_array SEC(".maps") = {.values = {&inner_one, 0, &inner_two}};

struct {
  __uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
  __uint(max_entries, 4);
  __uint(key_size, 4);
  __array(values, struct inner);
} outer_hash SEC(".maps") = {.values = {[1] = &inner_one}};

struct {
  __uint(type, BPF_MAP_TYPE_QUEUE);
  __uint(max_entries, 4);
  __uint(value_size, 4);
} queue SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __uint(max_entries, 8);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(key_size, 8);
  __uint(value_size, 8);
} routes SEC(".maps");

// Written by guest.c without end, see there.
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 4096);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, u32);
  __type(value, u64);
} live_wave SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 128);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, u32);
  __type(value, u32);
} live_churn SEC(".maps");

u64 live_total;

// Runs at every context switch.
SEC("raw_tp/sched_switch")
int on_switch(void *context) {
  (void)context;
  u32 zero = 0, pid = (u32)bpf_get_current_pid_tgid();
  u64 *count = bpf_map_lookup_elem(&live_switches, &zero);
  if (count) ++*count;
  struct counter *seen = bpf_map_lookup_elem(&live_by_pid, &pid);
  if (seen) {
    __sync_fetch_and_add(&seen->events, 1);
  } else {
    struct counter fresh = {.events = 1, .last_pid = pid};
    bpf_get_current_comm(fresh.comm, sizeof(fresh.comm));
    bpf_map_update_elem(&live_by_pid, &pid, &fresh, BPF_ANY);
  }
  __sync_fetch_and_add(&live_total, 1);
  return 0;
}

// Only guest.c calls sethostname, a known number of times. It also names the function to attach to, which depends on the
// architecture.
SEC("fentry")
int on_sethostname(void *context) {
  (void)context;
  return 0;
}

SEC("ksyscall/setdomainname")
int on_setdomain(void *context) {
  (void)context;
  return 0;
}

static __attribute__((noinline)) int mix(u32 value, u32 seed) {
  return (int)((value ^ seed) * 2654435761u);
}

__attribute__((noinline)) int fold(u32 value) {
  u32 sum = 0;
  for (int i = 0; i < 8; i++) sum += (u32)mix(value + (u32)i, sum);
  return (int)sum;
}

// Has functions of its own, and is run with BPF_PROG_TEST_RUN.
SEC("socket")
int with_functions(struct __sk_buff *packet) {
  return fold(packet->len) + mix(packet->len, 7);
}

// Run on each CPU a known number of times, so that a sum over CPUs can be told from one CPU's figure.
SEC("socket")
int run_exactly(struct __sk_buff *packet) {
  return (int)packet->len;
}

SEC("socket")
int never_run(struct __sk_buff *packet) {
  u64 route = 8;
  bpf_tail_call(packet, &tail_calls, 2);
  return bpf_map_lookup_elem(&routes, &route) ? 1 : 0;
}

SEC("socket")
int write_records(void *context) {
  (void)context;
  u32 kept = 0xabcd, dropped = 0xdead;
  bpf_ringbuf_output(&records, &kept, sizeof(kept), BPF_RB_NO_WAKEUP);
  u32 *reserved = bpf_ringbuf_reserve(&records, 12, 0);
  if (reserved) {
    reserved[0] = dropped;
    bpf_ringbuf_discard(reserved, BPF_RB_NO_WAKEUP);
  }
  return 0;
}

SEC("xdp")
int pass(struct xdp_md *context) {
  (void)context;
  return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
