// A way to control congestion: a map whose value is of one of the kernel's own types. See test_modules.py.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "types.h"

// As far as it is used; members are found by their names.
struct sock;
struct tcp_congestion_ops {
  u32 (*ssthresh)(struct sock *sk);
  void (*cong_avoid)(struct sock *sk, u32 ack, u32 acked);
  u32 (*undo_cwnd)(struct sock *sk);
  char name[16];
};

SEC("struct_ops")
u32 slow_ssthresh(u64 *context) { return 2; }

SEC("struct_ops")
void slow_avoid(u64 *context) {}

SEC("struct_ops")
u32 slow_undo(u64 *context) { return 2; }

SEC(".struct_ops")
struct tcp_congestion_ops slow_ops = {
    .ssthresh = (void *)slow_ssthresh,
    .cong_avoid = (void *)slow_avoid,
    .undo_cwnd = (void *)slow_undo,
    .name = "slow",
};

char LICENSE[] SEC("license") = "GPL";
