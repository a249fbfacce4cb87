// The figures of a run queue, as one table: our names, and the kernel's fields behind them.
// Internal to introspect/.
#pragma once

#include "introspect/facts.h"
#include "introspect/layouts.h"

namespace guestscope {

/// struct rq: first the fields of RqField, then those of the figures.
extern const StructNeed kRunQueueNeed;

enum RqField : std::size_t {
  kRqNrRunning,
  kRqCurr,
  kRqIdle,
  kRqCpu,
  kRqClockTask,
  kRqDonor,
  kRqIdleState,
  kRqCore,
  kRqFirstFigure
};

/// All figures that this kernel has, in groups ("cfs": {…}), in the order of the table. `core`: the
/// queue that keeps what concerns the whole core (rq.core), whose own figures go stale elsewhere;
/// null: that cannot be read, and these are left out.
Facts run_queue_figures(const StructView& rq, const StructView* core);

}  // namespace guestscope
