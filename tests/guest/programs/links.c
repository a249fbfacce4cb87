// Links of every type that libbpf or a system call can make; the kernel's types of them that are missing are noted. They live as
// long as this program.
#define _GNU_SOURCE
#include <bpf/btf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <linux/perf_event.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest.h"

#include "links.skel.h"
#include "replace.skel.h"
#include "ops.skel.h"

// Newer than the headers.
enum { kAttachStructOps = 44, kAttachNetfilter = 45, kAttachTcxIngress = 46, kAttachUprobeMulti = 48, kAttachNetkitPrimary = 54, kAttachFentryMulti = 59 };
enum { kProgTypeNetfilter = 32, kStructOpsByLink = 1 << 13 };

static struct bpf_object *object;

static void note_link(const char *name, int fd) {
  if (fd < 0) {
    lacks(name);
    return;
  }
  struct bpf_link_info info = {0};
  u32 size = sizeof(info);
  // Before 5.15 a kprobe is attached without a link: what is open is the event.
  if (bpf_obj_get_info_by_fd(fd, &info, &size)) {
    note("attached %s", name);
  } else {
    note("link %s %u", name, info.id);
  }
}

static struct bpf_program *loaded(const char *name) {
  struct bpf_program *program = bpf_object__find_program_by_name(object, name);
  if (!program) fail("no program %s", name);
  return bpf_program__fd(program) < 0 ? NULL : program;
}

static void note_attached(const char *name, struct bpf_link *link) { note_link(name, link ? bpf_link__fd(link) : -1); }

