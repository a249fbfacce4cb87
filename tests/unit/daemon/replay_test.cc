// What snapshots of a kind read again and again, and what they may never be told.
#include "daemon/replay.h"

#include <doctest/doctest.h>

#include "tests/support/fake_memory.h"

namespace guestscope {
namespace {

using test::FakeMemory;

constexpr std::uint64_t kRam = 4 << 20;

/// What the session does before the first read.
void prefetch(ReplayMemory& replay, PhysMemory& from) {
  std::vector<PhysRead> reads = replay.wanted();
  if (!reads.empty()) from.read(reads);
  replay.taken(reads);
}

struct Fixture {
  Fixture() {
    for (std::uint64_t at = 0; at < kRam; at += 8) memory.write_u64(at, at);
  }

  /// One snapshot: `addresses` are read one after the other, 8 bytes each. Returns what was read.
  std::vector<std::uint64_t> take(const std::vector<std::uint64_t>& addresses) {
    ReplayMemory replay(memory, plan);
    memory.exchanges = 0;
    prefetch(replay, memory);
    std::vector<std::uint64_t> values;
    for (const std::uint64_t at : addresses) values.push_back(number_at(replay, at));
    replay.finish();
    return values;
  }

  static std::uint64_t number_at(PhysMemory& from, std::uint64_t at) {
    Bytes bytes(8);
    REQUIRE(from.read_one(GuestPhys(at), bytes));
    return load_le(bytes.data(), 8);
  }

  FakeMemory memory{kRam};
  ReplayPlan plan;
};

TEST_CASE_FIXTURE(Fixture,
                  "the second snapshot has in one exchange what the first had in several") {
  const std::vector<std::uint64_t> addresses{0x100, 0x8000, 0x8040, 0x20000, 0xffff8};
  CHECK(take(addresses) == addresses);
  CHECK(memory.exchanges == addresses.size());
  CHECK(take(addresses) == addresses);
  CHECK(memory.exchanges == 1);
}

TEST_CASE_FIXTURE(Fixture, "bytes are those of this snapshot, and never of the one before") {
  take({0x100, 0x2000});
  memory.write_u64(0x100, 7);
  CHECK(take({0x100, 0x2000}) == std::vector<std::uint64_t>{7, 0x2000});
  CHECK(memory.exchanges == 1);
}

TEST_CASE_FIXTURE(Fixture, "what the plan lacks is read, and is there the next time") {
  take({0x100});
  CHECK(take({0x100, 0x3000}) == std::vector<std::uint64_t>{0x100, 0x3000});
  CHECK(memory.exchanges == 2);
  CHECK(take({0x3000, 0x100}) == std::vector<std::uint64_t>{0x3000, 0x100});
  CHECK(memory.exchanges == 1);
}

TEST_CASE_FIXTURE(Fixture, "a read that only begins or ends in known lines is read as a whole") {
  take({0x1000, 0x1080});
  ReplayMemory replay(memory, plan);
  prefetch(replay, memory);
  for (const std::uint64_t begin : {0x1000UL, 0x0fc0UL, 0x1020UL, 0x1070UL}) {
    CAPTURE(begin);
    Bytes bytes(0x80);
    REQUIRE(replay.read_one(GuestPhys(begin), bytes));
    for (std::size_t i = 0; i < bytes.size(); i += 8)
      CHECK(load_le(bytes.data() + i, 8) == begin + i);
  }
}

TEST_CASE_FIXTURE(Fixture, "a read over several known lines is answered from them") {
  take({0x1000, 0x1040, 0x1080});
  ReplayMemory replay(memory, plan);
  prefetch(replay, memory);
  memory.exchanges = 0;
  Bytes bytes(0x90);
  REQUIRE(replay.read_one(GuestPhys(0x1028), bytes));
  for (std::size_t i = 0; i < bytes.size(); i += 8)
    CHECK(load_le(bytes.data() + i, 8) == 0x1028 + i);
  CHECK(memory.exchanges == 0);
}

TEST_CASE_FIXTURE(Fixture, "once the guest has run, everything is read anew") {
  take({0x100});
  ReplayMemory replay(memory, plan);
  prefetch(replay, memory);
  replay.forget();
  memory.write_u64(0x100, 9);
  CHECK(number_at(replay, 0x100) == 9);
}

TEST_CASE_FIXTURE(Fixture, "when nothing more is to be asked, what the plan lacks is refused") {
  take({0x100});
  ReplayMemory replay(memory, plan);
  prefetch(replay, memory);
  replay.ask_no_more();
  memory.exchanges = 0;
  CHECK_FALSE(replay.missed());
  Bytes bytes(8);
  CHECK(replay.read_one(GuestPhys(0x100), bytes));
  CHECK_FALSE(replay.missed());
  const auto refused = replay.read_one(GuestPhys(0x2000), bytes);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ErrorCode::kNotReady);
  CHECK(replay.missed());
  CHECK(memory.exchanges == 0);
}

/// Whoever holds the guest lets it run in the middle of the read, of which some fails.
class RunsMeanwhile final : public PhysMemory {
 public:
  explicit RunsMeanwhile(PhysMemory& memory) : memory_(memory) {}
  void read(std::span<PhysRead> reads) override {
    if (replay != nullptr) replay->forget();
    memory_.read(reads);
  }
  ReplayMemory* replay = nullptr;

