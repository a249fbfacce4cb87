// sched_ext, the class of schedulers that are BPF programs: which one is loaded, how it goes, its
// dispatch queues and what waits in them, and how the last one ended.
//
// Threads: called by the thread that owns the memory; the results are plain values.
// Source of truth: kernel/sched/ext.c, kernel/sched/ext_internal.h; docs/interface.md says which
// field is behind each fact.
#pragma once

#include "introspect/facts.h"
#include "introspect/problem.h"
#include "introspect/sched_context.h"

namespace guestscope {

struct ScxReport {
  bool supported = false;  ///< the kernel has sched_ext at all
  Facts facts;             ///< empty when it has not
  Problems problems;
};

/// kUnsupported: the kernel has sched_ext, but its state is not where it is sought.
Result<ScxReport> read_scx(SchedContext& context);

}  // namespace guestscope
