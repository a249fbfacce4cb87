/* sched_ext of a kernel in miniature (scx.vmlinux): see mini_kernel.h. In a namespace of its own,
 * since tasks and run queues have members here that they have not in the other kernels. */
#pragma once

#ifdef __cplusplus
#include "mini_kernel.h"
namespace mini_scx {
using namespace mini;
#endif

struct rhash_head {
  MINI_PTR(struct rhash_head) next;
};
struct bucket_table {
  u32 size;
  u32 nest;
  MINI_PTR(struct bucket_table) future_tbl;
  MINI_PTR(void) buckets[4];
};
struct rhashtable {
  u32 key_len;
  MINI_PTR(struct bucket_table) tbl;
};
struct clocksource {
  u64 mask;
  u32 mult;
  u32 shift;
};

#ifndef __cplusplus
enum scx_enable_state { SCX_ENABLING, SCX_ENABLED, SCX_DISABLING, SCX_DISABLED };
enum scx_exit_kind {
  SCX_EXIT_NONE,
  SCX_EXIT_UNREG = 64,
  SCX_EXIT_ERROR = 1024,
  SCX_EXIT_ERROR_STALL = 1026
};
enum scx_ops_flags { SCX_OPS_ENQ_LAST = 2, SCX_OPS_SWITCH_PARTIAL = 8 };
enum scx_rq_flags { SCX_RQ_ONLINE = 1, SCX_RQ_CAN_STOP_TICK = 2 };
enum scx_ops_state {
  SCX_OPSS_NONE,
  SCX_OPSS_QUEUEING,
  SCX_OPSS_QUEUED,
  SCX_OPSS_DISPATCHING,
  SCX_OPSS_QSEQ_SHIFT = 2
};
enum scx_ent_flags {
  SCX_TASK_QUEUED = 1,
  SCX_TASK_DEQD_FOR_SLEEP = 8,
  SCX_TASK_STATE_SHIFT = 8,
  SCX_TASK_STATE_MASK = 0x700,
  SCX_TASK_NONE = 0,
  SCX_TASK_READY = 0x300,
  SCX_TASK_ENABLED = 0x400,
};
/* No scx_dsq_id_flags: compilers without ENUM64 cut such values off. */
enum scx_dsq_lnode_flags { SCX_DSQ_LNODE_ITER_CURSOR = 1 };
#endif

struct scx_dispatch_q {
  u32 lock;
  struct list_head list;
  struct rb_root priq;
  u32 nr;
  u32 seq;
  u64 id;
  struct rhash_head hash_node;
};
struct scx_dsq_list_node {
  struct list_head node;
  u32 flags;
};
struct sched_ext_entity {
  MINI_PTR(struct scx_dispatch_q) dsq;
  struct scx_dsq_list_node dsq_list;
  u32 flags;
  u32 weight;
  s32 sticky_cpu;
  struct mini_atomic ops_state;
  struct list_head runnable_node;
  u64 runnable_at;
  u64 slice;
  u64 dsq_vtime;
};
struct scx_rq {
  struct scx_dispatch_q local_dsq;
  struct list_head runnable_list;
  u32 nr_running;
  u32 flags;
  MINI_PTR(void) cpus_to_kick;
};

struct scx_event_stats {
  u64 SCX_EV_SELECT_CPU_FALLBACK;
  u64 SCX_EV_BYPASS_DURATION;
};
struct scx_sched_pcpu {
  u64 flags;
  struct scx_event_stats event_stats;
  struct scx_dispatch_q bypass_dsq;
};
struct scx_sched_pnode {
  u64 padding;
  struct scx_dispatch_q global_dsq;
};
struct scx_exit_info {
  u32 kind;
  u64 exit_code;
  MINI_PTR(char) reason;
  MINI_PTR(char) msg;
};
struct sched_ext_ops {
  u64 flags;
  char name[32];
  MINI_PTR(struct scx_sched) priv;
};
struct scx_sched {
  struct sched_ext_ops ops;
  struct rhashtable dsq_hash;
  MINI_PTR(MINI_PTR(struct scx_sched_pnode)) pnode;
  MINI_PTR(struct scx_sched_pcpu) pcpu;
  s32 bypass_depth;
  u8 aborting;
  s32 level;
  struct list_head all;
  MINI_PTR(char) cgrp_path;
  u64 watchdog_timeout;
  MINI_PTR(struct scx_exit_info) exit_info;
};

#ifdef __cplusplus
struct task_struct {
  mini::task_struct base;
  sched_ext_entity scx;
};
struct rq {
  mini::rq base;
  scx_rq scx;
};
}  // namespace mini_scx
#endif
