// Run queues as text, the way the `runq` command of crash prints them.
//
// Threads: a pure function. Guest text stands there with what is not printable as '.'.
#pragma once

#include <span>
#include <string>

#include "introspect/run_queues.h"

namespace guestscope {

std::string crash_runq(std::span<const RunQueue> queues);

}  // namespace guestscope
