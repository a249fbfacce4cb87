// Maps with BTF. Everything here is filled once, by guest.c, and then stays: the tests compare it byte for byte.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "types.h"

#define MAP(name_, type_, key_, value_, entries_, flags_) \
  struct {                                                \
    __uint(type, BPF_MAP_TYPE_##type_);                   \
    __uint(max_entries, entries_);                        \
    __uint(map_flags, flags_);                            \
    __type(key, key_);                                    \
    __type(value, value_);                                \
  } name_ SEC(".maps")

// One kind of type each.
MAP(t_ints, ARRAY, u32, struct ints, 3, 0);
MAP(t_int128, HASH, u32, struct int128s, 4, 0);
MAP(t_enums, ARRAY, u32, struct enums, 2, 0);
MAP(t_nested, HASH, u32, struct nested, 4, 0);
MAP(t_arrays, ARRAY, u32, struct arrays, 2, 0);
MAP(t_pointers, ARRAY, u32, struct pointers, 1, 0);
MAP(t_bits, ARRAY, u32, struct bits, 4, 0);
MAP(t_mixed, HASH, u32, struct mixed, 4, 0);
MAP(t_scalar, ARRAY, u32, s32, 4, 0);
MAP(t_enum, HASH, enum color, enum color, 8, 0);
MAP(t_typedef, ARRAY, u32, corner_t, 2, 0);
MAP(t_text, HASH, u64, char[12], 4, 0);
MAP(t_key_pair, HASH, struct key_pair, u32, 8, 0);
MAP(t_key_text, HASH, char[16], u64, 8, 0);
MAP(t_real, ARRAY, u32, struct real, 1, 0);

// Every plain type of map, preallocated and not.
MAP(b_array, ARRAY, u32, u64, 16, 0);
MAP(b_mmap, ARRAY, u32, u64, 16, BPF_F_MMAPABLE);
MAP(b_hash, HASH, u32, u64, 64, 0);
MAP(b_hash_np, HASH, u32, u64, 64, BPF_F_NO_PREALLOC);
MAP(b_pcpu_array, PERCPU_ARRAY, u32, u64, 5, 0);
MAP(b_pcpu_hash, PERCPU_HASH, u32, struct counter, 32, 0);
MAP(b_pcpu_hash_np, PERCPU_HASH, u32, struct counter, 32, BPF_F_NO_PREALLOC);
MAP(b_lru, LRU_HASH, u32, u64, 256, 0);
MAP(b_lru_nocommon, LRU_HASH, u32, u64, 256, BPF_F_NO_COMMON_LRU);
MAP(b_lru_pcpu, LRU_PERCPU_HASH, u32, u64, 256, 0);

// Sizes.
MAP(s_empty, HASH, u32, u64, 1024, 0);
MAP(s_full, HASH, u32, u32, 100, 0);
MAP(s_deleted, HASH, u32, u32, 200, 0);
MAP(s_many, HASH, u32, u64, 16384, 0);
MAP(s_many_np, HASH, u64, u32, 10000, BPF_F_NO_PREALLOC);
MAP(s_big_value, HASH, u32, struct big_value, 16, 0);
MAP(s_big_array, ARRAY, u32, struct big_value, 64, 0);

MAP(frozen, ARRAY, u32, u32, 4, 0);

// Data sections. Nothing runs the program that refers to them, so they keep their values.
int d_counter = 42;
static s64 d_negative = -7;
struct settings d_settings = {.limit = 1000, .name = "guestscope", .color = COLOR_GREEN};
u8 d_table[4] = {1, 2, 3, 255};
u64 z_zero;
struct point z_points[3];
const volatile u32 r_version = 3;
const volatile char r_title[] = "known contents";
const volatile s16 r_primes[5] = {2, 3, 5, 7, -11};
struct bits c_bits SEC(".data.bits") = {.one = 1, .three = 5, .crossing = 4097, .minus = -9, .plus = 63};

SEC("socket")
int keep_data(void *context) {
  (void)context;
  static volatile u64 s_static;
  d_counter += r_version + r_title[1] + r_primes[d_counter & 3];
  *(volatile s64 *)&d_negative += d_settings.limit + d_table[d_counter & 3];
  s_static++;
  z_zero += c_bits.three + s_static;
  z_points[1].x++;
  return 0;
}

char LICENSE[] SEC("license") = "GPL";
