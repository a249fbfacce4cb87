// Dispatch queues of sched_ext (struct scx_dispatch_q). Internal to introspect/.
//
// Threads: called by the thread that owns the memory; the results are plain values.
// Source of truth: kernel/sched/ext.c, lib/rhashtable.c.
#pragma once

#include "introspect/scx_tasks.h"

namespace guestscope {

struct ScxQueue {
  GuestVirt address;
  std::uint64_t id = 0;
  std::uint64_t nr = 0;                   ///< tasks in it
  std::uint64_t seq = 0;                  ///< counts what is inserted
  bool priority = false;                  ///< ordered by vtime; else first in, first out
  GuestVirt head, first;                  ///< of its list, in which all its tasks are, in order
  std::optional<unsigned> cpu{}, node{};  ///< whose it is; of what a scheduler has made none
  std::optional<std::size_t> scheduler{};
};

/// Where a queue lies, as far as that is known before it is read.
struct ScxQueuePlace {
  GuestVirt address;
  std::optional<unsigned> cpu{}, node{};
  std::optional<std::size_t> scheduler{};  ///< its number in a list of the caller's
};

/// One for each place, in order; one exchange for some thousand.
std::vector<Result<ScxQueue>> read_scx_queues(SchedContext& context,
                                              std::span<const ScxQueuePlace> places);

/// The queues that a scheduler has made: those in its hash table, whose first struct bucket_table
/// is at `table`.
std::vector<ScxQueuePlace> find_user_queues(SchedContext& context, GuestVirt table,
                                            Problems& problems);

/// Queues whose tasks are to be read, as lists.
ScxList list_of(const ScxQueue& queue, std::string place);

}  // namespace guestscope
