#include "introspect/fair_average.h"

#include <algorithm>

namespace guestscope {

namespace {

// SCHED_FIXEDPOINT_SHIFT: what weights are scaled by on 64-bit machines, and scaled down again for
// the sums where these have no shift of their own.
constexpr unsigned kFixedPoint = 10;
constexpr std::uint64_t kLeastWeight = 2;  // MIN_SHARES

std::uint64_t scaled(std::uint64_t weight, unsigned shift) {
  if (shift == 0 || weight == 0) return weight;
  return std::max(kLeastWeight, shift < 64 ? weight >> shift : 0);
}

std::uint64_t weighted(const FairShare& entity, std::uint64_t zero, unsigned shift) {
  return (entity.vruntime - zero) * scaled(entity.weight, shift);
}

}  // namespace

std::optional<FairAverage> FairAverage::of(const FairSums& sums, std::span<const FairShare> tree,
                                           const std::optional<FairShare>& current) {
  const unsigned shift = sums.shift.value_or(kFixedPoint);
  // As the kernel adds them: without a look at overflows.
  std::uint64_t sum = 0, weight = 0;
  for (const FairShare& entity : tree) {
    sum += weighted(entity, sums.zero, shift);
    weight += scaled(entity.weight, shift);
  }
  if (sum != static_cast<std::uint64_t>(sums.weighted) || weight != sums.weight)
    return std::nullopt;
  if (current) {
    sum += weighted(*current, sums.zero, shift);
    weight += scaled(current->weight, shift);
  }
  FairAverage average;
  average.zero_ = sums.zero;
  average.weighted_ = static_cast<std::int64_t>(sum);
  average.weight_ = static_cast<std::int64_t>(weight);
  return average;
}

bool FairAverage::is_eligible(std::uint64_t vruntime) const {
  const auto key = static_cast<std::int64_t>(vruntime - zero_);
  std::int64_t own = 0;
  // Too large for a number: far behind the average, or far ahead of it.
  if (__builtin_mul_overflow(key, weight_, &own)) return key < 0;
  return weighted_ >= own;
}

}  // namespace guestscope
