// A program that takes the place of a function of another: see links.c.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "types.h"

SEC("freplace/replaced")
int at_freplace(struct __sk_buff *packet) {
  return (int)packet->len + 1;
}

char LICENSE[] SEC("license") = "GPL";
