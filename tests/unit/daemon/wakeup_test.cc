#include "daemon/wakeup.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <thread>

namespace guestscope {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

struct Pipe {
  Pipe() { REQUIRE(::pipe(fds.data()) == 0); }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() {
    ::close(fds[0]);
    ::close(fds[1]);
  }
  void write() const { REQUIRE(::write(fds[1], "x", 1) == 1); }
  int reader() const { return fds[0]; }
  std::array<int, 2> fds{};
};

TEST_CASE("a signal before the wait is not lost, and wakes once however often it was given") {
  Wakeup wakeup;
  wakeup.signal();
  wakeup.signal();
  CHECK_FALSE(wakeup.wait(-1, std::nullopt));
  const auto start = Clock::now();
  CHECK_FALSE(wakeup.wait(-1, 20ms));
  CHECK(Clock::now() - start >= 20ms);
}

TEST_CASE("a signal ends a wait without limit") {
  Wakeup wakeup;
  std::thread other([&] {
    std::this_thread::sleep_for(5ms);
    wakeup.signal();
  });
  CHECK_FALSE(wakeup.wait(-1, std::nullopt));
  other.join();
}

TEST_CASE("only the other descriptor's data counts as readable") {
  Wakeup wakeup;
  const Pipe pipe;
  CHECK_FALSE(wakeup.wait(pipe.reader(), 0ms));
  wakeup.signal();
  CHECK_FALSE(wakeup.wait(pipe.reader(), std::nullopt));
  pipe.write();
  CHECK(wakeup.wait(pipe.reader(), std::nullopt));
  wakeup.signal();
  CHECK(wakeup.wait(pipe.reader(), std::nullopt));
  // That wait took the signal as well.
  CHECK(wakeup.wait(pipe.reader(), 0ms));
}

TEST_CASE("the other end's close counts as readable") {
  Wakeup wakeup;
  Pipe pipe;
  ::close(pipe.fds[1]);
  pipe.fds[1] = ::dup(pipe.fds[0]);
  CHECK(wakeup.wait(pipe.reader(), std::nullopt));
}

// A caller's «until - now» is negative when it was held up between looking at the clock twice.
TEST_CASE("a time that is over already is no wait at all") {
  Wakeup wakeup;
  std::atomic<bool> rescued = false;
  std::thread rescue([&] {
    std::this_thread::sleep_for(100ms);
    rescued = true;
    wakeup.signal();
  });
  CHECK_FALSE(wakeup.wait(-1, -3ms));
  CHECK_FALSE(rescued);
  rescue.join();
}

}  // namespace
}  // namespace guestscope
