// What the changing maps hold: see changing.c.
#ifndef CHANGING_H
#define CHANGING_H

#include "types.h"

enum { kValueWords = 8 };

// Word `place` of the value that was written as number `number` for `key`. Each can be taken apart again (the factor is odd), so a
// reader can tell words that belong together from those that do not, and both from what nobody wrote. Keys have 16 bits, numbers 40.
static inline u64 word_of(u64 key, u64 number, u64 place) {
  return (key << 48 | (number & 0xffffffffffULL) << 8 | (place & 0xff)) * 0x9e3779b97f4a7c15ULL;
}

#endif
