// KernelStats: what the kernel counts of itself as a whole and of each CPU: load, tasks, pressure,
// CPU time, interrupts, and the scheduler's statistics.
//
// Threads: called by the thread that owns the memory; the result is plain values. What a kernel
// does not have is left out; what cannot be read is null or left out, and a problem.
//
// Nobody asks the kernel for the time: "now" is the latest time that it has written down itself
// (the last jiffy, when a CPU last went idle or woke up), so that times which grow by themselves
// (of an idle CPU) are as of then.
// Source of truth: fs/proc/stat.c, fs/proc/loadavg.c, kernel/sched/{cputime,psi,stats,loadavg}.c,
// kernel/time/tick-sched.c; docs/interface.md says which field is behind each figure.
#pragma once

#include "introspect/fact_report.h"
#include "introspect/sched_context.h"

namespace guestscope {

/// Two exchanges.
Result<FactReport> read_kernel_stats(SchedContext& context);

}  // namespace guestscope
