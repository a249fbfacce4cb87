// An arena: pages that the kernel and this program share. Three are there, found where this program touched them.
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest.h"

enum { kMapTypeArena = 33, kPages = 40 };

void make_arena(void) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  void *wanted = (void *)(1ULL << 44);
  LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE, .map_extra = (u64)wanted);
  int fd = make_map_with(kMapTypeArena, "k_arena", 0, 0, kPages, &options);
  if (fd < 0) return;
  u8 *pages = mmap(wanted, kPages * page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
  if (pages == MAP_FAILED) fail("mmap of k_arena");
  static const size_t kTouched[] = {0, 1, 37};
  for (size_t i = 0; i < COUNT(kTouched); i++) pattern(pages + kTouched[i] * page, page, (u32)kTouched[i]);
  strcpy((char *)pages + 37 * page + 100, "arena");
  note("fact page_size %zu", page);
  note("fact k_arena_start %llu", (u64)(unsigned long)pages);
}
