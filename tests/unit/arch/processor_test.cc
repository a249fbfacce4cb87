#include "arch/processor.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "arch/aarch64.h"
#include "tests/support/aarch64_tables.h"

namespace guestscope {
namespace {

using test::Aarch64Format;
using test::FakeMemory;
using test::TableBuilder;

constexpr std::uint64_t kEpd1 = 1 << 23;
constexpr std::uint64_t kE2h = std::uint64_t{1} << 34;

/// A stub's answer: the processor's registers by name, 0 for those not named.
PagingRegisters registers(Machine machine,
                          std::initializer_list<std::pair<std::string_view, std::uint64_t>> given) {
  PagingRegisters result{.machine = machine};
  const auto needs = find_processor(machine)->registers();
  REQUIRE(needs.size() <= kMaxPagingRegisters);
  for (const auto& [name, value] : given) {
    const auto found = std::ranges::find(needs, name, &RegisterNeed::name);
    REQUIRE_MESSAGE(found != needs.end(), name);
    result.values[static_cast<std::size_t>(found - needs.begin())] = value;
  }
  return result;
}

std::vector<GuestPhys> roots(const PagingRegisters& of) {
  std::vector<GuestPhys> found;
  for (const auto& regime : find_processor(of.machine)->regimes(of))
    found.push_back(regime->root());
  return found;
}

std::vector<GuestPhys> three(std::uint64_t root, std::uint64_t page) {
  return {GuestPhys(root), GuestPhys(root + page), GuestPhys(root + 2 * page)};
}

TEST_CASE("a machine is known by the name that a stub gives it") {
  CHECK(machine_of_architecture("i386:x86-64") == Machine::kX86_64);
  CHECK(machine_of_architecture("aarch64") == Machine::kAarch64);
  CHECK(machine_of_architecture("riscv:rv64") == Machine::kOther);
  CHECK(find_processor(Machine::kOther) == nullptr);
  for (const Machine machine : {Machine::kX86_64, Machine::kAarch64})
    CHECK(find_processor(machine)->machine() == machine);
  CHECK(to_string(Machine::kX86_64) == "x86_64");
  CHECK(to_string(Machine::kAarch64) == "aarch64");
  CHECK(to_string(Machine::kOther) == "other");
}

TEST_CASE("x86-64: the roots that CR3 may mean, with the depth that CR4 says") {
  const auto off = registers(Machine::kX86_64, {{"cr0", 0x60000010}, {"cr3", 0x1000}});
  CHECK_FALSE(find_processor(Machine::kX86_64)->paging_enabled(off));
  CHECK(roots(off).empty());
  const auto legacy = registers(Machine::kX86_64, {{"cr0", 0x80000011}, {"cr3", 0x1000}});
  CHECK(roots(legacy).empty());
  for (const bool five : {false, true}) {
    const auto on = registers(
        Machine::kX86_64,
        {{"cr0", 0x80050033}, {"cr3", 0x24a1003}, {"cr4", five ? 0x16b0 : 0x6b0}, {"efer", 0xd01}});
    CHECK(find_processor(Machine::kX86_64)->paging_enabled(on));
    CHECK(roots(on) == std::vector{GuestPhys(0x24a0000), GuestPhys(0x24a1000)});
    for (const auto& regime : find_processor(Machine::kX86_64)->regimes(on)) {
      CHECK(regime->va_bits() == (five ? 57 : 48));
      CHECK(regime->levels().size() == (five ? 5 : 4));
      CHECK(regime->page_size() == 4096);
      CHECK(regime->decode(3, 0x5001 | TableBuilder::kNoExecute).kind !=
            TableEntry::Kind::kReserved);
      CHECK(regime->canonical(GuestVirt(0xf3ff'8000'0000'0000)) ==
            GuestVirt(0xf3ff'8000'0000'0000));
      const auto other = regime->with_root(GuestPhys(0x5000));
      CHECK(other->root() == GuestPhys(0x5000));
      CHECK(other->va_bits() == regime->va_bits());
    }
  }
}

TEST_CASE("x86-64: the image is a list of one, or not ready") {
  FakeMemory memory(64 << 20);
  TableBuilder tables(memory, 0x1000, false);
  const auto of =
      registers(Machine::kX86_64, {{"cr0", 0x80050033}, {"cr3", 0x1000}, {"efer", 0xd01}});
  const Processor& processor = *find_processor(Machine::kX86_64);
  const auto regime = processor.regimes(of).back();
  const auto none = processor.find_kernel_images(*regime, memory);
  REQUIRE_FALSE(none);
  CHECK(none.error().code == ErrorCode::kNotReady);
  tables.map(0xffffffff81000000, 0x1000000, 2, 0);
  const auto images = processor.find_kernel_images(*regime, memory);
  REQUIRE(images.has_value());
  REQUIRE(images->size() == 1);
  CHECK(images->front().phys == GuestPhys(0x1000000));
}

TEST_CASE("arm64: TTBR1 may be the trampoline's or the empty table: three roots, a page apart") {
  const struct {
    Aarch64Format format;
    std::uint64_t page;
  } cases[] = {{{12, 48, false, false}, 0x1000},
               {{14, 47, false, false}, 0x4000},
               {{16, 42, false, false}, 0x10000}};
  for (const auto& [format, page] : cases) {
    const std::uint64_t asid_and_cnp = 0x1234'0000'0000'0001;
    const auto of = registers(Machine::kAarch64, {{"SCTLR", 0x30d0199d},
                                                  {"TCR_EL1", format.tcr()},
                                                  {"TTBR1_EL1", 0x4124'0000 | asid_and_cnp}});
    CHECK(find_processor(Machine::kAarch64)->paging_enabled(of));
    CHECK(roots(of) == three(0x4124'0000, page));
  }
}

TEST_CASE("arm64: paging is off without SCTLR.M, with EPD1, and with reserved sizes") {
  const Processor& processor = *find_processor(Machine::kAarch64);
  const std::uint64_t tcr = Aarch64Format{12, 48, false, false}.tcr();
  const auto with = [&](std::uint64_t sctlr, std::uint64_t value) {
    return registers(Machine::kAarch64,
                     {{"SCTLR", sctlr}, {"TCR_EL1", value}, {"TTBR1_EL1", 0x4124'0000}});
  };
  CHECK(processor.paging_enabled(with(1, tcr)));
  CHECK_FALSE(processor.paging_enabled(with(0x30d0199c, tcr)));
  CHECK_FALSE(processor.paging_enabled(with(1, tcr | kEpd1)));
  CHECK_FALSE(processor.paging_enabled(with(1, tcr & ~(std::uint64_t{3} << 30))));
  // 52 bits need 64 KiB pages or TCR.DS; no kernel has less than 36 or more than 52.
  CHECK_FALSE(processor.paging_enabled(with(1, Aarch64Format{12, 52, false, false}.tcr())));
  CHECK_FALSE(processor.paging_enabled(with(1, Aarch64Format{14, 52, false, false}.tcr())));
  CHECK(processor.paging_enabled(with(1, Aarch64Format{14, 52, false, true}.tcr())));
  CHECK_FALSE(processor.paging_enabled(with(1, Aarch64Format{16, 53, true, false}.tcr())));
  CHECK_FALSE(processor.paging_enabled(with(1, tcr & ~(std::uint64_t{63} << 16))));
  CHECK_FALSE(processor.paging_enabled(with(1, tcr | (std::uint64_t{63} << 16))));
  CHECK(roots(with(0, tcr)).empty());
  // The same register under the name that newer stubs give it.
  CHECK(processor.paging_enabled(registers(
      Machine::kAarch64, {{"SCTLR_EL1", 1}, {"TCR_EL1", tcr}, {"TTBR1_EL1", 0x4124'0000}})));
}

TEST_CASE("arm64: the registers of EL2 rule while a kernel runs there") {
  const std::uint64_t el1 = Aarch64Format{12, 39, false, false}.tcr();
  const std::uint64_t el2 = Aarch64Format{16, 42, false, false}.tcr();
  const auto with = [&](std::uint64_t hcr, std::uint64_t sctlr_el2, std::uint64_t tcr_el2) {
    return registers(Machine::kAarch64, {{"SCTLR", 1},
                                         {"TCR_EL1", el1},
                                         {"TTBR1_EL1", 0x4124'0000},
                                         {"HCR_EL2", hcr},
                                         {"SCTLR_EL2", sctlr_el2},
                                         {"TCR_EL2", tcr_el2},
                                         {"TTBR1_EL2", 0x8000'0000}});
  };
  CHECK(roots(with(kE2h, 1, el2)) == three(0x8000'0000, 0x10000));
  CHECK(find_processor(Machine::kAarch64)->regimes(with(kE2h, 1, el2)).front()->va_bits() == 42);
  CHECK(roots(with(0, 1, el2)) == three(0x4124'0000, 0x1000));
  // hVHE: KVM's own code at EL2 with E2H set, the kernel at EL1.
  CHECK(roots(with(kE2h, 1, el2 | kEpd1)) == three(0x4124'0000, 0x1000));
  CHECK(roots(with(kE2h, 0, el2)) == three(0x4124'0000, 0x1000));
}

TEST_CASE("arm64: the root is aligned to its own size, and its top bits hide in low ones") {
  const auto root = [](Aarch64Format format, std::uint64_t ttbr) {
    return roots(registers(Machine::kAarch64,
                           {{"SCTLR", 1}, {"TCR_EL1", format.tcr()}, {"TTBR1_EL1", ttbr}}))
        .front();
  };
  // 64 entries of a 52-bit kernel's table, as 48-bit processors see it: pgd + 960 * 8.
  CHECK(root({16, 48, false, false}, 0x4124'1e01) == GuestPhys(0x4124'1e00));
  CHECK(root({16, 48, true, false}, 0x4124'1e00 | 0xf << 2 | 1) == GuestPhys(0xf'0000'4124'1e00));
  CHECK(root({16, 52, true, false}, 0x0001'0000'4124'2000 | 5 << 2) ==
        GuestPhys(0x5'0000'4124'2000));
  CHECK(root({12, 48, false, false}, 0x4124'103d) == GuestPhys(0x4124'1000));
  CHECK(root({12, 52, false, true}, 0x4124'1080 | 9 << 2 | 1) == GuestPhys(0x9'0000'4124'1080));
  CHECK(root({14, 52, false, true}, 0x4124'4000 | 12 << 2) == GuestPhys(0xc'0000'4124'4000));
  // A root of two entries is still aligned to 64 bytes when bits below that belong to the address.
  CHECK(root({14, 48, false, true}, 0x4124'4040 | 12 << 2) == GuestPhys(0xc'0000'4124'4040));
  CHECK(root({14, 48, false, false}, 0x4124'4011) == GuestPhys(0x4124'4010));  // two entries
}

}  // namespace
}  // namespace guestscope
