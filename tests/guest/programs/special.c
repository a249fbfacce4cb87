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

void make_special(void) {
  size_t size;
  const void *bytes = special_bpf__elf_bytes(&size);
  struct bpf_object *object = load_object("special", bytes, size, NULL);
  static const char *const kMaps[] = {"z_lock", "z_lock_array", "z_timer", "z_timer_hash", "z_work", "z_kept", "z_list", "z_tree"};
  for (size_t i = 0; i < COUNT(kMaps); i++) {
    struct bpf_map *map = bpf_object__find_map_by_name(object, kMaps[i]);
    if (bpf_map__fd(map) < 0) continue;
    u32 key = 1;
    u8 value[64];
    // The kernel leaves its own part as it is, zero, and a kernel that does not know it takes zeros.
    memset(value, 0, sizeof(value));
    u32 before = 0x1111, after = 0x2222;
    size_t value_size = bpf_map__value_size(map);
    if (strcmp(kMaps[i], "z_tree") != 0) memcpy(value, &before, sizeof(before));
    memcpy(value + value_size - (strncmp(kMaps[i], "z_lock", 6) == 0 || i == 7 ? 4 : 8), &after, sizeof(after));
    put(map, &key, value);
  }
  static const char *const kPrograms[] = {"start_timer", "start_work", "keep_task", "fill_list", "fill_tree"};
  for (size_t i = 0; i < COUNT(kPrograms); i++) run_if_loaded(object, kPrograms[i]);
}
