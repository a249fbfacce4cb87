// The tasks of the real-time class, by priority and for each in the order of its list; on kernels
// that group them, those of a group in the group's place. Internal to introspect/.
//
// Facts of a task: time_slice (ticks left of it, for round robin), throttled, group; those that the
// kernel has.
// Source of truth: struct rt_rq in kernel/sched/sched.h, kernel/sched/rt.c.
#pragma once

#include <memory>

#include "introspect/class_walk.h"
#include "introspect/sched_context.h"
#include "introspect/task_groups.h"

namespace guestscope {

/// `groups` (null: no names of groups) is to be stepped along with the walk.
Result<std::unique_ptr<ClassWalk>> make_rt_walk(SchedContext& context, TaskGroups* groups);

}  // namespace guestscope
