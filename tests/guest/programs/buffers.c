// Queue, stack, Bloom filter and ring buffers.
#include "guest.h"

#include "buffers.skel.h"

static void push(int fd, const char *name, u64 value, u64 flags) {
  if (bpf_map_update_elem(fd, NULL, &value, flags)) fail("push to %s", name);
}

static void pop(int fd, const char *name, u64 expected) {
  u64 value;
  if (bpf_map_lookup_and_delete_elem(fd, NULL, &value)) fail("pop from %s", name);
  if (value != expected) fail("%s gave %llu instead of %llu", name, value, expected);
}

static void make_queues(void) {
  // 5 slots and one more in the kernel: after 8 pushes the head has wrapped around.
  int queue = make_map(BPF_MAP_TYPE_QUEUE, "k_queue", 0, 8, 5, 0);
  for (u64 i = 1; i <= 5; i++) push(queue, "k_queue", i * 100, BPF_ANY);
  for (u64 i = 1; i <= 3; i++) pop(queue, "k_queue", i * 100);
  for (u64 i = 6; i <= 8; i++) push(queue, "k_queue", i * 100, BPF_ANY);  // 400 … 800: full
  // A full stack that forgets its oldest value for each new one.
  int stack = make_map(BPF_MAP_TYPE_STACK, "k_stack", 0, 8, 4, 0);
  for (u64 i = 1; i <= 6; i++) push(stack, "k_stack", i * 11, BPF_EXIST);
  pop(stack, "k_stack", 66);
  push(stack, "k_stack", 77, BPF_ANY);  // 77 55 44 33
  make_map(BPF_MAP_TYPE_QUEUE, "k_queue_empty", 0, 4, 3, 0);
  int odd = make_map(BPF_MAP_TYPE_STACK, "k_stack_odd", 0, 5, 3, 0);
  for (u32 i = 0; i < 2; i++) {
    u8 bytes[5];
    pattern(bytes, sizeof(bytes), i);
    if (bpf_map_update_elem(odd, NULL, bytes, BPF_ANY)) fail("push to k_stack_odd");
  }
}

static void make_bloom_filter(void) {
  LIBBPF_OPTS(bpf_map_create_opts, options, .map_extra = 3);  // hash functions
  int fd = make_map_with(BPF_MAP_TYPE_BLOOM_FILTER, "k_bloom", 0, 8, 100, &options);
  for (u64 i = 0; fd >= 0 && i < 40; i++) push(fd, "k_bloom", i * i, BPF_ANY);
}

static int keep_none(void *context, void *data, size_t size) {
  (void)context, (void)data, (void)size;
  return 0;
}

// Twelve records wait that begin before the buffer's end and go on at its start; two of them are discarded ones.
static void fill_ring(struct bpf_object *object) {
  enum { kStep = 112 };  // 100 bytes and a header of 8, in steps of 8
  int fd = map_of(object, "k_ring"), program = prog_of(object, "write_record");
  u32 size = bpf_map__max_entries(bpf_object__find_map_by_name(object, "k_ring"));
  struct ring_buffer *reader = ring_buffer__new(fd, keep_none, NULL, NULL);
  if (!reader) fail("reader of k_ring");
  u8 packet[64] = {0};
  u32 before = size / kStep - 5;
  run_program(program, "write_record", packet, sizeof(packet), (int)before);
  if (ring_buffer__consume(reader) < 0) fail("consume from k_ring");
  run_program(program, "write_record", packet, sizeof(packet), 12);
  note("fact k_ring_size %u", size);
  note("fact k_ring_first %u", before);
}

// Seven records of which the third and the fifth are discarded, and the first two are consumed by a program; an eighth is being
// written for ever.
static void fill_user_ring(struct bpf_object *object) {
  int fd = map_of(object, "k_user_ring");
  if (fd < 0) return;
  struct user_ring_buffer *writer = user_ring_buffer__new(fd, NULL);
  if (!writer) fail("writer of k_user_ring");
  for (u32 i = 0; i < 7; i++) {
    u8 *bytes = user_ring_buffer__reserve(writer, 20 + i);
    if (!bytes) fail("reserve in k_user_ring");
    pattern(bytes, 20 + i, i);
    if (i == 2 || i == 4) {
      user_ring_buffer__discard(writer, bytes);
    } else {
      user_ring_buffer__submit(writer, bytes);
    }
  }
  int program = prog_of(object, "drain_one");
  u8 packet[64] = {0};
  u32 drained = 0;
  if (program >= 0)
    for (int i = 0; i < 2; i++) drained += run_program(program, "drain_one", packet, sizeof(packet), 1);
  note("fact k_user_ring_drained %u", drained);
  if (!user_ring_buffer__reserve(writer, 48)) fail("reserve in k_user_ring");
}

void make_buffers(void) {
  make_queues();
  make_bloom_filter();
  size_t size;
  const void *bytes = buffers_bpf__elf_bytes(&size);
  struct bpf_object *object = load_object("buffers", bytes, size, NULL);
  fill_ring(object);
  fill_user_ring(object);
}
