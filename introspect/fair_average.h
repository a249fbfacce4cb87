// FairAverage: the weighted average of the virtual run times in a queue of the fair class, which
// decides who is eligible (has had no more than its share) on kernels that pick by deadlines.
//
// Threads: immutable. Source of truth: avg_vruntime() and vruntime_eligible() of
// kernel/sched/fair.c.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace guestscope {

struct FairShare {
  std::uint64_t vruntime = 0;
  std::uint64_t weight = 0;  ///< as the kernel's struct load_weight has it
};

/// What a queue keeps of the entities that are in its tree.
struct FairSums {
  std::uint64_t zero = 0;              ///< the virtual time that the others are relative to
  std::int64_t weighted = 0;           ///< sum of (vruntime - zero) * weight
  std::uint64_t weight = 0;            ///< sum of weights
  std::optional<unsigned> shift = {};  ///< what weights are scaled down by, where that varies
};

class FairAverage {
 public:
  /// `tree`: the entities whose sums these are; `current`: runs, and is in no sum. Nothing when the
  /// entities do not add up to the sums: the kernel is just changing them, or counts differently.
  static std::optional<FairAverage> of(const FairSums& sums, std::span<const FairShare> tree,
                                       const std::optional<FairShare>& current);

  bool is_eligible(std::uint64_t vruntime) const;

 private:
  std::uint64_t zero_ = 0;
  std::int64_t weighted_ = 0;
  std::int64_t weight_ = 0;
};

}  // namespace guestscope
