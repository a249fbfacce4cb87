// The tasks of the deadline class, by their deadlines. Servers (which lend time to other classes)
// are in the same tree and are no tasks. Internal to introspect/.
//
// Facts of a task: runtime_ns (left), deadline_ns (of rq.clock), dl_runtime_ns, dl_deadline_ns,
// dl_period_ns, throttled, yielded.
// Source of truth: struct dl_rq in kernel/sched/sched.h, struct sched_dl_entity.
#pragma once

#include <memory>

#include "introspect/class_walk.h"
#include "introspect/sched_context.h"

namespace guestscope {

Result<std::unique_ptr<ClassWalk>> make_dl_walk(SchedContext& context);

}  // namespace guestscope
