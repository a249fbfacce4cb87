// Tasks: what is known of single threads of the guest, wherever a pointer to one was found.
//
// Threads: called by the thread that owns the memory; the results are plain values.
// Source of truth: include/linux/sched.h, fs/proc/array.c (states); docs/interface.md says which
// field is behind each figure.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "introspect/problem.h"
#include "introspect/sched_context.h"

namespace guestscope {

/// A thread, as the kernel counts: a process is its leader. What this kernel does not have is
/// empty.
struct TaskInfo {
  using Figure = std::optional<std::uint64_t>;

  GuestVirt address;
  std::int64_t pid = 0;
  std::int64_t tgid = 0;
  std::string comm;         ///< guest bytes
  std::string state;        ///< "running", "sleeping", "uninterruptible", "idle", …
  char state_letter = '?';  ///< as ps prints it: R S D T t X Z P I
  std::string sched_class;  ///< as SchedContext::class_name() says
  std::string policy;       ///< "normal", "fifo", "rr", "batch", "idle", "deadline", "ext"
  std::int64_t prio = 0;    ///< the kernel's: 0 to 99 real-time, 100 to 139 fair, below 0 deadline
  std::optional<std::int64_t> nice;
  Figure rt_priority;  ///< 1 to 99 for real-time policies
  bool kernel_thread = false;
  std::optional<unsigned> cpu;  ///< where it runs, waits or ran last
  bool on_cpu = false;
  bool on_rq = false;  ///< runnable, or just being moved
  /// "0-3,7", shared by tasks that have the same; null: the answer has no room for it.
  std::optional<std::shared_ptr<const std::string>> cpus_allowed;
  Figure sum_exec_ns;   ///< time that it has run
  Figure exec_start;    ///< clock_task of its CPU when it was last accounted
  Figure since_run_ns;  ///< by its CPU's clock_task, which stands while that CPU is idle
  Figure voluntary_switches, involuntary_switches;
  Figure migrations;
};

/// One for each address, in order; a null address is kNotMapped. One exchange for a thousand.
std::vector<Result<TaskInfo>> read_tasks(SchedContext& context,
                                         std::span<const GuestVirt> addresses);

struct TaskList {
  std::vector<TaskInfo> tasks;  ///< by pid; the idle tasks (pid 0) of online CPUs first, by CPU
  Problems problems;
};

/// Fills since_run_ns, given the clock_task of the task's CPU.
void set_since_run(TaskInfo& task, std::optional<std::uint64_t> clock_task);

/// Every thread of the guest, by the ids of its first pid namespace.
Result<TaskList> read_all_tasks(SchedContext& context);

/// "normal", …; "policy_N" for one that is not known.
std::string policy_name(std::uint64_t policy);

}  // namespace guestscope
