// Tasks as sched_ext knows them: task_struct.scx, and the lists that they stand in. Internal to
// introspect/.
//
// Threads: called by the thread that owns the memory; the results are plain values.
// Source of truth: struct sched_ext_entity of include/linux/sched/ext.h, kernel/sched/ext.c.
#pragma once

#include <unordered_map>

#include "introspect/run_queues.h"
#include "introspect/scx_names.h"

namespace guestscope {

struct ScxTask {
  GuestVirt address;
  std::int64_t pid = 0;
  std::string comm;               ///< guest bytes
  GuestVirt queue;                ///< the struct scx_dispatch_q it waits in; null: none
  std::uint64_t runnable_at = 0;  ///< jiffies
  bool waiting = false;           ///< runnable, and not running
  /// "slice_ns", "dsq_vtime", "weight", "flags", "scx_state", "ops_state", "sticky_cpu"
  Facts facts;
};

/// One for each address, in order; one exchange for some thousand.
std::vector<Result<ScxTask>> read_scx_tasks(SchedContext& context, const ScxNames& names,
                                            std::span<const GuestVirt> addresses);

/// The kernel's clock of ticks, by which it tells how long a task has been waiting.
struct ScxClock {
  std::uint64_t jiffies = 0;
  std::uint64_t tick_ns = 0;

  std::optional<std::uint64_t> since(std::uint64_t at) const;
  std::uint64_t nanoseconds(std::uint64_t ticks) const { return ticks * tick_ns; }
};
Result<ScxClock> read_scx_clock(SchedContext& context);

/// A list of tasks: those in a dispatch queue, or those that are runnable on a CPU.
struct ScxList {
  enum class Kind : std::uint8_t { kQueue, kRunnable };
  Kind kind = Kind::kQueue;
  GuestVirt head;              ///< of the struct list_head
  GuestVirt first;             ///< what its `next` says
  std::uint64_t expected = 0;  ///< how many it should be
  std::string place;           ///< for problems: "dsqs[2].tasks"
};

/// The addresses of the tasks in each list, in order. All lists are followed side by side, one
/// exchange a step; long ones after all tasks have been read. A list that leads back into itself or
/// into another one ends there, with a problem.
std::vector<std::vector<GuestVirt>> read_scx_lists(SchedContext& context, const ScxNames& names,
                                                   std::span<const ScxList> lists,
                                                   Problems& problems);

/// Adds to the queues' tasks those of class "ext": the one that runs, those in the local dispatch
/// queue in their order, then those that wait elsewhere, longest waiting first as far as the kernel
/// keeps them so. Their facts: "dsq" ("local", "0x1f"; null: in the scheduler's own hands), those
/// of ScxTask, and "runnable_for_ns". Gives figures["scx"] its "flag_names". Nothing is done on
/// kernels without sched_ext.
void add_scx_tasks(SchedContext& context, std::span<RunQueue> queues, Problems& problems);

}  // namespace guestscope
