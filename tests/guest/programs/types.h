// Value types of the maps whose contents the tests know, shared by the BPF object (which gives them BTF) and by the
// program that fills them. Between them they hold every kind of type that a C map value can have.
#ifndef GUEST_TYPES_H
#define GUEST_TYPES_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char s8;
typedef short s16;
typedef int s32;
typedef long long s64;

struct ints {
  char plain;
  s8 small_signed;
  u8 small_unsigned;
  _Bool yes;
  s16 half_signed;
  u16 half_unsigned;
  s32 word_signed;
  u32 word_unsigned;
  long long_signed;
  unsigned long long_unsigned;
  s64 wide_signed;
  u64 wide_unsigned;
  _Bool no;
};

struct int128s {
  __int128 huge_signed;
  unsigned __int128 huge_unsigned;
};

enum color { COLOR_RED, COLOR_GREEN = 5, COLOR_BLUE = -3 };
enum flag { FLAG_HIGH = 0x80000000u, FLAG_LOW = 1 };
enum wide_signed { WIDE_MINUS = -5000000000LL, WIDE_ONE = 1 };
enum wide_unsigned { WIDE_BIG = 0xfedcba9876543210ULL, WIDE_SMALL = 2 };

struct enums {
  enum color color;
  enum color blue;
  enum color unnamed;  // a value without an enumerator
  enum flag flag;
  enum wide_signed minus;
  enum wide_unsigned big;
};

struct point {
  s32 x, y;
};

typedef struct point point_t;
typedef point_t corner_t;

struct nested {
  struct point first;
  struct {
    u16 id;
    point_t inner;
  } named;
  union {  // anonymous
    u32 as_word;
    u8 as_bytes[4];
  };
  struct {  // anonymous
    u8 before;
    u32 after_padding;
  };
  union {
    u64 whole;
    struct {
      u32 low, high;
    } halves;
  } number;
  corner_t corner;
};

struct arrays {
  u16 line[3];
  u8 grid[2][3];
  struct point points[2];
  char text[16];     // text, terminated
  char full[4];      // text that fills its array: no terminator
  char binary[8];    // not text
  char empty[4];     // all zero
  char latin[8];     // a byte above 127: not UTF-8
  char quotes[16];   // needs escapes in JSON
  char lines[2][8];  // an array of texts
  s8 numbers[3];     // signed char: numbers, not text
};

struct pointers {
  void *nothing;
  const void *somewhere;
  struct point *object;
  void (*function)(int);
};

struct bits {
  u32 one : 1;
  u32 three : 3;
  u32 crossing : 13;  // crosses byte boundaries
  s32 minus : 5;
  s32 plus : 7;
  u64 forty : 40;
  s64 low : 20;
  u8 : 0;
  u8 tail : 2;
  enum color color : 4;
  _Bool flag : 1;
};

struct mixed {
  const u32 constant;
  volatile u32 unstable;
  u8 odd[5];
} __attribute__((packed));

struct key_pair {
  u32 cpu;
  u16 port;
  u8 proto;
} __attribute__((packed));

struct big_value {
  u64 index;
  u8 body[6000];
};

struct real {
  float single;
  double wide;
};

struct counter {
  u64 events;
  u32 last_pid;
  char comm[16];
};

struct settings {
  u32 limit;
  char name[12];
  enum color color;
};

#endif
