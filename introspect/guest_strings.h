// Strings that kernel structures point to (names of kernfs nodes, of modules), many at once.
//
// Two exchanges at most: a string that crosses a page border may end before it, and what follows
// may not be mapped. Threads: the one that owns the memory. Text is as the guest has it, not
// necessarily UTF-8.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "introspect/kernel_memory.h"

namespace guestscope {

/// The text at each address up to its terminator. Of one that has none among its first `max` bytes
/// (4096 at most), these. A null pointer is kNotMapped.
std::vector<Result<std::string>> read_strings(KernelMemory& memory,
                                              std::span<const GuestVirt> addresses,
                                              std::size_t max);

}  // namespace guestscope
