// Programs that the maps of network.c hold: for packets that a device or a CPU was sent.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "types.h"

SEC("xdp/devmap")
int at_device(struct xdp_md *context) {
  (void)context;
  return XDP_PASS;
}

SEC("xdp/cpumap")
int at_cpu(struct xdp_md *context) {
  (void)context;
  return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
