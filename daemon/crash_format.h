// Run queues as text, the way the `runq` command of crash prints them.
//
// Threads: a pure function. Guest text stands there with what is not printable as '.'.
#pragma once

#include <string>
#include <vector>

#include "introspect/run_queues.h"

namespace guestscope {

std::string crash_runq(const std::vector<RunQueue>& queues);

}  // namespace guestscope
