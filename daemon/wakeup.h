// Wakeup: lets one thread, asleep in poll(), be woken by others (an eventfd).
//
// Threads: signal() by any; wait() by one. A signal before wait() is not lost.
#pragma once

#include <chrono>
#include <optional>

namespace guestscope {

class Wakeup {
 public:
  Wakeup();
  ~Wakeup();
  Wakeup(const Wakeup&) = delete;
  Wakeup& operator=(const Wakeup&) = delete;

  void signal();
  /// Sleeps until signal(), until `other_fd` (unless negative) is readable, or until the time is
  /// over (never, when empty). True when `other_fd` is readable.
  bool wait(int other_fd, std::optional<std::chrono::milliseconds> timeout);

 private:
  int fd_;
};

}  // namespace guestscope
