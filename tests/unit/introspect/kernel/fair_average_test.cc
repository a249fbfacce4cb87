#include "introspect/fair_average.h"

#include <doctest/doctest.h>

#include <array>

namespace guestscope {
namespace {

constexpr std::uint64_t kNice0 = 1 << 20;

// Virtual times 10, 30 and 50 above 1000 with weights 1, 1 and 2: the average is at 35.
constexpr std::array<FairShare, 2> kTree = {{{1010, kNice0}, {1030, kNice0}}};
constexpr FairShare kCurrent = {1050, 2 * kNice0};

TEST_CASE("who is not ahead of the weighted average is eligible") {
  const FairSums sums{.zero = 1000, .weighted = (10 + 30) * 1024, .weight = 2048, .shift = {}};
  const auto average = FairAverage::of(sums, kTree, kCurrent);
  REQUIRE(average);
  CHECK(average->is_eligible(1010));
  CHECK(average->is_eligible(1035));
  CHECK_FALSE(average->is_eligible(1036));
  CHECK(FairAverage::of(sums, kTree, std::nullopt)->is_eligible(1020));
  CHECK_FALSE(FairAverage::of(sums, kTree, std::nullopt)->is_eligible(1021));
}

TEST_CASE("weights count in full, or scaled down, as the queue says") {
  FairSums sums{.zero = 1000, .weighted = 40 << 20, .weight = 2 << 20, .shift = 0};
  CHECK(FairAverage::of(sums, kTree, kCurrent)->is_eligible(1035));
  CHECK_FALSE(FairAverage::of(sums, kTree, kCurrent)->is_eligible(1036));
  sums = {.zero = 1000, .weighted = 40 * 2, .weight = 4, .shift = 25};  // at least 2
  CHECK(FairAverage::of(sums, kTree, std::nullopt)->is_eligible(1020));
  CHECK_FALSE(FairAverage::of(sums, kTree, std::nullopt)->is_eligible(1021));
}

TEST_CASE("entities that do not add up to the sums have no average") {
  const FairSums sums{.zero = 1000, .weighted = 40 * 1024, .weight = 2048, .shift = {}};
  CHECK_FALSE(FairAverage::of(sums, std::span(kTree).first(1), kCurrent));
  FairSums other = sums;
  other.weight = 2049;
  CHECK_FALSE(FairAverage::of(other, kTree, kCurrent));
  other = sums;
  other.weighted += 1;
  CHECK_FALSE(FairAverage::of(other, kTree, kCurrent));
}

TEST_CASE("a virtual time that is too far away for a product is told by its sign") {
  const FairSums sums{.zero = 1000, .weighted = 40 << 20, .weight = 2 << 20, .shift = 0};
  const auto average = FairAverage::of(sums, kTree, std::nullopt);
  CHECK_FALSE(average->is_eligible(1000 + (1ULL << 62)));
  CHECK(average->is_eligible(1000 - (1ULL << 62)));
  CHECK(FairAverage::of({.shift = 200}, {}, FairShare{5, kNice0})->is_eligible(5));
}

}  // namespace
}  // namespace guestscope
