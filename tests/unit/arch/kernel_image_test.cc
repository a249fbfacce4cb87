#include <doctest/doctest.h>

#include "arch/x86_64.h"
#include "tests/support/fake_memory.h"

namespace guestscope {
namespace {

using test::FakeMemory;
using test::TableBuilder;
using x86_64::PagingRegisters;
using x86_64::Regime;

constexpr std::uint64_t kSlot = x86_64::kImageAlign;

TEST_CASE("paging registers tell mode, depth and root") {
  PagingRegisters registers{
      .cr0 = 0x80050033, .cr3 = 0x80000000024a0003, .cr4 = 0x6b0, .efer = 0xd01};
  CHECK(registers.paging_enabled());
  CHECK(registers.long_mode());
  CHECK(registers.no_execute());
  CHECK_FALSE(registers.five_levels());
  CHECK(registers.root_candidates() == std::vector{GuestPhys(0x24a0000)});

  registers.cr4 |= 0x1000;
  CHECK(registers.five_levels());
  CHECK_FALSE(PagingRegisters{.cr0 = 0x60000010}.paging_enabled());
}

TEST_CASE("a root with bit 12 set may be the user's half: the kernel's half is tried first") {
  const PagingRegisters registers{.cr0 = 0, .cr3 = 0x24a1000, .cr4 = 0, .efer = 0};
  CHECK(registers.root_candidates() == std::vector{GuestPhys(0x24a0000), GuestPhys(0x24a1000)});
}

TEST_CASE("the image is the first run of mapped slots, with its read-only data marked") {
  for (const bool five : {false, true}) {
    CAPTURE(five);
    FakeMemory memory(256 << 20);
    TableBuilder tables(memory, 0x1000, five);
    const std::uint64_t base = 0xffffffff9e400000;
    for (std::uint64_t i = 0; i < 10; ++i)
      tables.map(base + i * kSlot, 0x3a00000 + i * kSlot, 2, i < 7 ? 0 : TableBuilder::kNoExecute);
    tables.map(base + 20 * kSlot, 0x8000000, 2);
    const auto image = x86_64::find_kernel_image(Regime(GuestPhys(0x1000), five, true), memory);
    REQUIRE(image.has_value());
    CHECK(image->text_base == GuestVirt(base));
    CHECK(image->phys == GuestPhys(0x3a00000));
    CHECK(image->size == 10 * kSlot);
    CHECK(image->data_base == GuestVirt(base + 7 * kSlot));
    CHECK(memory.exchanges <= 5);
  }
}

TEST_CASE("an image whose slots were split into 4 KiB pages is found as well") {
  FakeMemory memory(256 << 20);
  TableBuilder tables(memory, 0x1000, false);
  for (std::uint64_t page = 0; page < 2 * kSlot; page += 4096)
    tables.map(0xffffffff81000000 + page, 0x1000000 + page, 1);
  const auto image = x86_64::find_kernel_image(Regime(GuestPhys(0x1000), false, true), memory);
  REQUIRE(image.has_value());
  CHECK(image->text_base == GuestVirt(0xffffffff81000000));
  CHECK(image->phys == GuestPhys(0x1000000));
  CHECK(image->size == 2 * kSlot);
}

TEST_CASE("tables without an image are not ready, a lost connection is unreachable") {
  FakeMemory memory(16 << 20);
  const Regime regime(GuestPhys(0x1000), false, true);
  const auto none = x86_64::find_kernel_image(regime, memory);
  REQUIRE_FALSE(none);
  CHECK(none.error().code == ErrorCode::kNotReady);

  memory.broken = Error{.code = ErrorCode::kUnreachable, .message = "gone"};
  const auto lost = x86_64::find_kernel_image(regime, memory);
  REQUIRE_FALSE(lost);
  CHECK(lost.error().code == ErrorCode::kUnreachable);
}

}  // namespace
}  // namespace guestscope
