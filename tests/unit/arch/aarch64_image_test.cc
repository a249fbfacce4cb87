#include <doctest/doctest.h>

#include "arch/aarch64.h"
#include "arch/processor.h"
#include "arch/table_scan.h"
#include "tests/support/aarch64_tables.h"

namespace guestscope {
namespace {

using test::Aarch64Format;
using test::Aarch64Tables;
using test::FakeMemory;

constexpr std::uint64_t kRoot = 0x80000;
constexpr std::uint64_t kData = Aarch64Tables::kNoExecute;
constexpr std::uint64_t kMiB = 1 << 20;
constexpr Aarch64Format k4k48{12, 48, false, false};

struct Guest {
  explicit Guest(Aarch64Format of = k4k48)
      : format(of),
        tables(memory, of, kRoot, 0x1000000),
        regime(*aarch64::geometry_of(of.tcr()), GuestPhys(kRoot)) {}

  Result<std::vector<KernelImage>> images() {
    return find_processor(Machine::kAarch64)->find_kernel_images(regime, memory);
  }
  KernelImage image() {
    const auto found = images();
    REQUIRE(found.has_value());
    REQUIRE(found->size() == 1);
    return found->front();
  }
  /// Text, data behind it and a gap after the data.
  void map_kernel(std::uint64_t virt, std::uint64_t phys) {
    tables.map_pages(virt, phys, 2 * kMiB, 0);
    tables.map_pages(virt + 2 * kMiB, phys + 2 * kMiB, kMiB, kData);
    tables.map_pages(virt + 4 * kMiB, phys + 4 * kMiB, kMiB, kData);
  }
  void check_kernel(const KernelImage& image, std::uint64_t virt, std::uint64_t phys) {
    CHECK(image.text_base == GuestVirt(virt));
    CHECK(image.phys == GuestPhys(phys));
    CHECK(image.data_base == GuestVirt(virt + 2 * kMiB));
    CHECK(image.size == 3 * kMiB);
  }

