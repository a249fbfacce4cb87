// What the scheduler's decoders found, as the objects of the interface (docs/interface.md).
//
// Threads: pure functions.
#pragma once

#include "daemon/json_value.h"
#include "introspect/run_queues.h"

namespace guestscope {

Json task_json(const TaskInfo& task);
/// `with_tasks`: everything runnable there as well.
Json run_queue_json(const RunQueue& queue, bool with_tasks);

}  // namespace guestscope
