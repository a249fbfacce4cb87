// Programs that links.c attaches, one of each kind of link that libbpf can make, to what does not happen in the guest: their figures
// stay zero.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "types.h"

u64 runs;

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 4);
  __type(key, u32);
  __type(value, u64);
} iterated SEC(".maps");

SEC("raw_tp/xdp_exception")
int at_raw_tp(void *context) {
  (void)context;
  return 0;
}

SEC("tp_btf/xdp_exception")
int at_tp_btf(void *context) {
  (void)context;
  return 0;
}

// The functions stand in links.c: their names depend on the architecture.
SEC("fentry")
int at_fentry(void *context) {
  (void)context;
  return 0;
}

SEC("fexit")
int at_fexit(void *context) {
  (void)context;
  return 0;
}

SEC("fmod_ret/security_quotactl")
int at_fmod_ret(void *context) {
  (void)context;
  return 0;
}

SEC("lsm/quotactl")
int at_lsm(void *context) {
  (void)context;
  return 0;
}

SEC("kprobe")
int at_kprobe(void *context) {
  (void)context;
  return 0;
}

SEC("kretprobe")
int at_kretprobe(void *context) {
  (void)context;
  return 0;
}

SEC("kprobe.multi/bpf_fentry_test?")
int at_kprobe_multi(void *context) {
  (void)context;
  return 0;
}

SEC("kretprobe.multi")
int at_kret_multi(void *context) {
  (void)context;
  return 0;
}

SEC("uprobe")
int at_uprobe(void *context) {
  (void)context;
  return 0;
}

SEC("tracepoint/xdp/xdp_exception")
int at_tracepoint(void *context) {
  (void)context;
  return 0;
}

SEC("perf_event")
int at_perf_event(void *context) {
  (void)context;
  return 0;
}

SEC("cgroup_skb/egress")
int at_cgroup_skb(struct __sk_buff *packet) {
  (void)packet;
  return 1;
}

SEC("cgroup/connect4")
int at_connect4(struct bpf_sock_addr *context) {
  (void)context;
  return 1;
}

SEC("iter/task")
int at_iter_task(void *context) {
  (void)context;
  return 0;
}

SEC("iter/bpf_map_elem")
int at_iter_map(void *context) {
  (void)context;
  return 0;
}

SEC("flow_dissector")
int at_flow(struct __sk_buff *packet) {
  (void)packet;
  return BPF_OK;
}

SEC("sk_lookup")
int at_sk_lookup(struct bpf_sk_lookup *context) {
  (void)context;
  return SK_PASS;
}

SEC("sk_msg")
int at_sockmap(struct sk_msg_md *message) {
  (void)message;
  return SK_PASS;
}

SEC("xdp")
int at_xdp(struct xdp_md *context) {
  (void)context;
  return XDP_PASS;
}

SEC("tc")
int at_tcx(struct __sk_buff *packet) {
  (void)packet;
  return -1;  // TCX_NEXT
}

SEC("tc")
int at_netkit(struct __sk_buff *packet) {
  (void)packet;
  return -1;  // NETKIT_NEXT
}

// A name that is longer than what the kernel keeps of it outside of types, and functions of its own.
static __attribute__((noinline)) u64 a_function_with_a_long_name_that_is_static(u64 value) {
  return value * 31 + runs;
}

__attribute__((noinline)) int replaced(struct __sk_buff *packet) {
  volatile int length = (int)packet->len;
  return length;
}

SEC("tc")
int a_program_whose_name_is_longer_than_fifteen_characters(struct __sk_buff *packet) {
  u64 sum = 0;
  for (u32 i = 0; i < 4; i++) sum += a_function_with_a_long_name_that_is_static(sum + i);
  return replaced(packet) + (int)sum;
}

char LICENSE[] SEC("license") = "GPL";