  FakeMemory memory{std::uint64_t{1} << 40};
  Aarch64Format format;
  Aarch64Tables tables;
  aarch64::Regime regime;
};

TEST_CASE("an image is found in every format, in as many exchanges as the tables are deep") {
  const Aarch64Format formats[] = {k4k48,
                                   {12, 39, false, false},
                                   {12, 52, false, true},
                                   {14, 36, false, false},
                                   {14, 47, false, false},
                                   {14, 48, false, false},
                                   {14, 52, false, true},
                                   {16, 42, false, false},
                                   {16, 48, false, false},
                                   {16, 52, true, false}};
  for (const Aarch64Format& format : formats) {
    CAPTURE(format.granule_bits);
    CAPTURE(format.va_bits);
    const std::uint64_t area = aarch64::end_of_linear_map(format.va_bits, format.page()).value();
    for (const std::uint64_t virt :
         {area, area + 0x1'2345'0000, ~std::uint64_t{0} - 8 * kMiB + 1}) {
      CAPTURE(virt);
      Guest guest(format);
      guest.map_kernel(virt, 0x4840'0000);
      guest.check_kernel(guest.image(), virt, 0x4840'0000);
      CHECK(guest.memory.exchanges == static_cast<std::size_t>(4 - format.start()));
    }
  }
}

TEST_CASE("the linear map ends where asm/memory.h puts PAGE_END") {
  using aarch64::end_of_linear_map;
  CHECK(end_of_linear_map(39, 4096) == GuestVirt(0xffff'ffc0'0000'0000));
  CHECK(end_of_linear_map(48, 4096) == GuestVirt(0xffff'8000'0000'0000));
  CHECK(end_of_linear_map(52, 4096) == GuestVirt(0xffff'8000'0000'0000));
  CHECK(end_of_linear_map(52, 65536) == GuestVirt(0xffff'8000'0000'0000));
  CHECK(end_of_linear_map(52, 16384) == GuestVirt(0xffff'c000'0000'0000));
  CHECK(end_of_linear_map(47, 16384) == GuestVirt(0xffff'c000'0000'0000));
}

TEST_CASE("executable memory in the linear map is no image") {
  Guest guest;
  guest.tables.map(0xffff'0000'4000'0000, 0x4000'0000, 1);
  guest.tables.map(0xffff'7fff'c000'0000, 0x8000'0000, 1);
  const auto none = guest.images();
  REQUIRE_FALSE(none);
  CHECK(none.error().code == ErrorCode::kNotReady);
}

TEST_CASE("text in blocks of 2 MiB that ends in small pages is one piece") {
  Guest guest;
  const std::uint64_t virt = 0xffff'8000'0800'0000;
  guest.tables.map_pages(virt + 0x10000, 0x4001'0000, 2 * kMiB - 0x10000, 0);
  for (std::uint64_t at = 2 * kMiB; at < 8 * kMiB; at += 2 * kMiB)
    guest.tables.map(virt + at, 0x4000'0000 + at, 2);
  guest.tables.map_pages(virt + 8 * kMiB, 0x4080'0000, kMiB, 0);
  guest.tables.map_pages(virt + 9 * kMiB, 0x4090'0000, kMiB, kData);
  guest.tables.map(virt + 10 * kMiB, 0x40a0'0000, 2, kData);
  const KernelImage image = guest.image();
  CHECK(image.text_base == GuestVirt(virt + 0x10000));
  CHECK(image.phys == GuestPhys(0x4001'0000));
  CHECK(image.data_base == GuestVirt(virt + 9 * kMiB));
  CHECK(image.size == 12 * kMiB - 0x10000);
}

TEST_CASE("data directly before the text, and init text behind its data, move nothing") {
  Guest guest;
  const std::uint64_t virt = 0xffff'8000'8000'0000;
  guest.tables.map_pages(virt, 0x4000'0000, 0x10000, kData);  // [_text, _stext) since 6.18
  guest.tables.map_pages(virt + 0x10000, 0x4001'0000, 3 * kMiB, 0);
  guest.tables.map_pages(virt + 0x10000 + 3 * kMiB, 0x4001'0000 + 3 * kMiB, kMiB, kData);
  guest.tables.map_pages(virt + 0x10000 + 4 * kMiB, 0x4001'0000 + 4 * kMiB, 2 * kMiB, 0);
  guest.tables.map_pages(virt + 0x10000 + 6 * kMiB, 0x4001'0000 + 6 * kMiB, kMiB, kData);
  const KernelImage image = guest.image();
  CHECK(image.text_base == GuestVirt(virt + 0x10000));
  CHECK(image.phys == GuestPhys(0x4001'0000));
  CHECK(image.data_base == GuestVirt(virt + 0x10000 + 3 * kMiB));
  CHECK(image.size == 7 * kMiB);
}

TEST_CASE("an image that is executable throughout, as early in boot, has no data") {
  Guest guest;
  for (std::uint64_t at = 0; at < 16 * kMiB; at += 2 * kMiB)
    guest.tables.map(0xffff'8000'0800'0000 + at, 0x4020'0000 + at, 2);
  const KernelImage image = guest.image();
  CHECK(image.text_base == GuestVirt(0xffff'8000'0800'0000));
  CHECK(image.data_base == image.text_base);
  CHECK(image.size == 16 * kMiB);
}

TEST_CASE("modules, BPF programs and vmalloc memory around the image are not taken for it") {
  Guest guest;
  const std::uint64_t modules = 0xffff'8000'0000'0000;
  // A module of 4 MiB, but of scattered pages; then one of 512 KiB in one piece.
  for (std::uint64_t at = 0; at < 4 * kMiB; at += 0x1000)
    guest.tables.map(modules + at, 0x9000'0000 + 2 * at, 3);
  guest.tables.map_pages(modules + 8 * kMiB, 0x5000'0000, kMiB / 2, 0);
  guest.tables.map_pages(modules + 8 * kMiB + kMiB / 2, 0x5008'0000, kMiB, kData);
  for (std::uint64_t at = 0; at < 64 * kMiB; at += 0x1000)
    guest.tables.map(0xffff'8100'0000'0000 + at, 0xa000'0000 + 2 * at, 3, kData);
  guest.map_kernel(0xffff'8000'8000'0000, 0x4840'0000);
  guest.check_kernel(guest.image(), 0xffff'8000'8000'0000, 0x4840'0000);
}

TEST_CASE("several images are listed by the size of their text, and not too many of them") {
  Guest guest;
  for (std::uint64_t i = 0; i < aarch64::kMaxImages + 4; ++i) {
    const std::uint64_t virt = 0xffff'8000'0000'0000 + i * 64 * kMiB;
    guest.tables.map_pages(virt, 0x4000'0000 + i * 64 * kMiB, (1 + i % 2) * kMiB, 0);
  }
  guest.tables.map(0xffff'8100'0000'0000, 0x8000'0000, 1);
  const auto images = guest.images();
  REQUIRE(images.has_value());
  REQUIRE(images->size() == aarch64::kMaxImages);
  CHECK(images->at(0).size == 1024 * kMiB);
  CHECK(images->at(1).size == 2 * kMiB);
  CHECK(images->at(1).text_base == GuestVirt(0xffff'8000'0000'0000 + 64 * kMiB));
  CHECK(images->back().size == kMiB);
}

TEST_CASE("text that is contiguous in one address space only is in pieces") {
  Guest guest;
  const std::uint64_t virt = 0xffff'8000'0000'0000;
  guest.tables.map_pages(virt, 0x4000'0000, kMiB, 0);
  guest.tables.map_pages(virt + kMiB, 0x5000'0000, kMiB, 0);               // elsewhere in memory
  guest.tables.map_pages(virt + 2 * kMiB + 0x1000, 0x5010'0000, kMiB, 0);  // behind a gap
  const auto images = guest.images();
  REQUIRE(images.has_value());
  CHECK(images->size() == 3);
  for (const KernelImage& image : *images) CHECK(image.size == kMiB);
}

TEST_CASE("a trampoline's page and an empty table hold no image") {
  Guest guest;
  const auto empty = guest.images();
  REQUIRE_FALSE(empty);
  CHECK(empty.error().code == ErrorCode::kNotReady);
  guest.tables.map_pages(0xffff'ffff'fe00'0000, 0x4840'0000, 0x2000, 0);
  const auto trampoline = guest.images();
  REQUIRE_FALSE(trampoline);
  CHECK(trampoline.error().code == ErrorCode::kNotReady);
}

TEST_CASE("text below a table that forbids executing is no image") {
  Guest guest;
  guest.map_kernel(0xffff'8000'8000'0000, 0x4840'0000);
  guest.tables.set_bits(guest.tables.entry_address(0xffff'8000'8000'0000, 1),
                        Aarch64Tables::kTableNoExecute);
  CHECK_FALSE(guest.images());
}

TEST_CASE("tables outside RAM are skipped, a lost connection is an error") {
  Guest guest;
  guest.map_kernel(0xffff'8000'8000'0000, 0x4840'0000);
  guest.memory.write_u64(guest.tables.entry_address(0xffff'9000'0000'0000, 1),
                         (std::uint64_t{1} << 41) | 3);
  guest.check_kernel(guest.image(), 0xffff'8000'8000'0000, 0x4840'0000);
  guest.memory.broken = Error{.code = ErrorCode::kUnreachable, .message = "gone"};
  const auto lost = guest.images();
  REQUIRE_FALSE(lost);
  CHECK(lost.error().code == ErrorCode::kUnreachable);
}

TEST_CASE("a thousand tables of small pages cost one exchange a level") {
  Guest guest;
  for (std::uint64_t i = 0; i < 1000; ++i)
    guest.tables.map(0xffff'8100'0000'0000 + i * 2 * kMiB, 0x6000'0000 + i * 0x3000, 3, kData);
  guest.map_kernel(0xffff'8000'8000'0000, 0x4840'0000);
  guest.check_kernel(guest.image(), 0xffff'8000'8000'0000, 0x4840'0000);
  CHECK(guest.memory.exchanges == 4);
  CHECK(guest.memory.read_count < 1012);
}

TEST_CASE("a table that contains itself is read once") {
  for (const Aarch64Format& format : {k4k48, Aarch64Format{16, 52, true, false}}) {
    Guest guest(format);
    for (std::uint64_t i = 0; i < format.root_entries(); ++i)
      guest.memory.write_u64(kRoot + 8 * i, kRoot | 3);
    CHECK_FALSE(guest.images());
    CHECK(guest.memory.read_count == 1);
  }
}

TEST_CASE("tables whose entries all name one table are read once a level, for one answer") {
  Guest guest;
  for (std::uint64_t level = 0; level < 3; ++level)
    for (std::uint64_t i = 0; i < 512; ++i)
      guest.memory.write_u64(kRoot + level * 0x1000 + 8 * i, (kRoot + (level + 1) * 0x1000) | 3);
  for (std::uint64_t i = 0; i < 512; ++i)
    guest.memory.write_u64(kRoot + 3 * 0x1000 + 8 * i, (0x4000'0000 + i * 0x1000) | 3);
  const auto images = guest.images();
  REQUIRE(images.has_value());
  CHECK(images->size() == 1);
  CHECK(guest.memory.read_count == 4);
}

// Every table is RAM, distinct and full of distinct tables: what a guest could do at most.
class EndlessTables final : public PhysMemory {
 public:
  explicit EndlessTables(std::uint64_t leaf_flags) : leaf_flags_(leaf_flags) {}

  void read(std::span<PhysRead> reads) override {
    for (PhysRead& request : reads) {
      bytes += request.into.size();
      for (std::size_t at = 0; at < request.into.size(); at += 8) {
        const std::uint64_t entry =
            (++count_ << 13 & 0xffff'ffff'f000) | leaf_flags_ | 3;  // no two contiguous
        for (std::size_t i = 0; i < 8; ++i)
          request.into[at + i] = static_cast<std::byte>(entry >> (8 * i));
      }
    }
  }
  std::size_t bytes = 0;

 private:
  std::uint64_t leaf_flags_;
  std::uint64_t count_ = 0;
};

TEST_CASE("endless tables cost no more than the limits, and say that they are too many") {
  for (const std::uint64_t flags : {std::uint64_t{0}, kData}) {
    CAPTURE(flags);
    for (const Aarch64Format& format : {k4k48, Aarch64Format{16, 48, false, false}}) {
      const aarch64::Regime regime(*aarch64::geometry_of(format.tcr()), GuestPhys(kRoot));
      EndlessTables memory(flags);
      const auto scan = scan_tables(regime, memory, aarch64::end_of_linear_map(48, format.page()));
      REQUIRE(scan.has_value());
      CHECK_FALSE(scan->complete);
      CHECK(scan->runs.size() <= kMaxScanRuns);
      CHECK(memory.bytes <= kMaxScanTableBytes);
      const auto images = aarch64::find_kernel_images(regime, memory);
      REQUIRE_FALSE(images);
      CHECK(images.error().code == ErrorCode::kCorrupt);
    }
  }
}

TEST_CASE("too many tables behind the image do not hide it") {
  Guest guest;
  guest.map_kernel(0xffff'8000'8000'0000, 0x4840'0000);
  // Upper-level entries that lead to more tables than are read.
  for (std::uint64_t i = 0; i < 40; ++i) {
    const std::uint64_t upper =
        guest.tables.entry_address(0xffff'a000'0000'0000 + (i << 30), 2) & ~0xfffULL;
    for (std::uint64_t entry = 0; entry < 512; ++entry)
      guest.memory.write_u64(upper + 8 * entry, (0x10'0000'0000 + (i * 512 + entry) * 0x1000) | 3);
  }
  guest.check_kernel(guest.image(), 0xffff'8000'8000'0000, 0x4840'0000);
  CHECK(guest.memory.bytes_read <= kMaxScanTableBytes);
}

}  // namespace
}  // namespace guestscope
