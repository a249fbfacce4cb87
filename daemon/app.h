// The daemon as named steps: open kernel files, watch the guests, serve or print, leave.
//
// Threads: main's. Exit status: 0 done or stopped by a signal; 1 could not do it.
#pragma once

#include "daemon/options.h"

namespace guestscope {

/// Signals that end the daemon are blocked in every thread and waited for here: call before threads
/// exist.
void block_stop_signals();
int run_app(const AppOptions& options);

}  // namespace guestscope
