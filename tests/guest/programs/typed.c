// Fills the maps of typed.bpf.c.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest.h"
#include "typed.h"

#include "typed.skel.h"

static struct bpf_object *object;

static void set(const char *name, u32 key, const void *value) { put_fd(map_of(object, name), name, &key, value); }

static void fill_members(void) {
  struct nameless nameless;
  memset(&nameless, 0, sizeof(nameless));
  nameless.a = 1;
  nameless.b_low = 0x1234;
  nameless.b_high = 0xfedc;
  memcpy(nameless.deep, "\1\2\3\4", 4);
  nameless.last = 200;
  set("y_nameless", 0, &nameless);
  for (u32 key = 0; key < 2; key++) {
    struct nameless *values = per_cpu_buffer(sizeof(*values));
    for (int cpu = 0; cpu < possible_cpus; cpu++) {
      // sizeof is a multiple of 8.
      values[cpu] = nameless;
      values[cpu].a = key * 100 + (u32)cpu;
    }
    set("y_pcpu", key, values);
  }
  struct bit_fields bits;
  memset(&bits, 0, sizeof(bits));
  bits.a = 1, bits.b = 2, bits.c = 19, bits.d = -256, bits.e = 100, bits.f = -4294967296LL, bits.g = 0x7fffffff, bits.h = 0xdeadbeef;
  bits.i = -1, bits.j = 1, bits.in_union.low = 257, bits.in_union.middle = -1000, bits.in_union.high = 4000;
  bits.k = ((unsigned __int128)0xabcdef123ULL << 64) | 0x456789abcdef0123ULL;
  set("y_bits", 0, &bits);
  memset(&bits, 0xff, sizeof(bits));
  set("y_bits", 1, &bits);
  union bit_union in_union = {.low = 511, .middle = 1023, .high = 0};
  in_union.low = 300;
  set("y_bit_union", 5, &in_union);
}

static void fill_numbers(void) {
  struct numbers numbers = {.signed_huge = -((__int128)1 << 100), .unsigned_huge = ~(unsigned __int128)0, .single = {0.1f, -1e30f},
                            .wide = 1.0 / 3, .yes = 1, .double_word = -1, .letter = 'x', .control = 7, .high = (char)0xf0};
  memset(&numbers.odd, 2, 1);
  set("y_numbers", 0, &numbers);
  numbers.single[0] = __builtin_inff(), numbers.single[1] = -__builtin_inff(), numbers.wide = __builtin_nan("");
  set("y_numbers", 1, &numbers);
  double wide[] = {0.1, 1e300, -0.0, 12345678.0};
  for (u32 i = 0; i < 4; i++) set("y_float", i, &wide[i]);
  _Bool flags[] = {0, 1};
  for (u32 i = 0; i < 2; i++) set("y_bool", i, &flags[i]);
  enum negative negative[] = {NEGATIVE_ALL, (enum negative)-100};
  for (u32 i = 0; i < 2; i++) set("y_negative", i, &negative[i]);
  unsigned __int128 huge = (unsigned __int128)1 << 127;
  set("y_int128", 0, &huge);
  huge = 1ULL << 63;
  set("y_int128", 1, &huge);
  struct enumerations enums = {TINY_B, (enum tiny)77, NEGATIVE_ALL, SAME_SECOND, UNNAMED_TWO, WIDE_MINUS, (enum wide_unsigned)3,
                               {COLOR_GREEN, COLOR_BLUE, (enum color)100}};
  set("y_enums", 0, &enums);
  struct enumerations key;
  memset(&key, 0, sizeof(key));
  key.tiny = TINY_A, key.unnamed = UNNAMED_ONE;
  enum tiny tiny = TINY_B;
  put_fd(map_of(object, "y_enum_key"), "y_enum_key", &key, &tiny);
}

// Of the kernel's symbols: the first whose name begins so, and whose line has the other text in it. 0: none.
static u64 find_symbol(const char *name, const char *with) {
  FILE *file = fopen("/proc/kallsyms", "r");
  char line[1024];
  u64 address = 0;
  while (file && !address && fgets(line, sizeof(line), file)) {
    // "ffffffff81000000 T _text", "… t veth_xmit\t[veth]"
    char *at = strchr(line, ' ');
    if (at && strlen(at) > 3 && !strncmp(at + 3, name, strlen(name)) && strstr(at, with)) address = strtoull(line, NULL, 16);
  }
  if (file) fclose(file);
  return address;
}

// Functions of the kernel, of a program and of a module; and what looks like one.
void fill_handlers(void) {
  const u64 begin = find_symbol("wake_up_process\n", ""), program = find_symbol("bpf_prog_", "[bpf]");
  const struct handlers handlers = {
      .begin = (handler_t)begin,
      .inside = (handler_t)(begin + 3),
      .program = (handler_t)program,
      .in_program = (handler_t)(program ? program + 5 : 0),
      .module = (handler_t)find_symbol("veth_xmit", "[veth]"),
      .none = NULL,
      .garbage = (handler_t)0xffffdead00000123UL,
      .data = (void *)begin,
  };
  set("y_handlers", 1, &handlers);
}

static void fill_rest(void) {
  struct texts texts = {.terminated = "seven77", .full = {'e', 'i', 'g', 'h', 't', '8', '8', '8'}, .after_end = {'a', 0, 'b'},
                        .lines = {"ab", {'c', 'd', 'e', 'f', 'g', 'h'}}, .bytes = "abc", .small = {'a', -1, 0, 1}, .one = {'z'},
                        .cube = {{{1, 2}, {3, 4}}, {{5, 6}, {7, 8}}}, .table = {{1}, {2}, {65535}}};
  set("y_texts", 0, &texts);
  struct modified modified = {.value = 5, .pointer = (void *)0x10UL, .address = {1, 2, 3, 4, 5, 6}, .fixed = {{1}, {[5] = 9}},
                              .handler = (handler_t)0xffffdead00000123UL, .table = {0, (void (*)(void))0x5UL},
                              .forward = (void *)0x7fff12345678UL, .self = (void *)~0UL, .tagged = (void *)0x1UL, .declared = 42};
  set("y_modified", 1, &modified);
  struct a_structure_whose_name_is_much_longer_than_fifteen_characters named = {31337};
  set("y_long_name", 1, &named);
  for (u32 i = 0; i < 3; i++) {
    u32 value = i * 1000000007;
    set("y_grid", i, &value);
  }
  set("y_array", 0, "\1\2\3\4\5\377");
  u64 pointer = 0xffff888012345678ULL;
  set("y_pointer", 1, &pointer);
  u32 flexible = 3;
  set("y_flexible", 1, &flexible);
}

void make_typed(void) {
  size_t size;
  const void *bytes = typed_bpf__elf_bytes(&size);
  object = load_object("typed_values_long_name", bytes, size, NULL);
  fill_members();
  fill_numbers();
  fill_rest();
}
