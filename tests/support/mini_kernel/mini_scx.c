/* The kernel in miniature with sched_ext; with MINI_SCX_STATIC one whose only scheduler is in variables. */
#define MINI_SCX
#include "mini_kernel.c"

struct sched_class ext_sched_class = {1};
u8 scx_switching_all = 1;
u64 scx_nr_rejected = 1;
u64 scx_enable_seq = 1;
#ifdef MINI_SCX_STATIC
u32 scx_ops_enable_state_var = 3;
struct sched_ext_ops scx_ops = {1};
struct rhashtable dsq_hash = {1};
struct scx_dispatch_q** global_dsqs = (struct scx_dispatch_q**)1;
struct scx_exit_info* scx_exit_info = (struct scx_exit_info*)1;
u64 scx_watchdog_timeout = 1;
enum scx_ops_enable_state { SCX_OPS_ENABLING, SCX_OPS_ENABLED, SCX_OPS_DISABLING, SCX_OPS_DISABLED };
enum scx_ops_enable_state use_enable_state;
#else
u32 scx_enable_state_var = 3;
struct scx_sched* scx_root = (struct scx_sched*)1;
struct list_head scx_sched_all = {(struct list_head*)1};
enum scx_enable_state use_enable_state;
struct scx_sched_pcpu use_sched_pcpu;
struct scx_sched_pnode use_sched_pnode;
struct scx_sched use_scx_sched;
#endif
u32 nr_node_ids = 1;
u64 jiffies = 1;
struct clocksource clocksource_jiffies = {1};
enum scx_exit_kind use_exit_kind;
enum scx_ops_flags use_ops_flags;
enum scx_rq_flags use_rq_flags;
enum scx_ops_state use_ops_state;
enum scx_ent_flags use_ent_flags;
enum scx_dsq_lnode_flags use_lnode_flags;
struct bucket_table use_bucket_table;
struct scx_event_stats use_event_stats;
struct scx_exit_info use_exit_info;
