// A program that is attached to a function of the module dummy, so that its types are the module's: see test_modules.py.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "types.h"

struct seen {
  u64 calls;
  char comm[16];
};

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 2);
  __type(key, u32);
  __type(value, struct seen);
} module_seen SEC(".maps");

SEC("fentry/dummy_dev_init")
int on_dummy_init(void *context) {
  u32 key = 1;
  struct seen *seen = bpf_map_lookup_elem(&module_seen, &key);
  if (!seen) return 0;
  __sync_fetch_and_add(&seen->calls, 1);
  bpf_get_current_comm(seen->comm, sizeof(seen->comm));
  return 0;
}

char LICENSE[] SEC("license") = "GPL";
