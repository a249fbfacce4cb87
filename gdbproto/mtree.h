// The RAM map from QEMU's `info mtree -f`.
//
// The text lists every flat view (the address space as the machine decodes it) with the address
// spaces that use it. Wanted is the view of address space "memory", the one that physical reads of
// the stub go to (cpu_physical_memory_read). Of its ranges only plain RAM and ROM are taken, also
// as non-volatile memory; "i/o", "romd" (a flash chip, which a write turns into a device) and
// "ramd" (memory of a real device) are not. Lines that mean nothing are passed over: the text
// changes between releases. A pure function.
//
// Source of truth: QEMU, system/memory.c, mtree_print_flatview().
#pragma once

#include <string_view>
#include <vector>

#include "arch/ram_map.h"
#include "arch/result.h"

namespace guestscope::gdb {

/// A range of the flat view: one piece of one memory region, so one piece of host memory too.
struct RamRange {
  RamBlock block;
  bool writable = false;  ///< RAM, not ROM
};

/// The ranges in the view's order, not joined as in the map. kUnsupported as for parse_mtree().
Result<std::vector<RamRange>> parse_mtree_ranges(std::string_view text);

/// kUnsupported when there is no such view, or no RAM in it.
Result<RamMap> parse_mtree(std::string_view text);

}  // namespace guestscope::gdb
