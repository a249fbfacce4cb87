// The schedulers of sched_ext (struct scx_sched): the one that runs, its sub-schedulers, and those
// that have ended and are still held by who loaded them. Internal to introspect/.
//
// Threads: called by the thread that owns the memory; the results are plain values.
// Source of truth: kernel/sched/ext_internal.h, kernel/sched/ext.c.
#pragma once

#include "introspect/scx_queues.h"

namespace guestscope {

struct ScxScheduler {
  GuestVirt address;  ///< of struct scx_sched, or of the only scheduler's struct sched_ext_ops
  std::string name;   ///< guest bytes
  std::uint64_t flags = 0;
  std::optional<std::int64_t> level{}, bypass_depth{};
  std::optional<bool> aborting{};
  std::optional<std::uint64_t> id{}, cgroup_id{}, slice_ns{}, watchdog_ticks{};
  GuestVirt cgroup_path, exit_info, queue_table, next;
  GuestVirt per_cpu, events;  ///< per-CPU pointers: struct scx_sched_pcpu, scx_event_stats
  GuestVirt nodes;            ///< to struct scx_sched_pnode, or to queues (`nodes_are_queues`)
  bool nodes_are_queues = false;
};

/// The one at the root first. A null `root` has none.
std::vector<ScxScheduler> read_schedulers(SchedContext& context, GuestVirt root,
                                          Problems& problems);
/// On kernels without a pointer to the root, where there is one at most: none while the kernel has
/// no functions of one. kUnsupported: they are not where they are sought.
Result<std::optional<ScxScheduler>> read_static_scheduler(SchedContext& context);
/// Those that have ended, of which tables of functions (BPF_MAP_TYPE_STRUCT_OPS) still know.
std::vector<ScxScheduler> find_ended_schedulers(SchedContext& context,
                                                std::span<const ScxScheduler> running,
                                                Problems& problems);

/// How it ended: "kind", "exit_code", "reason", "message", …; empty while it has not.
Facts describe_exit(SchedContext& context, const ScxNames& names, const ScxScheduler& scheduler,
                    Problems& problems);
/// Counts by name, the sum over CPUs. Empty where this kernel has none.
Facts count_events(SchedContext& context, const ScxScheduler& scheduler, Problems& problems);
/// Its global and bypass queues and those that it has made.
std::vector<ScxQueuePlace> queues_of(SchedContext& context, const ScxScheduler& scheduler,
                                     Problems& problems);

}  // namespace guestscope