static void attach_tracing(void) {
  static const char *const kBySection[] = {"at_raw_tp", "at_tp_btf", "at_fentry", "at_fexit", "at_fmod_ret", "at_lsm", "at_tracepoint",
                                           "at_kprobe_multi", "at_iter_task"};
  for (size_t i = 0; i < COUNT(kBySection); i++) {
    struct bpf_program *program = loaded(kBySection[i]);
    if (program) note_attached(kBySection[i], bpf_program__attach(program));
  }
  struct bpf_program *program;
  if ((program = loaded("at_kprobe"))) note_attached("at_kprobe", bpf_program__attach_kprobe(program, false, SYSTEM_CALL "setdomainname"));
  if ((program = loaded("at_kretprobe")))
    note_attached("at_kretprobe", bpf_program__attach_kprobe(program, true, SYSTEM_CALL "setdomainname"));
  if ((program = loaded("at_kret_multi"))) {
    static const char *const kFunctions[] = {"bpf_fentry_test2", "bpf_fentry_test1", "bpf_fentry_test4"};
    static const __u64 kCookies[] = {22, 11, 44};
    LIBBPF_OPTS(bpf_kprobe_multi_opts, options, .syms = (const char **)kFunctions, .cookies = kCookies, .cnt = COUNT(kFunctions),
                .retprobe = true);
    note_attached("at_kret_multi", bpf_program__attach_kprobe_multi_opts(program, NULL, &options));
  }
  if ((program = loaded("at_uprobe"))) note_attached("at_uprobe", bpf_program__attach_uprobe(program, false, -1, "/proc/self/exe", 0x1000));
  if ((program = loaded("at_iter_map"))) {
    union bpf_iter_link_info info = {.map.map_fd = (u32)map_of(object, "iterated")};
    LIBBPF_OPTS(bpf_iter_attach_opts, options, .link_info = &info, .link_info_len = sizeof(info));
    note_attached("at_iter_map", bpf_program__attach_iter(program, &options));
  }
  if ((program = loaded("at_perf_event"))) {
    struct perf_event_attr event = {
        .type = PERF_TYPE_SOFTWARE, .size = sizeof(event), .config = PERF_COUNT_SW_CPU_CLOCK, .sample_period = 1000000000000ULL};
    int fd = (int)syscall(SYS_perf_event_open, &event, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
    note_attached("at_perf_event", fd < 0 ? NULL : bpf_program__attach_perf_event(program, fd));
  }
}

// Those whose target is a place: a group, a network namespace, a device.
static void attach_places(void) {
  enum { kLoopback = 1 };
  int group = open("/sys/fs/cgroup/known", O_RDONLY | O_DIRECTORY), network = open("/proc/self/ns/net", O_RDONLY);
  if (group < 0 || network < 0) fail("places to attach to");
  struct bpf_program *program;
  if ((program = loaded("at_cgroup_skb"))) note_attached("at_cgroup_skb", bpf_program__attach_cgroup(program, group));
  if ((program = loaded("at_connect4"))) note_attached("at_connect4", bpf_program__attach_cgroup(program, group));
  if ((program = loaded("at_flow"))) note_attached("at_flow", bpf_program__attach_netns(program, network));
  if ((program = loaded("at_sk_lookup"))) note_attached("at_sk_lookup", bpf_program__attach_netns(program, network));
  if ((program = loaded("at_xdp"))) note_attached("at_xdp", bpf_program__attach_xdp(program, kLoopback));
  if ((program = loaded("at_tcx")))
    note_link("at_tcx", bpf_link_create(bpf_program__fd(program), kLoopback, (enum bpf_attach_type)kAttachTcxIngress, NULL));
}

// A device of a type that is not made for a kernel without it, and a link to a map of sockets.
static void attach_devices_and_maps(void) {
  struct bpf_program *program;
  if ((program = loaded("at_netkit"))) {
    u32 index = system("ip link add name kit0 type netkit 2>/dev/null") == 0 ? if_nametoindex("kit0") : 0;
    if (index) note("fact netkit_device %u", index);
    errno = ENODEV;
    note_link("at_netkit",
              index ? bpf_link_create(bpf_program__fd(program), (int)index, (enum bpf_attach_type)kAttachNetkitPrimary, NULL) : -1);
  }
  if ((program = loaded("at_sockmap"))) {
    int map = make_map(BPF_MAP_TYPE_SOCKMAP, "k_linked", 4, 4, 4, 0);
    note_link("at_sockmap", bpf_link_create(bpf_program__fd(program), map, BPF_SK_MSG_VERDICT, NULL));
  }
}

static int link_create(u32 first, u32 target, u32 attach_type, const u32 *rest, size_t count) {
  u32 attributes[16] = {first, target, attach_type, 0};
  memcpy(attributes + 4, rest, count * sizeof(*rest));
  return (int)syscall(SYS_bpf, BPF_LINK_CREATE, attributes, sizeof(attributes));
}

static void attach_netfilter(void) {
  struct bpf_insn accept[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = NF_ACCEPT}, {.code = BPF_JMP | BPF_EXIT}};
  LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = (enum bpf_attach_type)kAttachNetfilter);
  int fd = bpf_prog_load((enum bpf_prog_type)kProgTypeNetfilter, "at_netfilter", "GPL", accept, COUNT(accept), &options);
  if (fd < 0) {
    lacks("at_netfilter");
    return;
  }
  note("prog at_netfilter");
  u32 where[] = {NFPROTO_IPV4, NF_INET_LOCAL_OUT, (u32)-128, 0};  // family, hook, priority, flags
  note_link("at_netfilter", link_create((u32)fd, 0, kAttachNetfilter, where, COUNT(where)));
}

// Two offsets of this program's own file.
static void attach_uprobe_multi(void) {
  struct bpf_insn zero[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0}, {.code = BPF_JMP | BPF_EXIT}};
  LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = (enum bpf_attach_type)kAttachUprobeMulti);
  int fd = bpf_prog_load(BPF_PROG_TYPE_KPROBE, "at_uprobe_multi", "GPL", zero, COUNT(zero), &options);
  if (fd < 0) {
    lacks("at_uprobe_multi");
    return;
  }
  static const unsigned long kOffsets[] = {0x2000, 0x2010};
  static const u64 kCookies[] = {7, 8};
  struct {
    u64 path, offsets, reference_counts, cookies;
    u32 count, flags, pid, unused;
  } where = {.path = (u64)(unsigned long)"/proc/self/exe",
             .offsets = (u64)(unsigned long)kOffsets,
             .cookies = (u64)(unsigned long)kCookies,
             .count = COUNT(kOffsets)};
  note_link("at_uprobe_multi", link_create((u32)fd, 0, kAttachUprobeMulti, (const u32 *)&where, sizeof(where) / 4));
}

