// What sched_ext keeps for each CPU (struct rq.scx). Internal to introspect/.
//
// Threads: called by the thread that owns the memory; the results are plain values.
// Source of truth: struct scx_rq of kernel/sched/sched.h.
#pragma once

#include "introspect/scx_schedulers.h"

namespace guestscope {

struct ScxCpu {
  unsigned cpu = 0;
  Facts facts;                          ///< "flags", "nr_running", …
  std::uint64_t nr_running = 0;         ///< tasks of the class that are runnable there
  GuestVirt runnable, first_runnable;   ///< those that wait: the list's head, and its first
  std::vector<ScxQueuePlace> queues{};  ///< "local", and what else the kernel has
};

/// One for each possible CPU whose queue can be read. `root` may be null: none is loaded.
std::vector<ScxCpu> read_scx_cpus(SchedContext& context, const ScxNames& names,
                                  const ScxScheduler* root, Problems& problems);

}  // namespace guestscope
