// More types of values: see types.h. Those of the program that fills them are these, too, so the compiler lays both out alike.
#ifndef GUEST_TYPED_H
#define GUEST_TYPED_H

#include "types.h"

#ifdef __bpf__
#define TYPE_TAG(name) __attribute__((btf_type_tag(name)))
#define DECL_TAG(name) __attribute__((btf_decl_tag(name)))
#else
#define TYPE_TAG(name)
#define DECL_TAG(name)
#endif

// Members without a name, several deep, and a structure without members.
struct nameless {
  struct {
    u32 a;
    union {
      u64 b;
      struct {
        u16 b_low;
        u16 b_high;
        struct {
          u8 deep[4];
        };
      };
    };
  };
  struct {
  } nothing;
  u8 last;
};

// Bit fields that share bytes with others, of types of several sizes, in a union, and after a full one.
union bit_union {
  u32 word;
  struct {
    u32 low : 9;
    s32 middle : 11;
    u32 high : 12;
  };
  s32 nibble : 4;
};

struct bit_fields {
  u8 a : 1, b : 2, c : 5;
  s16 d : 9;
  u16 e : 7;
  s64 f : 33;
  u64 g : 31;
  u32 h : 32;
  s32 : 3;
  s32 i : 1;
  _Bool j : 1;
  union bit_union in_union;
  unsigned __int128 k : 100;
} __attribute__((packed));

enum tiny { TINY_A = 1, TINY_B = 200 } __attribute__((packed));
enum negative { NEGATIVE_ALL = -1, NEGATIVE_NONE = 0 };
enum same_value { SAME_FIRST = 3, SAME_SECOND = 3, SAME_OTHER = 4 };
typedef enum { UNNAMED_ONE = 1, UNNAMED_TWO } unnamed_enum;

struct enumerations {
  enum tiny tiny;
  enum tiny tiny_unknown;
  enum negative negative;
  enum same_value same;
  unnamed_enum unnamed;
  enum wide_signed wide;
  enum wide_unsigned wide_unknown;
  enum color list[3];
};

struct numbers {
  __int128 signed_huge;
  unsigned __int128 unsigned_huge;
  float single[2];
  double wide;
  _Bool yes, no, odd;  // odd is neither 0 nor 1
  long double_word;
  char letter, control, high;
};

struct texts {
  char terminated[8];
  char full[8];
  char empty[8];
  char after_end[8];  // text, end, more
  char lines[2][6];
  unsigned char bytes[4];
  signed char small[4];
  char one[1];
  u32 cube[2][2][2];
  u8 none[0];
  u16 table[3][1];
};

typedef const volatile u32 steady_t;
typedef steady_t *const steady_pointer_t;
typedef u8 address_t[6];
typedef int (*handler_t)(struct point *, u64);
struct only_declared;

// What stands in them, a program of user space has looked up.
struct handlers {
  handler_t begin;
  handler_t inside;
  handler_t program;
  handler_t in_program;
  handler_t module;
  handler_t none;
  handler_t garbage;
  void *data;  // the same address as begin
};

struct modified {
  steady_t value;
  steady_pointer_t pointer;
  address_t address;
  const address_t fixed[2];
  handler_t handler;
  void (*const table[2])(void);
  struct only_declared *forward;
  struct modified *self;
  void *restrict limited;
  u32 TYPE_TAG("user") * tagged;
  u32 declared DECL_TAG("of interest");
} DECL_TAG("a whole structure");

// The size of its last member is what is left of the value.
struct flexible {
  u32 length;
  u16 items[];
};

struct a_structure_whose_name_is_much_longer_than_fifteen_characters {
  u32 a_member_whose_name_is_also_rather_long_for_the_kernel;
};

#endif