 private:
  PhysMemory& memory_;
};

TEST_CASE_FIXTURE(Fixture,
                  "a guest that runs while the plan is read leaves nothing to answer from") {
  take({0x100, 0x2000, 0xf0000});
  FakeMemory smaller(0x80000);
  RunsMeanwhile running(smaller);
  ReplayMemory replay(running, plan);
  running.replay = &replay;
  prefetch(replay, running);
  smaller.write_u64(0x100, 3);
  CHECK(number_at(replay, 0x100) == 3);
}

TEST_CASE_FIXTURE(Fixture, "what is not asked for any more is forgotten") {
  take({0x100, 0x2000});
  for (int i = 0; i < ReplayPlan::kForgetAfter; ++i) {
    CHECK(plan.size() == 2);
    take({0x100});
  }
  take({0x100});
  CHECK(plan.size() == 1);
}

TEST_CASE_FIXTURE(Fixture,
                  "lines that cannot be read any more leave the others, and their reason") {
  take({0x100, 0x2000, 0xf0000});
  FakeMemory smaller(0x80000);
  smaller.write_u64(0x100, 1);
  smaller.write_u64(0x2000, 2);
  ReplayMemory replay(smaller, plan);
  prefetch(replay, smaller);
  smaller.exchanges = 0;
  CHECK(number_at(replay, 0x100) == 1);
  CHECK(number_at(replay, 0x2000) == 2);
  CHECK(smaller.exchanges == 0);
  Bytes bytes(8);
  const auto lost = replay.read_one(GuestPhys(0xf0000), bytes);
  REQUIRE_FALSE(lost);
  CHECK(lost.error().code == ErrorCode::kNotRam);
}

TEST_CASE_FIXTURE(Fixture, "large batches and more lines than a plan may have are not remembered") {
  {
    ReplayMemory replay(memory, plan);
    Bytes bytes(512 << 10);
    REQUIRE(replay.read_one(GuestPhys(0), bytes));
    replay.finish();
    CHECK(plan.size() == 0);
    CHECK_FALSE(plan.complete());
  }
  ReplayMemory replay(memory, plan);
  Bytes bytes(32 << 10);
  for (std::uint64_t at = 0; at < kRam; at += bytes.size())
    REQUIRE(replay.read_one(GuestPhys(at), bytes));
  replay.finish();
  CHECK(plan.size() == ReplayPlan::kMaxLines);
  CHECK_FALSE(plan.complete());
}

TEST_CASE_FIXTURE(Fixture, "a plan that is full makes room for what is asked for now") {
  const auto ask_for = [&](std::uint64_t from, std::uint64_t to) {
    ReplayPlan::Use use;
    for (std::uint64_t line = from; line < to; ++line) use.lines.push_back(line);
    plan.used(std::move(use));
  };
  ask_for(0, ReplayPlan::kMaxLines - 10);
  ask_for(100, ReplayPlan::kMaxLines - 10);
  ask_for(ReplayPlan::kMaxLines - 20, ReplayPlan::kMaxLines + 20);
  CHECK(plan.complete());
  CHECK(plan.size() <= ReplayPlan::kMaxLines);
  const auto lines = plan.lines();
  CHECK(lines.back() == ReplayPlan::kMaxLines + 19);
  CHECK(lines.front() == 100);
}

TEST_CASE_FIXTURE(Fixture, "a plan foresees what has been asked for again") {
  CHECK_FALSE(plan.foresees());
  take({0x100, 0x2000});
  CHECK(plan.foresees());
  SUBCASE("and no longer when new things are asked for each time") {
    for (std::uint64_t i = 1; i <= 2; ++i) take({0x100, 0x10000 * i});
    CHECK_FALSE(plan.foresees());
    CHECK(plan.complete());
    take({0x100});
    CHECK(plan.foresees());
  }
  SUBCASE("a surprise now and then is forgiven") {
    for (std::uint64_t i = 1; i <= 20; ++i) {
      take({0x100, 0x2000});
      take({0x100, 0x2000, 0x10000 * i});
      CHECK(plan.foresees());
    }
  }
}

TEST_CASE_FIXTURE(Fixture, "a read at the end of the address space is handed on") {
  ReplayMemory replay(memory, plan);
  Bytes bytes(16);
  CHECK_FALSE(replay.read_one(GuestPhys(~std::uint64_t{7}), bytes));
  CHECK_FALSE(replay.read_one(GuestPhys(~std::uint64_t{15}), bytes));
  replay.finish();
  CHECK(plan.size() == 0);
}

TEST_CASE("kinds that differ behind a '?' share a plan, and the oldest plan makes room") {
  ReplayPlans plans;
  plans.of("map 3?key=1").used({.lines = {1, 2, 3}});
  CHECK(plans.of("map 3?key=2").size() == 3);
  CHECK(plans.of("map 4").size() == 0);
  for (std::size_t i = 0; i < ReplayPlans::kMaxPlans - 1; ++i) {
    plans.of("map 3");
    plans.of(fmt::format("other {}", i));
  }
  CHECK(plans.of("map 3").size() == 3);
  for (std::size_t i = 0; i < ReplayPlans::kMaxPlans; ++i) plans.of(fmt::format("new {}", i));
  CHECK(plans.of("map 3").size() == 0);
}

TEST_CASE("a new kind begins with what all kinds read, and foresees nothing yet") {
  ReplayPlans plans;
  plans.of(std::string(ReplayPlans::kBase)).used({.lines = {7, 8}});
  ReplayPlan& plan = plans.of("maps");
  CHECK(plan.lines() == std::vector<std::uint64_t>{7, 8});
  CHECK_FALSE(plan.foresees());
}

}  // namespace
}  // namespace guestscope
