// guest code xlated|jited ID…: the code of programs as the kernel itself gives it, on stdout: of each its id, its size (both 32 bits)
// and its bytes. bpftool is asked for one program at a time, and for machine code only where it has a disassembler.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"

static void print_one(u32 id, bool jited) {
  struct bpf_prog_info sizes = {0}, info = {0};
  u32 size = sizeof(info);
  int fd = bpf_prog_get_fd_by_id(id);
  if (fd < 0 || bpf_obj_get_info_by_fd(fd, &sizes, &size)) fail("program %u", id);
  u32 length = jited ? sizes.jited_prog_len : sizes.xlated_prog_len;
  void *code = calloc(1, length + 1);
  if (jited) {
    info.jited_prog_len = length;
    info.jited_prog_insns = (u64)(unsigned long)code;
  } else {
    info.xlated_prog_len = length;
    info.xlated_prog_insns = (u64)(unsigned long)code;
  }
  size = sizeof(info);
  if (!code || bpf_obj_get_info_by_fd(fd, &info, &size)) fail("code of program %u", id);
  fwrite(&id, sizeof(id), 1, stdout);
  fwrite(&length, sizeof(length), 1, stdout);
  fwrite(code, length, 1, stdout);
  free(code);
  close(fd);
}

int print_code(int count, char **words) {
  if (count < 2) return 2;
  for (int i = 1; i < count; i++) print_one((u32)strtoul(words[i], NULL, 10), strcmp(words[0], "jited") == 0);
  return 0;
}
