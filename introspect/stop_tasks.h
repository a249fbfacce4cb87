// The task of the stop class, of which each CPU has one: found when it is runnable. Internal to
// introspect/. Source of truth: rq.stop in kernel/sched/sched.h, kernel/sched/stop_task.c.
#pragma once

#include <memory>

#include "introspect/class_walk.h"
#include "introspect/sched_context.h"

namespace guestscope {

Result<std::unique_ptr<ClassWalk>> make_stop_walk(SchedContext& context);

}  // namespace guestscope