// One program at three functions of the kernel, by their types.
static void attach_tracing_multi(void) {
  static const char *const kFunctions[] = {"bpf_fentry_test1", "bpf_fentry_test2", "bpf_fentry_test3"};
  struct bpf_insn zero[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0}, {.code = BPF_JMP | BPF_EXIT}};
  struct btf *types = btf__load_vmlinux_btf();
  if (!types) {
    lacks("at_trace_multi");
    return;
  }
  u32 ids[COUNT(kFunctions)];
  for (u32 i = 0; i < COUNT(ids); i++) ids[i] = (u32)btf__find_by_name_kind(types, kFunctions[i], BTF_KIND_FUNC);
  btf__free(types);
  LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = (enum bpf_attach_type)kAttachFentryMulti);
  int fd = bpf_prog_load(BPF_PROG_TYPE_TRACING, "at_trace_multi", "GPL", zero, COUNT(zero), &options);
  if (fd < 0) {
    lacks("at_trace_multi");
    return;
  }
  struct {
    u64 ids, cookies;
    u32 count, unused;
  } where = {.ids = (u64)(unsigned long)ids, .count = COUNT(ids)};
  note_link("at_trace_multi", link_create((u32)fd, 0, kAttachFentryMulti, (const u32 *)&where, sizeof(where) / 4));
}

static void attach_replacement(void) {
  struct bpf_program *target = loaded("a_program_whose_name_is_longer_than_fifteen_characters");
  struct replace_bpf *replace = target ? replace_bpf__open() : NULL;
  if (!replace) return;
  libbpf_print_fn_t print = libbpf_set_print(NULL);
  bpf_program__set_attach_target(replace->progs.at_freplace, bpf_program__fd(target), "replaced");
  if (replace_bpf__load(replace)) {
    lacks("at_freplace");
  } else {
    note("prog at_freplace");
    note_attached("at_freplace", bpf_program__attach_trace(replace->progs.at_freplace));
  }
  libbpf_set_print(print);
}

// A map of the kernel's own type, in use by a link where a kernel has links for it, else for itself.
static void make_struct_ops(void) {
  for (int by_link = 1; by_link >= 0; by_link--) {
    struct ops_bpf *ops = ops_bpf__open();
    if (!ops) fail("struct_ops");
    if (by_link) bpf_map__set_map_flags(ops->maps.k_struct_ops, kStructOpsByLink);
    if (ops_bpf__load(ops) == 0) {
      note("map k_struct_ops");
      // A processor may have no way to let the kernel call a program: the map is there, and empty.
      bool registered = bpf_map__attach_struct_ops(ops->maps.k_struct_ops);
      if (!registered) lacks("registration of k_struct_ops");
      if (registered && by_link) note_link("k_struct_ops", link_create((u32)bpf_map__fd(ops->maps.k_struct_ops), 0, kAttachStructOps, NULL, 0));
      return;
    }
    if (!by_link) lacks("k_struct_ops");
    ops_bpf__destroy(ops);
  }
}

static void choose_targets(struct bpf_object *links) {
  bpf_program__set_attach_target(bpf_object__find_program_by_name(links, "at_fentry"), 0, SYSTEM_CALL "setdomainname");
  bpf_program__set_attach_target(bpf_object__find_program_by_name(links, "at_fexit"), 0, SYSTEM_CALL "setdomainname");
}

void make_links(void) {
  size_t size;
  const void *bytes = links_bpf__elf_bytes(&size);
  object = load_object("links", bytes, size, choose_targets);
  libbpf_print_fn_t print = libbpf_set_print(NULL);
  attach_tracing();
  attach_places();
  attach_devices_and_maps();
  attach_netfilter();
  attach_uprobe_multi();
  attach_tracing_multi();
  attach_replacement();
  make_struct_ops();
  libbpf_set_print(print);
}
