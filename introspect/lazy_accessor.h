// LazyAccessor: a cache that is filled once the guest has booted far enough, and what became of the
// attempts.
//
// attempt() runs try_init until it succeeds once; from then on the value stays until reset() (the
// guest rebooted). The last error is kept. An error for which waiting cannot help (is_transient)
// makes the accessor `failed`, and it is not tried again before reset().
//
// Threads: one; status() copies are plain values.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "arch/result.h"

namespace guestscope {

enum class AccessorState : std::uint8_t { kWaiting, kReady, kFailed };

struct AccessorStatus {
  AccessorState state = AccessorState::kWaiting;
  std::uint64_t attempts = 0;
  std::optional<Error> last_error{};
  std::optional<std::chrono::milliseconds> ready_after{};  ///< from the first look at this boot
};

/// So many failed attempts are worth a warning: at one each 250 ms, a guest that boots normally
/// stays below.
inline constexpr std::uint64_t kAttemptsBeforeWarning = 10;

template <typename T>
class LazyAccessor {
 public:
  using Clock = std::chrono::steady_clock;

  /// Empty until filled.
  const T* get() const { return value_ ? &*value_ : nullptr; }
  const AccessorStatus& status() const { return status_; }
  bool wants_attempt() const { return status_.state == AccessorState::kWaiting; }

  /// Calls `try_init()` (a Result<T>) unless filled or failed. True exactly once in a boot: when
  /// this failed attempt is the one to be logged as a warning, after kAttemptsBeforeWarning
  /// failures or at a permanent one.
  template <typename TryInit>
  bool attempt(TryInit&& try_init, Clock::time_point now = Clock::now()) {
    if (!wants_attempt()) return false;
    ++status_.attempts;
    if (!started_) started_ = now;
    Result<T> result = std::forward<TryInit>(try_init)();
    if (result) {
      value_ = *std::move(result);
      status_.state = AccessorState::kReady;
      status_.last_error.reset();
      status_.ready_after = std::chrono::duration_cast<std::chrono::milliseconds>(now - *started_);
      return false;
    }
    const bool permanent = !is_transient(result.error().code);
    if (permanent) status_.state = AccessorState::kFailed;
    status_.last_error = std::move(result).error();
    const bool warn = !warned_ && (permanent || status_.attempts >= kAttemptsBeforeWarning);
    warned_ = warned_ || warn;
    return warn;
  }

  /// Why no attempt can be made just now; not counted as one.
  void wait_for(Error reason, Clock::time_point now = Clock::now()) {
    if (!wants_attempt()) return;
    if (!started_) started_ = now;
    status_.last_error = std::move(reason);
  }

  /// Empties it: another boot begins.
  void reset() {
    value_.reset();
    status_ = {};
    warned_ = false;
    started_.reset();
  }

 private:
  std::optional<T> value_;
  AccessorStatus status_;
  std::optional<Clock::time_point> started_;
  bool warned_ = false;
};

}  // namespace guestscope
