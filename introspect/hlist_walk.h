// Hash tables whose chains end in a null pointer (struct hlist_head: device maps, sockets, local
// storage), walked chain by chain side by side: one exchange for every depth. Internal to
// introspect/.
//
// An element that was met before ends its chain with a problem: no cycle is followed.
// Source of truth: include/linux/list.h.
#pragma once

#include <functional>
#include <unordered_set>
#include <vector>

#include "introspect/kernel_memory.h"
#include "introspect/problem.h"

namespace guestscope {

struct HlistTable {
  GuestVirt buckets;
  std::uint64_t count = 0;        ///< of buckets
  std::size_t bucket_stride = 8;  ///< from one to the next
  std::size_t head = 0;           ///< of the chain's first pointer in a bucket
  std::size_t node = 0;           ///< of the struct hlist_node in an element
  std::size_t element_bytes = 0;  ///< to read of each, from its start on
};

/// False: no more are wanted.
using VisitElement = std::function<bool(GuestVirt address, ByteSpan element)>;

/// Calls `visit` for every element, depth by depth. Returns the order in which the kernel lists
/// them (by bucket, then along the chain), as numbers of the visits. What could not be read is in
/// `problems`. kCorrupt, kUnsupported: no table of that many buckets can be walked.
Result<std::vector<std::uint32_t>> walk_hlists(KernelMemory& memory, const HlistTable& table,
                                               const VisitElement& visit, Problems& problems);

}  // namespace guestscope
