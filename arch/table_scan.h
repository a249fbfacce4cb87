// scan_tables(): what page tables map in a part of the address space, without asking for each page.
//
// Tables are read whole (4 KiB cost no more than 8 bytes) and level by level, all of a level in one
// batch of reads, so the exchanges grow with the depth of the tree and not with its width. Only
// runs around executable memory are wanted, which keeps the result small however much data is
// mapped.
//
// Hostile tables cost bounded work: a table is followed once, wherever else it appears, and tables,
// runs and bytes in flight have limits. Beyond a limit the rest is left out and `complete` is
// false.
//
// Threads: none shared. Blocks on memory. Tables outside RAM are skipped; an Error means that
// memory could not be read.
#pragma once

#include <cstdint>
#include <vector>

#include "arch/address.h"
#include "arch/paging.h"
#include "arch/phys_memory.h"
#include "arch/result.h"

namespace guestscope {

/// All tables of one scan: 16384 of 4 KiB map 32 GiB of small pages; a kernel's vmalloc area has
/// hundreds of MiB, seldom some GiB. The image itself lies in the first tables of its level.
inline constexpr std::size_t kMaxScanTableBytes = 64U << 20;
/// Tables asked for in one exchange.
inline constexpr std::size_t kScanStepBytes = 8U << 20;
/// Runs: each module and JIT page makes a few; distribution kernels with all their drivers loaded
/// come to some 10,000.
inline constexpr std::size_t kMaxScanRuns = 1U << 18;

/// Pages that are contiguous, virtually and physically, and alike.
struct MappedRun {
  GuestVirt begin;
  GuestPhys phys;
  std::uint64_t size = 0;
  bool executable = false;

  /// Whether `next` goes on where this ends, in both address spaces.
  bool meets(const MappedRun& next) const {
    return begin.wrapping_add(size) == next.begin && phys.wrapping_add(size) == next.phys;
  }
};

struct TableScan {
  /// By address, disjoint, alike neighbours joined: every executable run, what follows one without
  /// a gap, and some others.
  std::vector<MappedRun> runs;
  bool complete = true;
};

/// What is mapped from `first` to the end of the address space, which must be the upper end of what
/// the regime covers.
Result<TableScan> scan_tables(const PagingRegime& regime, PhysMemory& memory, GuestVirt first);

}  // namespace guestscope
