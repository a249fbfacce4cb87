#include <doctest/doctest.h>

#include "arch/x86_64.h"
#include "tests/support/fake_memory.h"

namespace guestscope {
namespace {

using test::FakeMemory;
using test::TableBuilder;
using x86_64::Regime;

constexpr std::uint64_t kRam = 64 << 20;
constexpr std::uint64_t kRoot = 0x1000;
constexpr std::uint64_t kVirt = 0xffff888012345000;

struct Tables {
  explicit Tables(bool five = false, bool no_execute = true)
      : builder(memory, kRoot, five), regime(GuestPhys(kRoot), five, no_execute) {}

  Translation at(std::uint64_t virt) {
    PageWalker walker(regime, memory);
    auto result = walker.translate(GuestVirt(virt));
    REQUIRE(result.has_value());
    return *result;
  }
  Mapping mapping(std::uint64_t virt) {
    const Translation translation = at(virt);
    REQUIRE(std::holds_alternative<Mapping>(translation));
    return std::get<Mapping>(translation);
  }
  Hole hole(std::uint64_t virt) {
    const Translation translation = at(virt);
    REQUIRE(std::holds_alternative<Hole>(translation));
    return std::get<Hole>(translation);
  }

  FakeMemory memory{kRam};
  TableBuilder builder;
  Regime regime;
};

TEST_CASE("a page of every size is found at its level, in trees of four and of five levels") {
  for (const bool five : {false, true}) {
    CAPTURE(five);
    for (const int level : {1, 2, 3}) {
      CAPTURE(level);
      Tables tables(five);
      const std::uint64_t size = std::uint64_t{1} << (12 + 9 * (level - 1));
      const std::uint64_t base = kVirt & ~(size - 1);
      tables.builder.map(base, 5 * size, level);
      for (const std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{0x123}, size - 1}) {
        const Mapping mapping = tables.mapping(base + offset);
        CHECK(mapping.phys == GuestPhys(5 * size + offset));
        CHECK(mapping.length == size - offset);
        CHECK(mapping.page_size == size);
      }
      if (base != 0) CHECK(tables.hole(base - 1).reason == HoleReason::kNotPresent);
      CHECK(tables.hole(base + size).reason == HoleReason::kNotPresent);
    }
  }
}

TEST_CASE("a hole says at which level the walk ended and how far it reaches") {
  for (const bool five : {false, true}) {
    const int top = five ? 5 : 4;
    for (int level = 1; level <= top; ++level) {
      CAPTURE(level);
      Tables tables(five);
      tables.builder.entry_address(kVirt,
                                   level);  // the tables above this level exist, the entry is empty
      const Hole hole = tables.hole(kVirt + 0x10);
      CHECK(hole.level == level);
      CHECK(hole.reason == HoleReason::kNotPresent);
      const std::uint64_t covered = std::uint64_t{1} << (12 + 9 * (level - 1));
      CHECK(hole.length == covered - ((kVirt + 0x10) & (covered - 1)));
      CHECK(describe(hole) == "page not present (level " + std::to_string(level) + ")");
    }
  }
}

TEST_CASE("a non-canonical address is a hole before any table is read") {
  Tables four;
  CHECK(four.hole(0x0000800000000000).reason == HoleReason::kNonCanonical);
  CHECK(four.hole(0xffff7fffffffffff).reason == HoleReason::kNonCanonical);
  CHECK(four.memory.exchanges == 0);
  CHECK(four.hole(0xffff800000000000).reason == HoleReason::kNotPresent);

  Tables five(true);
  CHECK(five.hole(0xfeffffffffffffff).reason == HoleReason::kNonCanonical);
  CHECK(five.hole(0x0100000000000000).reason == HoleReason::kNonCanonical);
  CHECK(five.hole(0xff00000000000000).reason == HoleReason::kNotPresent);
  CHECK(five.hole(0x0000800000000000).reason == HoleReason::kNotPresent);
}

TEST_CASE("write and execute permission are the conjunction of all levels") {
  Tables tables;
  tables.builder.map(kVirt, 0x5000, 1, TableBuilder::kWritable);
  CHECK(tables.mapping(kVirt).writable);
  CHECK(tables.mapping(kVirt).executable);
  tables.builder.map(kVirt + 0x1000, 0x5000, 1, TableBuilder::kNoExecute);
  CHECK_FALSE(tables.mapping(kVirt + 0x1000).writable);
  CHECK_FALSE(tables.mapping(kVirt + 0x1000).executable);
  const std::uint64_t upper = tables.builder.entry_address(kVirt, 3);
  Bytes raw(8);
  REQUIRE(tables.memory.read_one(GuestPhys(upper), raw).has_value());
  tables.memory.write_u64(upper, load_le(raw.data(), 8) | TableBuilder::kNoExecute);
  CHECK_FALSE(tables.mapping(kVirt).executable);
}

TEST_CASE("no-execute is a reserved bit while EFER.NXE is off") {
  Tables tables(false, false);
  tables.builder.map(kVirt, 0x5000, 1, TableBuilder::kNoExecute);
  CHECK(tables.hole(kVirt).reason == HoleReason::kReservedBits);
  CHECK(tables.hole(kVirt).level == 1);
}

TEST_CASE("a large-page bit above 1 GiB and address bits below a large page are reserved") {
  Tables tables;
  tables.memory.write_u64(tables.builder.entry_address(kVirt, 4),
                          0x5000 | TableBuilder::kPresent | TableBuilder::kLarge);
  CHECK(tables.hole(kVirt).reason == HoleReason::kReservedBits);
  CHECK(tables.hole(kVirt).level == 4);

  for (const int level : {2, 3}) {
    CAPTURE(level);
    Tables large;
    large.builder.map(kVirt, 0x2000, level);  // bit 13 lies below the page
    CHECK(large.hole(kVirt).reason == HoleReason::kReservedBits);
    Tables pat;
    pat.builder.map(kVirt, 0x1000,
                    level);  // bit 12 is the large page's PAT bit, not an address bit
    CHECK(pat.mapping(kVirt & ~((std::uint64_t{1} << (12 + 9 * (level - 1))) - 1)).phys ==
          GuestPhys(0));
  }
}

TEST_CASE("bit 7 of a 4 KiB entry is an attribute and not a size") {
  Tables tables;
  tables.memory.write_u64(tables.builder.entry_address(kVirt, 1),
                          0x5000 | TableBuilder::kPresent | TableBuilder::kLarge);
  CHECK(tables.mapping(kVirt).page_size == 4096);
}

TEST_CASE("a table outside RAM is a hole, a lost connection an error") {
  Tables tables;
  tables.memory.write_u64(tables.builder.entry_address(kVirt, 3),
                          (kRam + 0x1000) | TableBuilder::kPresent);
  CHECK(tables.hole(kVirt).reason == HoleReason::kTableOutsideRam);
  CHECK(tables.hole(kVirt).level == 2);

  tables.memory.broken = Error{.code = ErrorCode::kUnreachable, .message = "gone"};
  PageWalker walker(tables.regime, tables.memory);
  const auto result = walker.translate(GuestVirt(kVirt));
  REQUIRE_FALSE(result);
  CHECK(result.error().code == ErrorCode::kUnreachable);
}

TEST_CASE("a batch costs one exchange a level however many addresses it has") {
  Tables tables;
  std::vector<GuestVirt> addresses;
  for (std::uint64_t i = 0; i < 600; ++i) {
    tables.builder.map(kVirt + i * 4096, (i + 16) * 4096, 1);
    addresses.emplace_back(kVirt + i * 4096);
  }
  PageWalker walker(tables.regime, tables.memory);
  const auto results = walker.translate(addresses);
  CHECK(tables.memory.exchanges == 4);
  CHECK(tables.memory.read_count <= 3 + 600 / 8 + 3);  // eight entries to a line
  for (std::uint64_t i = 0; i < 600; ++i) {
    REQUIRE(results[i].has_value());
    CHECK(std::get<Mapping>(*results[i]).phys == GuestPhys((i + 16) * 4096));
  }
  const std::size_t before = tables.memory.exchanges;
  walker.translate(addresses);
  CHECK(tables.memory.exchanges == before);
  walker.clear();
  walker.translate(addresses);
  CHECK(tables.memory.exchanges == before + 4);
}

}  // namespace
}  // namespace guestscope
