#include "daemon/wakeup.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstdint>
#include <system_error>

namespace guestscope {

Wakeup::Wakeup() : fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
}

Wakeup::~Wakeup() { close(fd_); }

void Wakeup::signal() {
  const std::uint64_t one = 1;
  // Fails only when the counter is full, and then the sleeper is awake already.
  [[maybe_unused]] const auto written = write(fd_, &one, sizeof one);
}

bool Wakeup::wait(int other_fd, std::optional<std::chrono::milliseconds> timeout) {
  std::array<pollfd, 2> fds = {{{.fd = fd_, .events = POLLIN, .revents = 0},
                                {.fd = other_fd, .events = POLLIN, .revents = 0}}};
  // A time that is over already is no wait at all; poll() would take a negative one for "for ever".
  const int ms =
      timeout ? static_cast<int>(std::clamp<std::int64_t>(timeout->count(), 0, INT_MAX)) : -1;
  const int n = poll(fds.data(), fds.size(), ms);
  if (n > 0 && fds[0].revents != 0) {
    std::uint64_t count = 0;
    [[maybe_unused]] const auto got = read(fd_, &count, sizeof count);
  }
  return n > 0 && fds[1].revents != 0;
}

}  // namespace guestscope
