// ReadPace: how much to ask a stub for between two looks at the clock, so that the pause budget is
// kept whatever the stub's speed: as much as takes an eighth of it.
//
// It starts low, since a stub's first answer may be a slow one's, grows to what half of that time
// is enough for, and halves when it was too much. At a stub's usual speed (90 MB/s) the most takes
// about 20 ms, and a pause budget of 400 ms.
//
// Threads: none; a plain value.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <span>

#include "arch/phys_memory.h"

namespace guestscope {

class ReadPace {
 public:
  static constexpr std::size_t kFewestBytes = 16 << 10;
  static constexpr std::size_t kFirstBytes = 64 << 10;
  static constexpr std::size_t kMostBytes = 2 << 20;
  static constexpr std::int64_t kMostGrowth = 8;
  static constexpr std::size_t kBytesPerRead = 1 << 10;  ///< what a smaller read costs as well
  static constexpr int kStepsPerBudget = 8;

  explicit ReadPace(std::chrono::nanoseconds budget) : share_(budget / kStepsPerBudget) {}

  /// How many of the reads to ask for now: at least one.
  std::size_t next(std::span<const PhysRead> reads) const {
    std::size_t bytes = 0;
    std::size_t count = 0;
    while (count < reads.size() && bytes < step_bytes_) bytes += cost(reads[count++]);
    return count;
  }
  /// All of them take less than half of the budget.
  bool fits_budget(std::span<const PhysRead> reads) const {
    std::size_t bytes = 0;
    for (const PhysRead& read : reads) bytes += cost(read);
    return bytes <= step_bytes_ * (kStepsPerBudget / 2);
  }
  /// These took so long. That a few are answered at once says nothing about many.
  void took(std::span<const PhysRead> step, std::chrono::nanoseconds time) {
    std::size_t bytes = 0;
    for (const PhysRead& read : step) bytes += cost(read);
    if (time > share_) {
      step_bytes_ = std::max(step_bytes_ / 2, kFewestBytes);
    } else if (bytes >= step_bytes_ / 2) {
      const auto half_shares = share_ / 2 / std::max(time, std::chrono::nanoseconds(1));
      const auto factor = std::clamp<std::int64_t>(half_shares, 1, kMostGrowth);
      step_bytes_ = std::clamp(bytes * static_cast<std::size_t>(factor), step_bytes_, kMostBytes);
    }
  }
  std::size_t step_bytes() const { return step_bytes_; }

 private:
  static std::size_t cost(const PhysRead& read) {
    return std::max(read.into.size(), kBytesPerRead);
  }

  std::chrono::nanoseconds share_;
  std::size_t step_bytes_ = kFirstBytes;
};

}  // namespace guestscope
