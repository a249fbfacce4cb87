// A map's contents as JSON text, entry by entry, so that a large map never exists as one tree.
//
// Threads: pure functions; the writer is called from within.
#pragma once

#include "daemon/answer.h"
#include "introspect/map_contents.h"

namespace guestscope {

/// Writes the facts of the map as a whole, `"entries":[…]` and, when there are any,
/// `,"problems":[…]` (with `at` relative to the map): members of an object that the caller has
/// begun. False when the reader has gone. `raw`: with key_hex and value_hex. `further`: problems
/// that are told before the contents' own.
bool write_entries(const MapContents& contents, bool raw, const Problems& further,
                   const WriteBody& write);

}  // namespace guestscope
