// Fills the maps of special.bpf.c: by system call what is no secret of the kernel's, then by program what is.
#include <string.h>

#include "guest.h"

#include "special.skel.h"

static void run_if_loaded(const struct bpf_object *object, const char *name) {
  u8 packet[64] = {0};
  int fd = prog_of(object, name);
  if (fd < 0) return;
  if (run_program(fd, name, packet, sizeof(packet), 1)) fail("%s did not", name);
  note("ran %s", name);
}

// What the kernel keeps is left zero; `before` and `after` stand around it, at these distances from a value's beginning and end.
enum { kNowhere = -1 };
static const struct {
  const char *name;
  int before, after;
} kMaps[] = {{"z_lock", 0, 4}, {"z_lock_array", 0, 4}, {"z_timer", 0, 8}, {"z_timer_hash", 0, 8},
             {"z_work", 0, 8}, {"z_kept", 0, 8},       {"z_list", 0, 8},  {"z_tree", kNowhere, 4}};

void make_special(void) {
  size_t size;
  const void *bytes = special_bpf__elf_bytes(&size);
  struct bpf_object *object = load_object("special", bytes, size, NULL);
  for (size_t i = 0; i < COUNT(kMaps); i++) {
    struct bpf_map *map = bpf_object__find_map_by_name(object, kMaps[i].name);
    if (!map || bpf_map__fd(map) < 0) continue;
    u32 key = 1, before = 0x1111, after = 0x2222;
    u8 value[64] = {0};
    if (kMaps[i].before != kNowhere) memcpy(value + kMaps[i].before, &before, sizeof(before));
    memcpy(value + bpf_map__value_size(map) - kMaps[i].after, &after, sizeof(after));
    put(map, &key, value);
  }
  static const char *const kPrograms[] = {"start_timer", "start_work", "keep_task", "keep_current", "fill_list", "fill_tree"};
  for (size_t i = 0; i < COUNT(kPrograms); i++) run_if_loaded(object, kPrograms[i]);
}
