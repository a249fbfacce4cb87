// The scheduler's run queue of every possible CPU.
//
// Threads: called by the thread that owns the memory; the results are plain values.
// Source of truth: kernel/sched/sched.h; docs/interface.md says which field is behind each figure.
#pragma once

#include <optional>
#include <vector>

#include "introspect/facts.h"
#include "introspect/tasks.h"

namespace guestscope {

/// A task on a queue, or the one that runs.
struct QueuedTask {
  TaskInfo task{};
  bool current = false;
  Facts facts{};  ///< of its class: "vruntime", "deadline", "group", …
};

struct RunQueue {
  unsigned cpu = 0;
  bool online = false;
  GuestVirt address;
  GuestVirt rt_array, cfs_root;  ///< inside it: of the queued real-time and fair tasks
  bool readable = false;         ///< false for offline CPUs too: their figures mean nothing

  std::uint64_t nr_running = 0;
  bool idle = false;  ///< the idle task is current
  std::optional<std::uint64_t> clock_task;
  std::optional<TaskInfo> curr;
  /// All figures that this kernel has, by our names: "nr_running", "cfs": {"nr_running", …}, …
  Facts figures;
  /// Everything runnable here, class by class, and within a class in the order in which the
  /// scheduler keeps it. The current task is always there.
  std::vector<QueuedTask> tasks;
};

struct RunQueueList {
  std::vector<RunQueue> run_queues;  ///< in CPU order
  Problems problems;
};

/// `with_tasks`: also what waits there. Without, nothing is read for it.
Result<RunQueueList> read_run_queues(SchedContext& context, bool with_tasks);

/// The CPUs that are online now.
Result<std::vector<unsigned>> read_online_cpus(KernelMemory& memory, const PerCpuModel& model,
                                               const KernelLocation& location);

}  // namespace guestscope
