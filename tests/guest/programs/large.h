// The values of the large maps.
#ifndef LARGE_H
#define LARGE_H

#include "types.h"

struct sample {
  u64 id;
  u64 counters[4];
  u32 pid;
  s32 nice;
  char comm[16];
};

#endif
