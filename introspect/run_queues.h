// The scheduler's run queue of every possible CPU.
//
// Figures have our canonical names whatever this kernel calls the field; one that it does not have
// is empty. Threads: called by the thread that owns the memory; the results are plain values.
// Source of truth: kernel/sched/sched.h; docs/interface.md says which field is behind each figure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "introspect/accessors.h"
#include "introspect/problem.h"

namespace guestscope {

struct CurrentTask {
  std::int64_t pid = 0;
  std::int64_t tgid = 0;
  std::string comm;  ///< guest bytes
  std::string
      sched_class;     ///< "fair", "rt", "dl", "stop", "idle", "ext"; "class_0x…" for a foreign one
  std::string policy;  ///< "normal", "fifo", "rr", "batch", "idle", "deadline", "ext"
  std::int64_t prio = 0;
  std::string state;  ///< "running", "sleeping", …
};

struct RunQueue {
  using Figure = std::optional<std::uint64_t>;
  using SignedFigure = std::optional<std::int64_t>;

  unsigned cpu = 0;
  bool online = false;
  GuestVirt address;
  bool readable = false;  ///< false for offline CPUs too: their figures mean nothing

  std::uint64_t nr_running = 0;
  Figure nr_switches;
  SignedFigure nr_uninterruptible;
  Figure clock;       ///< ns
  Figure clock_task;  ///< ns
  bool idle = false;  ///< the idle task is current
  std::optional<CurrentTask> curr;

  Figure cfs_nr_running, cfs_h_nr_running, cfs_load_weight;
  Figure cfs_min_vruntime;
  Figure cfs_load_avg, cfs_runnable_avg, cfs_util_avg;
  Figure rt_nr_running, rt_time_ns, rt_runtime_ns;
  std::optional<bool> rt_throttled;
  Figure dl_nr_running, dl_running_bw;
};

struct RunQueueList {
  std::vector<RunQueue> run_queues;  ///< in CPU order
  Problems problems;
};

Result<RunQueueList> read_run_queues(KernelMemory& memory, const RunQueueModel& model,
                                     const KernelModel& kernel, const PerCpuOffsets& per_cpu);

/// The CPUs that are online now.
Result<std::vector<unsigned>> read_online_cpus(KernelMemory& memory, const PerCpuModel& model,
                                               const KernelLocation& location);

}  // namespace guestscope
