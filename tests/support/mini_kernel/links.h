/* Links of a kernel in miniature (links.vmlinux), and what they point to: see mini_kernel.h. In a
 * namespace of its own, since other parts have structures of the same names with other members. */
#pragma once

#include "mini_kernel.h"

#ifdef __cplusplus
namespace mini_links {
using namespace mini;
#endif

#ifndef __cplusplus
enum bpf_link_type {
  BPF_LINK_TYPE_UNSPEC,
  BPF_LINK_TYPE_RAW_TRACEPOINT,
  BPF_LINK_TYPE_TRACING,
  BPF_LINK_TYPE_CGROUP,
  BPF_LINK_TYPE_XDP = 6,
  BPF_LINK_TYPE_PERF_EVENT,
  BPF_LINK_TYPE_KPROBE_MULTI,
  BPF_LINK_TYPE_STRUCT_OPS,
  BPF_LINK_TYPE_UPROBE_MULTI = 12,
};
enum bpf_attach_type { BPF_CGROUP_INET_INGRESS, BPF_TRACE_FENTRY = 24, BPF_XDP = 37 };
enum mini_event_flags {
  TRACE_EVENT_FL_TRACEPOINT = 16,
  TRACE_EVENT_FL_KPROBE = 32,
  TRACE_EVENT_FL_UPROBE = 64
};
enum perf_type_id { PERF_TYPE_HARDWARE, PERF_TYPE_SOFTWARE };
enum perf_sw_ids { PERF_COUNT_SW_CPU_CLOCK };
#endif

struct bpf_link {
  struct mini_atomic refcnt;
  u32 id;
  u32 type;
  MINI_PTR(void) ops;
  MINI_PTR(struct bpf_prog) prog;
};

struct bpf_tramp_link {
  struct bpf_link link;
  u64 cookie;
};
struct bpf_trampoline {
  u64 padding;
  u64 key;
};
struct bpf_tracing_link {
  struct bpf_tramp_link link;
  u32 attach_type;
  MINI_PTR(struct bpf_trampoline) trampoline;
  MINI_PTR(struct bpf_prog) tgt_prog;
};

struct tracepoint {
  MINI_PTR(char) name;
};
struct bpf_raw_event_map {
  u64 padding;
  MINI_PTR(struct tracepoint) tp;
};
struct bpf_raw_tp_link {
  struct bpf_link link;
  MINI_PTR(struct bpf_raw_event_map) btp;
};

struct net_device {
  char name[16];
  u32 ifindex;
};
struct bpf_xdp_link {
  u64 padding; /* the link need not come first */
  struct bpf_link link;
  MINI_PTR(struct net_device) dev;
};

struct bpf_kprobe_multi_link {
  struct bpf_link link;
  MINI_PTR(u64) addrs;
  MINI_PTR(u64) cookies;
  u32 cnt;
  u32 flags;
};

struct file {
  u64 padding;
  MINI_PTR(void) private_data;
};
struct trace_event_call {
  u64 padding;
  MINI_PTR(char) name;
  u32 flags;
};
struct perf_event {
  struct {
    u32 type;
    u64 config;
  } attr;
  MINI_PTR(struct trace_event_call) tp_event;
  u64 bpf_cookie;
};
struct bpf_perf_link {
  struct bpf_link link;
  MINI_PTR(struct file) perf_file;
};

struct list_head {
  MINI_PTR(struct list_head) next;
  MINI_PTR(struct list_head) prev;
};
struct trace_probe_event {
  u64 padding;
  struct trace_event_call call;
  struct list_head probes;
};
struct trace_probe {
  u64 padding;
  struct list_head list;
};
struct trace_kprobe {
  struct {
    struct {
      u64 nmissed;
      MINI_PTR(void) addr;
      u32 offset;
    } kp;
    MINI_PTR(void) handler;
    s32 nmissed;
  } rp;
  MINI_PTR(char) symbol;
  struct trace_probe tp;
};

struct qstr {
  u64 hash_len;
  MINI_PTR(char) name;
};
struct dentry {
  u64 padding;
  MINI_PTR(struct dentry) d_parent;
  struct qstr d_name;
};
struct vfsmount {
  MINI_PTR(struct dentry) mnt_root;
};
struct mount {
  MINI_PTR(struct mount) mnt_parent;
  MINI_PTR(struct dentry) mnt_mountpoint;
  struct vfsmount mnt;
};
struct path {
  MINI_PTR(struct vfsmount) mnt;
  MINI_PTR(struct dentry) dentry;
};
struct bpf_uprobe {
  u64 offset;
  u64 ref_ctr_offset;
  u64 cookie;
};
struct bpf_uprobe_multi_link {
  struct path path;
  struct bpf_link link;
  u32 cnt;
  MINI_PTR(struct bpf_uprobe) uprobes;
  MINI_PTR(struct task_struct) task;
};

#ifdef __cplusplus
}  // namespace mini_links
#endif
