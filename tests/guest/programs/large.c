// guest large: makes the large maps and keeps them, in a process of its own.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"
#include "large.h"

#include "large.skel.h"

enum { kStep = 10000 };

static void fill_hash(struct bpf_map *map) {
  static u64 keys[kStep];
  static struct sample samples[kStep];
  for (u64 done = 0; done < bpf_map__max_entries(map); done += kStep) {
    for (u64 i = 0; i < kStep; i++) {
      u64 id = done + i;
      keys[i] = id * 0x9e3779b97f4a7c15ULL;
      samples[i] = (struct sample){.id = id, .counters = {id, id * 3, id << 20, ~id}, .pid = (u32)id % 32768, .nice = (s32)(id % 40) - 20};
      snprintf(samples[i].comm, sizeof(samples[i].comm), "task-%llu", id % 1000000);
    }
    u32 count = kStep;
    if (bpf_map_update_batch(bpf_map__fd(map), keys, samples, &count, NULL)) fail("batch into %s", bpf_map__name(map));
  }
}

static void fill_array(struct bpf_map *map) {
  static u32 keys[kStep];
  static u64 values[kStep];
  for (u32 done = 0; done < bpf_map__max_entries(map);) {
    u32 count = 0;
    for (; count < kStep && done < bpf_map__max_entries(map); count++, done++) {
      keys[count] = done;
      values[count] = done * 0x100000001ULL;
    }
    if (bpf_map_update_batch(bpf_map__fd(map), keys, values, &count, NULL)) fail("batch into %s", bpf_map__name(map));
  }
}

int make_large(void) {
  struct large_bpf *large = large_bpf__open_and_load();
  if (!large) fail("large maps");
  fill_hash(large->maps.large_hash);
  fill_hash(large->maps.huge_hash);
  fill_array(large->maps.large_array);
  if (daemon(0, 0)) fail("daemon");
  for (;;) pause();
}
