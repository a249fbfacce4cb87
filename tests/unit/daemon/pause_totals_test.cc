// What is told of pauses, and how much of the time they may take.
#include "daemon/pause_totals.h"

#include <doctest/doctest.h>

#include "daemon/pause_share.h"

namespace guestscope {
namespace {

using namespace std::chrono_literals;
using std::chrono::microseconds;

TEST_CASE("count, last, longest and total are exact") {
  PauseTotals totals;
  CHECK(totals.percentile(0.99) == 0us);
  for (const auto pause : {3us, 900us, 17us}) totals.add(pause);
  CHECK(totals.count() == 3);
  CHECK(totals.last() == 17us);
  CHECK(totals.max() == 900us);
  CHECK(totals.total() == 920us);
}

TEST_CASE("a percentile is not below the true one, and at most 13 percent above it") {
  PauseTotals totals;
  for (int i = 1; i <= 10000; ++i) totals.add(microseconds(i));
  for (const double share : {0.01, 0.1, 0.5, 0.9, 0.99}) {
    CAPTURE(share);
    const double truth = share * 10000;
    const auto told = static_cast<double>(totals.percentile(share).count());
    CHECK(told >= truth);
    CHECK(told <= truth * 1.13 + 1);
  }
  CHECK(totals.percentile(1) == 10000us);
}

TEST_CASE("no pause is too short or too long to be counted") {
  PauseTotals totals;
  for (const auto pause : {microseconds(-5), 0us, microseconds::max() / 4}) totals.add(pause);
  CHECK(totals.count() == 3);
  CHECK(totals.percentile(0.1) == 0us);
  CHECK(totals.percentile(0.9) > microseconds(1h));
}

/// Snapshots of `pause` each, as soon as they are allowed, for `time`: the share of it that they
/// took.
double share_taken(PauseShare& share, microseconds pause, std::chrono::seconds time) {
  const auto begin = PauseShare::Clock::now();
  auto now = begin;
  microseconds held{0};
  while (now < begin + time) {
    now = std::max(now, share.next()) + pause;
    held += pause;
    share.paused(now, pause);
  }
  return std::chrono::duration<double>(held) / std::chrono::duration<double>(now - begin);
}

TEST_CASE("in the long run the share is kept, whatever a snapshot takes") {
  for (const auto pause : {100us, 2000us, 300'000us}) {
    CAPTURE(pause.count());
    PauseShare share(0.04, 1h);
    const double taken = share_taken(share, pause, 100s);
    CHECK(taken < 0.045);
    CHECK(taken > 0.03);
  }
}

TEST_CASE("after a quiet time some snapshots do not wait, and without a limit none does") {
  PauseShare share(0.05, 1h);
  const auto begin = PauseShare::Clock::now() + 60s;
  for (int i = 0; i < 20; ++i) {
    CHECK(share.next() <= begin);
    share.paused(begin, 10ms);
  }
  for (int i = 0; i < 10; ++i) share.paused(begin, 10ms);
  CHECK(share.next() > begin + 500ms);
  PauseShare unlimited(1, 1h);
  CHECK(share_taken(unlimited, 1000us, 1s) > 0.99);
}

TEST_CASE("no snapshot waits longer than told") {
  PauseShare share(0.01, 250ms);
  const auto now = PauseShare::Clock::now();
  share.paused(now, 10s);
  CHECK(share.next() <= now + 250ms);
  CHECK(share.next() > now + 200ms);
}

}  // namespace
}  // namespace guestscope
