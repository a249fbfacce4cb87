#include <doctest/doctest.h>

#include "arch/aarch64.h"
#include "tests/support/aarch64_tables.h"

namespace guestscope {
namespace {

using aarch64::geometry_of;
using aarch64::Regime;
using test::Aarch64Format;
using test::Aarch64Tables;
using test::FakeMemory;

constexpr std::uint64_t kRam = std::uint64_t{1} << 52;

/// One configuration: its tables, and the regime as made from the registers' values.
struct Tables {
  explicit Tables(Aarch64Format of, std::uint64_t more_tcr = 0, std::uint64_t next_table = 0x100000)
      : format(of), builder(memory, of, 0x80000, next_table) {
    const auto geometry = geometry_of(format.tcr() | more_tcr);
    REQUIRE(geometry.has_value());
    regime.emplace(*geometry, GuestPhys(0x80000));
  }

  Translation at(std::uint64_t virt) {
    auto result = PageWalker(*regime, memory).translate(GuestVirt(virt));
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
  Aarch64Format format;
  Aarch64Tables builder;
  std::optional<Regime> regime;
};

// Every combination that a kernel can be built with (arch/arm64/Kconfig, ARM64_VA_BITS_*,
// PGTABLE_LEVELS), the root's level and entries by the manual's tables, and the lowest level number
// at which a large page may be.
struct Case {
  Aarch64Format format;
  int start;
  std::uint64_t root_entries;
  int first_block;
};
constexpr Case kCases[] = {
    {{12, 39, false, false}, 1, 512, 1},  {{12, 48, false, false}, 0, 512, 1},
    {{12, 48, false, true}, 0, 512, 0},   {{12, 52, false, true}, -1, 16, 0},
    {{14, 36, false, false}, 2, 2048, 2}, {{14, 47, false, false}, 1, 2048, 2},
    {{14, 48, false, false}, 0, 2, 2},    {{14, 47, false, true}, 1, 2048, 1},
    {{14, 52, false, true}, 0, 32, 1},    {{16, 42, false, false}, 2, 8192, 2},
    {{16, 48, false, false}, 1, 64, 2},   {{16, 48, true, false}, 1, 64, 1},
    {{16, 52, true, false}, 1, 1024, 1},  {{16, 52, false, false}, 1, 1024, 2},
};

TEST_CASE("the tree's depth and the root's size follow from granule and address size") {
  for (const Case& of : kCases) {
    CAPTURE(of.format.granule_bits);
    CAPTURE(of.format.va_bits);
    const auto geometry = geometry_of(of.format.tcr());
    REQUIRE(geometry.has_value());
    const Regime regime(*geometry, GuestPhys(0));
    CHECK(regime.levels().size() == static_cast<std::size_t>(4 - of.start));
    CHECK((std::uint64_t{1} << regime.levels()[0].index_bits) == of.root_entries);
    CHECK(regime.va_bits() == of.format.va_bits);
    CHECK(regime.page_size() == of.format.page());
    CHECK(regime.levels().back().shift == of.format.granule_bits);
  }
}

TEST_CASE("pages and blocks are found at every level where they may be, and nowhere else") {
  for (const Case& of : kCases) {
    const Aarch64Format& format = of.format;
    CAPTURE(format.granule_bits);
    CAPTURE(format.va_bits);
    CAPTURE(format.lpa);
    CAPTURE(format.lpa2);
    for (int level = of.start; level <= 3; ++level) {
      CAPTURE(level);
      const std::uint64_t span = format.span(level);
      const std::uint64_t base = (format.first_address() | 0x5'5555'5555) & ~(span - 1);
      // The highest physical address that the entry can name, if it is one that entries of this
      // size exist for.
      const int pa_bits = format.lpa || format.lpa2 ? 52 : 48;
      const std::uint64_t phys = ((std::uint64_t{1} << pa_bits) - 1) & ~(span - 1);
      Tables tables(format);
      tables.builder.map(base, phys, level, Aarch64Tables::kContiguous);
      if (level < of.first_block) {
        CHECK(tables.hole(base).reason == HoleReason::kReservedBits);
        CHECK(tables.hole(base).level == 4 - level);
        continue;
      }
      for (const std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{0x123}, span - 1}) {
        const Mapping mapping = tables.mapping(base + offset);
        CHECK(mapping.phys == GuestPhys(phys + offset));
        CHECK(mapping.length == span - offset);
        CHECK(mapping.page_size == span);
        CHECK(mapping.writable);
        CHECK(mapping.executable);
      }
      if (base != format.first_address())
        CHECK(tables.hole(base - 1).reason == HoleReason::kNotPresent);
    }
  }
}

TEST_CASE("tables lie at physical addresses of every size that the format can name") {
  for (const Case& of : kCases) {
    CAPTURE(of.format.granule_bits);
    CAPTURE(of.format.va_bits);
    const std::uint64_t high =
        of.format.lpa || of.format.lpa2 ? 0xf'fffc'0000'0000 : 0xfffc'0000'0000;
    Tables tables(of.format, 0, high);
    const std::uint64_t virt = of.format.first_address() + 5 * of.format.page();
    tables.builder.map(virt, high + 0x1000'0000, 3);
    CHECK(tables.mapping(virt).phys == GuestPhys(high + 0x1000'0000));
  }
}

TEST_CASE(
    "an entry without its page bit at the last level, and addresses beyond IPS, are reserved") {
  for (const int granule : {12, 14, 16}) {
    CAPTURE(granule);
    const Aarch64Format format{granule, 47, false, false};
    Tables tables(format);
    const std::uint64_t virt = format.first_address();
    tables.memory.write_u64(tables.builder.entry_address(virt, 3), 0x1000'0000 | 1);
    CHECK(tables.hole(virt).reason == HoleReason::kReservedBits);
    CHECK(tables.hole(virt).level == 1);

    const auto geometry =
        geometry_of((format.tcr() & ~(std::uint64_t{7} << 32)) | std::uint64_t{2} << 32);
    REQUIRE(geometry.has_value());
    CHECK(geometry->pa_bits == 40);
    tables.regime.emplace(*geometry, tables.regime->root());
    tables.builder.map(virt, std::uint64_t{1} << 40, 3);
    CHECK(tables.hole(virt).reason == HoleReason::kReservedBits);
    tables.builder.map(virt, (std::uint64_t{1} << 40) - format.page(), 3);
    CHECK(tables.mapping(virt).phys == GuestPhys((std::uint64_t{1} << 40) - format.page()));
  }
}

TEST_CASE("low bits of a 64 KiB entry are address bits only with 52-bit physical addresses") {
  const Aarch64Format without{16, 48, false, false};
  Tables tables(without);
  const std::uint64_t virt = without.first_address();
  tables.memory.write_u64(tables.builder.entry_address(virt, 3), 0x1000'0000 | 0xf000 | 3);
  CHECK(tables.mapping(virt).phys == GuestPhys(0x1000'0000));
  // TCR.DS is not for this granule.
  const auto geometry = geometry_of(without.tcr() | std::uint64_t{1} << 59);
  REQUIRE(geometry.has_value());
  CHECK_FALSE(geometry->lpa2);
}

TEST_CASE("physical addresses have 48 bits at most where the format has no place for more") {
  for (const int granule : {12, 14}) {
    const auto geometry =
        geometry_of(Aarch64Format{granule, 47, false, false}.tcr() | std::uint64_t{7} << 32);
    REQUIRE(geometry.has_value());
    CHECK(geometry->pa_bits == 48);
  }
}

TEST_CASE("shareability in bits 9:8 is no address unless TCR.DS says so") {
  const Aarch64Format format{12, 48, false, false};
  Tables tables(format);
  tables.builder.map(format.first_address(), 0x5000, 3, 3 << 8);
  CHECK(tables.mapping(format.first_address()).phys == GuestPhys(0x5000));
}

TEST_CASE("bits below a large page are attributes and no address") {
  const Aarch64Format format{12, 48, false, false};
  Tables tables(format);
  tables.builder.map(format.first_address(), 0x4020'0000, 2, 1 << 16);  // nT
  CHECK(tables.mapping(format.first_address()).phys == GuestPhys(0x4020'0000));
}

TEST_CASE("permissions are those of the leaf and of all tables above it") {
  using T = Aarch64Tables;
  const Aarch64Format format{12, 48, false, false};
  const std::uint64_t virt = format.first_address() + 0x40000000;
  Tables tables(format);
  tables.builder.map(virt, 0x5000, 3, T::kNoExecute);
  tables.builder.map(virt + 0x1000, 0x6000, 3, T::kReadOnly);
  CHECK(tables.mapping(virt).writable);
  CHECK_FALSE(tables.mapping(virt).executable);
  CHECK_FALSE(tables.mapping(virt + 0x1000).writable);
  CHECK(tables.mapping(virt + 0x1000).executable);

  tables.builder.map(virt, 0x5000, 3);
  for (const int level : {0, 1, 2}) {
    CAPTURE(level);
    Tables restricted(format);
    restricted.builder.map(virt, 0x5000, 3);
    restricted.builder.set_bits(restricted.builder.entry_address(virt, level), T::kTableNoExecute);
    CHECK(restricted.mapping(virt).writable);
    CHECK_FALSE(restricted.mapping(virt).executable);
    restricted.builder.set_bits(restricted.builder.entry_address(virt, level), T::kTableReadOnly);
    CHECK_FALSE(restricted.mapping(virt).writable);
    // The same with TCR.HPD1, which makes these bits mean nothing.
    const auto geometry = geometry_of(format.tcr() | std::uint64_t{1} << 42);
    REQUIRE(geometry.has_value());
    restricted.regime.emplace(*geometry, restricted.regime->root());
    CHECK(restricted.mapping(virt).writable);
    CHECK(restricted.mapping(virt).executable);
  }
}

TEST_CASE("only the upper half is covered, and its tags count unless TCR.TBI1 is set") {
  const Aarch64Format format{12, 48, false, false};
  const std::uint64_t virt = 0xffff'8000'1234'5000;
  const std::uint64_t tagged = 0xf3ff'8000'1234'5678;
  Tables strict(format);
  strict.builder.map(virt, 0x5000, 3);
  CHECK(strict.regime->canonical(GuestVirt(tagged)) == GuestVirt(tagged));
  CHECK(strict.hole(tagged).reason == HoleReason::kNonCanonical);
  CHECK(strict.hole(0x0000'8000'1234'5000).reason == HoleReason::kNonCanonical);
  CHECK(strict.hole(0xfffe'ffff'ffff'f000).reason == HoleReason::kNonCanonical);
  CHECK(strict.memory.exchanges == 0);

  Tables ignoring(format, std::uint64_t{1} << 38);
  ignoring.builder.map(virt, 0x5000, 3);
  CHECK(ignoring.regime->canonical(GuestVirt(tagged)) == GuestVirt(0xffff'8000'1234'5678));
  CHECK(ignoring.mapping(tagged).phys == GuestPhys(0x5678));
  CHECK(ignoring.mapping(tagged).length == 0x1000 - 0x678);
  // Bit 55 chooses the half: a tag makes no kernel address of a user's.
  CHECK(ignoring.hole(0xf300'8000'1234'5000).reason == HoleReason::kNonCanonical);
  CHECK(ignoring.regime->canonical(GuestVirt(0xf300'8000'1234'5000)) ==
        GuestVirt(0xf300'8000'1234'5000));
}

TEST_CASE("a regime with another root differs in nothing else") {
  const Aarch64Format format{14, 52, false, true};
  Tables tables(format, std::uint64_t{1} << 38);
  const auto other = tables.regime->with_root(GuestPhys(0x7000'0000));
  CHECK(other->root() == GuestPhys(0x7000'0000));
  CHECK(other->va_bits() == 52);
  CHECK(other->page_size() == 16384);
  CHECK(other->levels().size() == tables.regime->levels().size());
  CHECK(other->canonical(GuestVirt(0x00ff'ffff'ffff'f000)) == GuestVirt(0xffff'ffff'ffff'f000));
  const std::uint64_t high = std::uint64_t{3} << 50;
  CHECK(other->decode(3, format.encode(high) | 3).target == GuestPhys(high));
}

TEST_CASE("a batch costs one exchange a level") {
  const Aarch64Format format{12, 52, false, true};
  Tables tables(format);
  std::vector<GuestVirt> addresses;
  for (std::uint64_t i = 0; i < 300; ++i) {
    tables.builder.map(format.first_address() + i * 0x4000'1000, i << 12, 3);
    addresses.emplace_back(format.first_address() + i * 0x4000'1000);
  }
  const auto results = PageWalker(*tables.regime, tables.memory).translate(addresses);
  CHECK(tables.memory.exchanges == 5);
  for (std::uint64_t i = 0; i < 300; ++i) {
    REQUIRE(results[i].has_value());
    CHECK(std::get<Mapping>(*results[i]).phys == GuestPhys(i << 12));
  }
}

}  // namespace
}  // namespace guestscope
