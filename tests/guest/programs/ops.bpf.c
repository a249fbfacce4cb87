// A way to control congestion: a map whose value is of one of the kernel's own types, which links.c registers. Under names
// of its own, test_modules.py registers another.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "types.h"

#ifndef OPS_MAP
#define OPS_MAP k_struct_ops
#define OPS_NAME "known"
#endif

// As far as it is used; members are found by their names.
struct sock;
struct tcp_congestion_ops {
  u32 (*ssthresh)(struct sock *sk);
  void (*cong_avoid)(struct sock *sk, u32 ack, u32 acked);
  u32 (*undo_cwnd)(struct sock *sk);
  char name[16];
};

SEC("struct_ops")
u32 ops_ssthresh(u64 *context) {
  (void)context;
  return 2;
}

SEC("struct_ops")
void ops_avoid(u64 *context) { (void)context; }

SEC("struct_ops")
u32 ops_undo(u64 *context) {
  (void)context;
  return 2;
}

SEC(".struct_ops")
struct tcp_congestion_ops OPS_MAP = {
    .ssthresh = (void *)ops_ssthresh,
    .cong_avoid = (void *)ops_avoid,
    .undo_cwnd = (void *)ops_undo,
    .name = OPS_NAME,
};

char LICENSE[] SEC("license") = "GPL";
