// The tasks of the fair class: those in a queue's tree, and those in the queues of the groups in
// it. Internal to introspect/.
//
// Facts of a task: vruntime, deadline, slice_ns, vlag, eligible, load_weight, h_load, delayed,
// depth, group; those that the kernel has.
// Source of truth: struct cfs_rq in kernel/sched/sched.h, kernel/sched/fair.c.
#pragma once

#include <memory>

#include "introspect/class_walk.h"
#include "introspect/sched_context.h"
#include "introspect/task_groups.h"

namespace guestscope {

/// `groups` (null: no names of groups) is to be stepped along with the walk.
Result<std::unique_ptr<ClassWalk>> make_fair_walk(SchedContext& context, TaskGroups* groups);

}  // namespace guestscope
