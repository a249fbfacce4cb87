// Stack traces: one of the kernel and one of this program, by build id, both taken when this program renames itself.
#define _GNU_SOURCE
#include <elf.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest.h"

#include "stacks.skel.h"

// This program's build id, from its own notes in memory.
static void note_build_id(void) {
  const Elf64_Phdr *headers = (const Elf64_Phdr *)getauxval(AT_PHDR);
  const Elf64_Phdr *end = headers + getauxval(AT_PHNUM);
  for (const Elf64_Phdr *header = headers; header != end; header++) {
    if (header->p_type != PT_NOTE) continue;
    const u8 *bytes = (const u8 *)header->p_vaddr;  // linked to a fixed place
    for (size_t at = 0; at + 16 <= header->p_memsz;) {
      const Elf64_Nhdr *found = (const Elf64_Nhdr *)(bytes + at);
      if (found->n_type == NT_GNU_BUILD_ID && found->n_namesz == 4 && found->n_descsz == 20) {
        char text[41];
        for (int i = 0; i < 20; i++) sprintf(text + 2 * i, "%02x", bytes[at + 16 + (size_t)i]);
        note("fact build_id %s", text);
        return;
      }
      at += sizeof(*found) + ((found->n_namesz + 3) & ~3u) + ((found->n_descsz + 3) & ~3u);
    }
  }
  fail("no build id");
}

void make_stacks(void) {
  note_build_id();
  struct stacks_bpf *stacks = stacks_bpf__open_and_load();
  if (!stacks) fail("stacks");
  stacks->bss->task = (u32)syscall(SYS_gettid);
  struct bpf_link *link = bpf_program__attach(stacks->progs.take_stacks);
  if (!link) fail("attach of take_stacks");
  if (prctl(PR_SET_NAME, "guest-stacks")) fail("rename");
  bpf_link__destroy(link);
  if (prctl(PR_SET_NAME, "guest")) fail("rename back");
  note("map k_stacks");
  note("map k_stacks_id");
  note("fact kernel_stack %d", stacks->data->kernel_stack);
  note("fact user_stack %d", stacks->data->user_stack);
}
