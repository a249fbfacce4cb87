// A ring buffer that changing.c has filled by a program and empties itself.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "changing.h"

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 65536);
} c_ring SEC(".maps");

u64 numbers[64];  // of the records, by writer

// The packet's first byte is the writer; of every five records the last is discarded.
SEC("socket")
int write_changing(struct __sk_buff *packet) {
  u8 writer = 0;
  if (bpf_skb_load_bytes(packet, 0, &writer, 1) || writer >= 64) return 0;
  u64 number = ++numbers[writer];
  u64 *words = bpf_ringbuf_reserve(&c_ring, kValueWords * sizeof(u64), 0);
  if (!words) return 0;
  for (u32 i = 0; i < kValueWords; i++) words[i] = word_of(writer, number, i);
  if (number % 5 == 4) {
    bpf_ringbuf_discard(words, BPF_RB_NO_WAKEUP);
  } else {
    bpf_ringbuf_submit(words, BPF_RB_NO_WAKEUP);
  }
  return 1;
}

char LICENSE[] SEC("license") = "GPL";
