// Maps whose values have types of every kind, filled by typed.c. What the kernel itself keeps in values (locks, timers, …) is in
// special.bpf.c.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "typed.h"

#define TYPED(name_, type_, value_, entries_) \
  struct {                                    \
    __uint(type, BPF_MAP_TYPE_##type_);       \
    __uint(max_entries, entries_);            \
    __type(key, u32);                         \
    __type(value, value_);                    \
  } name_ SEC(".maps")

TYPED(y_nameless, ARRAY, struct nameless, 2);
TYPED(y_bits, ARRAY, struct bit_fields, 3);
TYPED(y_bit_union, HASH, union bit_union, 4);
TYPED(y_enums, ARRAY, struct enumerations, 2);
TYPED(y_numbers, ARRAY, struct numbers, 3);
TYPED(y_texts, ARRAY, struct texts, 2);
TYPED(y_modified, ARRAY, struct modified, 2);
TYPED(y_long_name, HASH, struct a_structure_whose_name_is_much_longer_than_fifteen_characters, 2);
TYPED(y_grid, ARRAY, steady_t, 3);
TYPED(y_array, ARRAY, address_t, 2);
TYPED(y_pointer, ARRAY, void *, 2);
TYPED(y_float, ARRAY, double, 4);
TYPED(y_bool, HASH, _Bool, 4);
TYPED(y_int128, ARRAY, unsigned __int128, 2);
TYPED(y_negative, ARRAY, enum negative, 2);
TYPED(y_flexible, ARRAY, struct flexible, 2);
TYPED(y_handlers, ARRAY, struct handlers, 2);
TYPED(y_pcpu, PERCPU_ARRAY, struct nameless, 2);

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 4);
  __type(key, struct enumerations);
  __type(value, enum tiny);
} y_enum_key SEC(".maps");

// Sections of data with variables that only this file sees.
static volatile const u32 seen_here = 17;
static volatile s16 counts[2][2] = {{1, -2}, {3, -4}};
volatile struct enumerations enumerations = {.tiny = TINY_B, .negative = NEGATIVE_ALL, .list = {COLOR_BLUE, COLOR_RED, COLOR_GREEN}};
volatile const char *volatile message = 0;
u8 aligned_far[3] __attribute__((aligned(64))) = {7, 8, 9};
double ratio SEC(".data.ratio") = 0.75;
volatile u32 in_custom SEC(".rodata.custom") = 99;

SEC("socket")
int keep_typed(void *context) {
  (void)context;
  counts[1][1] += (s16)seen_here;
  enumerations.same = SAME_OTHER;
  aligned_far[1]++;
  return in_custom + (message != 0);
}

char LICENSE[] SEC("license") = "GPL";
