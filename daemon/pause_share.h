// PauseShare: how much of the time the guest may be stopped, as a token bucket: credit comes with
// the time that passes, every pause takes from it, and the next snapshot waits until there is some
// again. Some seconds' worth may be saved up, so that a few requests after a quiet time do not wait
// at all.
//
// Threads: none; a plain value.
#pragma once

#include <algorithm>
#include <chrono>

namespace guestscope {

class PauseShare {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kSavedUp{5};  ///< credit of so long at most

  /// `share` of the time, above 0; 1 and above: no limit. `longest_wait`: for one snapshot.
  PauseShare(double share, std::chrono::milliseconds longest_wait)
      : share_(share), longest_wait_(longest_wait), credit_(most()) {}

  void paused(Clock::time_point now, std::chrono::microseconds pause) {
    credit_ = std::min(credit_ + Time(now - since_) * share_, most()) - Time(pause);
    since_ = now;
  }
  /// When the next snapshot may be taken.
  Clock::time_point next() const {
    if (share_ >= 1 || credit_ >= Time(0)) return since_;
    const Time wait = std::min(-credit_ / share_, Time(longest_wait_));
    return since_ + std::chrono::ceil<Clock::duration>(wait);
  }

 private:
  using Time = std::chrono::duration<double>;  // seconds

  Time most() const { return Time(kSavedUp) * share_; }

  double share_;
  std::chrono::milliseconds longest_wait_;
  Time credit_;
  Clock::time_point since_ = Clock::now();
};

}  // namespace guestscope
