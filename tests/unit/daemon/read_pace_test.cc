// How much is asked of a stub at once, with stubs that are played: no clock is looked at.
#include "daemon/read_pace.h"

#include <doctest/doctest.h>

#include <vector>

namespace guestscope {
namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;

constexpr auto kBudget = 100ms;

/// Reads of `size` bytes each, as many as are needed for a megabyte and more.
struct Reads {
  explicit Reads(std::size_t size) : into(size), list(4096, {.address = {}, .into = into}) {}
  Bytes into;
  std::vector<PhysRead> list;
};

/// The longest time without a break when all reads are asked of a stub of that speed, and the guest
/// is let go whenever it was held for the budget.
nanoseconds longest_hold(ReadPace& pace, std::span<const PhysRead> reads, nanoseconds per_read,
                         double bytes_per_ns) {
  nanoseconds held{0};
  nanoseconds longest{0};
  while (!reads.empty()) {
    if (held >= kBudget) held = 0ns;
    const std::size_t count = pace.next(reads);
    REQUIRE(count > 0);
    const double bytes = static_cast<double>(count * reads.front().into.size());
    const nanoseconds time =
        count * per_read + nanoseconds(static_cast<long>(bytes / bytes_per_ns));
    pace.took(reads.first(count), time);
    held += time;
    longest = std::max(longest, held);
    reads = reads.subspan(count);
  }
  return longest;
}

TEST_CASE("whatever a stub's speed, a guest is held for little more than the budget") {
  const Reads pages(4096);
  for (const double megabytes_per_second : {1.0, 3.0, 10.0, 90.0, 5000.0}) {
    CAPTURE(megabytes_per_second);
    ReadPace pace(kBudget);
    CHECK(longest_hold(pace, pages.list, 0ns, megabytes_per_second / 1000) < kBudget * 5 / 4);
  }
}

TEST_CASE("small reads count as more than their bytes") {
  const Reads small(64);
  ReadPace pace(kBudget);
  CHECK(longest_hold(pace, small.list, 100us, 0.09) < kBudget * 5 / 4);
  CHECK(pace.next(small.list) < 256);
}

TEST_CASE("a stub that becomes slow is asked for less, and for more once it has recovered") {
  ReadPace pace(kBudget);
  const Reads large(4096);
  const auto took = [&](nanoseconds time) {
    pace.took(std::span(large.list).first(pace.next(large.list)), time);
  };
  for (int i = 0; i < 10; ++i) took(1ms);
  CHECK(pace.step_bytes() == ReadPace::kMostBytes);
  for (int i = 0; i < 3; ++i) took(50ms);
  CHECK(pace.step_bytes() == ReadPace::kMostBytes / 8);
  took(10ms);  // neither slow nor fast: it stays
  CHECK(pace.step_bytes() == ReadPace::kMostBytes / 8);
  for (int i = 0; i < 10; ++i) took(1s);
  CHECK(pace.step_bytes() == ReadPace::kFewestBytes);
  for (int i = 0; i < 5; ++i) took(1ms);
  CHECK(pace.step_bytes() == ReadPace::kMostBytes);
}

TEST_CASE("fast answers to few reads do not make the next step larger") {
  const Reads small(64);
  ReadPace pace(kBudget);
  for (int i = 0; i < 10; ++i) pace.took(std::span(small.list).first(3), 10us);
  CHECK(pace.step_bytes() == ReadPace::kFirstBytes);
  pace.took(std::span(small.list).first(3), 50ms);
  CHECK(pace.step_bytes() == ReadPace::kFirstBytes / 2);
}

TEST_CASE("a read larger than a step is asked for alone, and no reads are no step") {
  const Reads large(1 << 20);
  const ReadPace pace(kBudget);
  CHECK(pace.next(large.list) == 1);
  CHECK(pace.next({}) == 0);
}

}  // namespace
}  // namespace guestscope
