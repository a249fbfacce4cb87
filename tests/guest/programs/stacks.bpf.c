// Stack traces, taken of one task that stacks.c names, when it renames itself.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "types.h"

struct {
  __uint(type, BPF_MAP_TYPE_STACK_TRACE);
  __uint(max_entries, 16);
  __uint(key_size, 4);
  __uint(value_size, 16 * 8);
} k_stacks SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_STACK_TRACE);
  __uint(max_entries, 16);
  __uint(key_size, 4);
  __uint(value_size, 32 * 8);
} k_stacks_mod SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_STACK_TRACE);
  __uint(max_entries, 16);
  __uint(key_size, 4);
  __uint(value_size, 4 * 32);
  __uint(map_flags, BPF_F_STACK_BUILD_ID);
} k_stacks_id SEC(".maps");

u32 task;
s32 kernel_stack = -1, user_stack = -1, module_stack = -1;

SEC("raw_tp/task_rename")
int take_stacks(void *context) {
  if ((u32)bpf_get_current_pid_tgid() != task) return 0;
  kernel_stack = (s32)bpf_get_stackid(context, &k_stacks, 0);
  user_stack = (s32)bpf_get_stackid(context, &k_stacks_id, BPF_F_USER_STACK);
  return 0;
}

// A device that is a module's hands a packet to its other end.
SEC("raw_tp/netif_rx")
int take_module_stack(void *context) {
  if ((u32)bpf_get_current_pid_tgid() != task || module_stack != -1) return 0;
  module_stack = (s32)bpf_get_stackid(context, &k_stacks_mod, 0);
  return 0;
}

char LICENSE[] SEC("license") = "GPL";
