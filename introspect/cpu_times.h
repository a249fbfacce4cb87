// CpuTimes: where each CPU's time went, as /proc/stat has it. Internal to introspect/.
//
// The times of a CPU that sleeps without ticks grow by themselves: what has been added up is
// completed up to a time given, as get_idle_time() of the kernel does up to now.
// Threads: one. Source of truth: fs/proc/stat.c, kernel/time/tick-sched.c, kernel/sched/cputime.c.
#pragma once

#include <optional>
#include <vector>

#include "introspect/facts.h"
#include "introspect/sched_context.h"
#include "introspect/struct_batch.h"

namespace guestscope {

class CpuTimes {
 public:
  /// Of the CPUs in this order.
  CpuTimes(SchedContext& context, std::span<const unsigned> cpus);

  // To be read together with others'.
  StructBatch& stats() { return stats_; }
  StructBatch& ticks() { return ticks_; }

  /// The latest time of CLOCK_MONOTONIC that these structures have.
  std::uint64_t latest() const;

  struct State {
    bool online = false;
    /// The kernel stops ticks (tick_nohz_active); not known where symbols of variables are missing:
    /// then neither are the times of a CPU that idles, on kernels whose times depend on it.
    std::optional<bool> tickless{};
    bool waits_for_io = false;  ///< a task that was last here waits for I/O
    std::uint64_t now = 0;
  };
  /// {"user": ns, …}; empty when this kernel has none.
  Result<Facts> facts(std::size_t index, const State& state) const;

 private:
  Result<std::pair<std::uint64_t, std::uint64_t>> idle_and_iowait(std::size_t index,
                                                                  const StructView& stat,
                                                                  const State& state) const;

  SchedContext& context_;
  StructBatch stats_;
  StructBatch ticks_;
};

/// The instance of a per-CPU symbol on each CPU; nothing when this kernel has no such symbol.
void add_on_cpus(SchedContext& context, StructBatch& batch, std::string_view symbol,
                 std::span<const unsigned> cpus);
/// An empty one when this kernel lacks it.
const StructLayout& layout_or_none(SchedContext& context, const StructNeed& need);

}  // namespace guestscope
