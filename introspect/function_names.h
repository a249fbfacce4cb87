// What the functions are called that a map's values point to, as far as their types say that they
// point to functions.
//
// Threads: called by the thread that owns the memory. Nothing fails: what cannot be told has no
// name.
#pragma once

#include "introspect/map_contents.h"

namespace guestscope {

/// Fills contents.functions, for all addresses at once; no read, and no look at the values, when
/// their type has no pointer to a function.
void name_functions(MapReadContext& context, MapContents& contents);

}  // namespace guestscope
