// PauseTotals: for how long the guest was stopped, over all stops since the daemon started.
//
// Pauses are counted by their length in a histogram whose steps are an eighth of a power of two, so
// a percentile is at most 13 % above the true one, and takes no memory that grows.
//
// Threads: none; a plain value.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstdint>

namespace guestscope {

class PauseTotals {
 public:
  using Time = std::chrono::microseconds;

  void add(Time pause) {
    ++count_;
    last_ = pause;
    max_ = std::max(max_, pause);
    total_ += pause;
    ++histogram_[step_of(pause)];
  }

  std::uint64_t count() const { return count_; }
  Time last() const { return last_; }
  Time max() const { return max_; }
  Time total() const { return total_; }
  /// So long or shorter were `share` (0 to 1) of all pauses; 0 when there was none.
  Time percentile(double share) const {
    const auto wanted = static_cast<std::uint64_t>(share * static_cast<double>(count_));
    std::uint64_t seen = 0;
    for (std::size_t step = 0; step < histogram_.size(); ++step)
      if ((seen += histogram_[step]) > wanted) return std::min(Time(end_of(step) - 1), max_);
    return max_;
  }

 private:
  static constexpr unsigned kEighths = 3;   // bits
  static constexpr unsigned kMaxBits = 36;  // 19 hours

  /// 0 to 15 µs one by one, then eight steps for each further bit.
  static std::size_t step_of(Time pause) {
    const auto us = std::min(static_cast<std::uint64_t>(std::max<Time::rep>(pause.count(), 0)),
                             (std::uint64_t{1} << kMaxBits) - 1);
    const int shift =
        std::max(static_cast<int>(std::bit_width(us)) - static_cast<int>(kEighths) - 1, 0);
    return (static_cast<std::size_t>(shift) << kEighths) + (us >> shift);
  }
  /// The first time that belongs to the next step.
  static Time::rep end_of(std::size_t step) {
    const std::size_t shift = step < 2U << kEighths ? 0 : (step >> kEighths) - 1;
    return static_cast<Time::rep>((step - (shift << kEighths) + 1) << shift);
  }

  std::uint64_t count_ = 0;
  Time last_{};
  Time max_{};
  Time total_{};
  std::array<std::uint32_t, (kMaxBits - kEighths + 1) << kEighths> histogram_{};
};

}  // namespace guestscope
