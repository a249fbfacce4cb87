// Stack traces: one of the kernel and one of this program, by build id, both taken when this program renames itself; and one of the
// kernel in which there is code of a module, taken when this program sends a packet through the device "far0" of network.c.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <elf.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/socket.h>
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

// Whatever the packet is: it is broadcast, and of an unknown protocol.
static void send_through_module(const volatile s32 *taken) {
  struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(0x88b5), .sll_halen = 6, .sll_addr = "\xff\xff\xff\xff\xff\xff"};
  to.sll_ifindex = (int)if_nametoindex("far0");
  if (system("ip link set far0 up && ip link set veth0 up")) fail("far0 up");
  int fd = socket(AF_PACKET, SOCK_DGRAM, 0);
  if (fd < 0) fail("packet socket");
  // A device that is up passes packets on only when the kernel has noticed, in the background, that its other end is up too.
  for (int tries = 0; *taken == -1; tries++) {
    if (tries == 500) fail("packet through far0");
    sendto(fd, "packet", 6, 0, (const struct sockaddr *)&to, sizeof(to));
    usleep(10000);
  }
  close(fd);
  if (system("ip link set far0 down && ip link set veth0 down")) fail("far0 down");
}

static void take_module_stack(struct stacks_bpf *stacks) {
  if (!if_nametoindex("far0")) {
    lacks("k_stacks_mod");
    return;
  }
  struct bpf_link *link = bpf_program__attach(stacks->progs.take_module_stack);
  if (!link) fail("attach of take_module_stack");
  send_through_module(&stacks->data->module_stack);
  bpf_link__destroy(link);
  note("map k_stacks_mod");
  note("fact module_stack %d", stacks->data->module_stack);
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
  take_module_stack(stacks);
  note("map k_stacks");
  note("map k_stacks_id");
  note("fact kernel_stack %d", stacks->data->kernel_stack);
  note("fact user_stack %d", stacks->data->user_stack);
}
