// Ring buffers. buffers.c says how large they are (in pages, whose size differs) and runs the program.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "types.h"

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 4096);
} k_ring SEC(".maps");

struct {
  __uint(type, 31);  // BPF_MAP_TYPE_USER_RINGBUF
  __uint(max_entries, 4096);
} k_user_ring SEC(".maps");

struct record {
  u32 number;
  u8 filler[96];
};

u32 next_number;

// Writes one record of 100 bytes; of every five the last is discarded.
SEC("socket")
int write_record(void *context) {
  (void)context;
  u32 number = next_number++;
  struct record *record = bpf_ringbuf_reserve(&k_ring, sizeof(*record), 0);
  if (!record) return 0;
  record->number = number;
  for (u32 i = 0; i < sizeof(record->filler); i++) record->filler[i] = (u8)(number + i);
  if (number % 5 == 4) {
    bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
  } else {
    bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
  }
  return 1;
}

static long count_sample(void *dynptr, void *context) {
  (void)dynptr, (void)context;
  return 1;  // that was enough
}

// Takes one record out of the user's ring buffer.
SEC("socket")
int drain_one(void *context) {
  u64 unused = 0;
  (void)context;
  return (int)bpf_user_ringbuf_drain(&k_user_ring, count_sample, &unused, BPF_RB_NO_WAKEUP);
}

char LICENSE[] SEC("license") = "GPL";
