#include "arch/ram_map.h"

#include <doctest/doctest.h>

#include <limits>

#include "gdbproto/mtree.h"
#include "tests/support/qemu_model.h"

namespace guestscope {
namespace {

constexpr std::uint64_t kTop = std::numeric_limits<std::uint64_t>::max();

RamBlock block(std::uint64_t begin, std::uint64_t size) { return {GuestPhys(begin), size}; }

TEST_CASE("a RAM map joins what touches or overlaps and sorts the rest") {
  const RamMap map({block(300, 10), block(100, 50), block(150, 10), block(120, 5), block(0, 0)});
  REQUIRE(map.blocks().size() == 2);
  CHECK(map.blocks()[0] == block(100, 60));
  CHECK(map.blocks()[1] == block(300, 10));
  CHECK(map.total() == 70);
}

TEST_CASE("a range is RAM when all of it is") {
  const RamMap map({block(100, 60), block(300, 10)});
  CHECK(map.contains(GuestPhys(100), 60));
  CHECK(map.contains(GuestPhys(159), 1));
  CHECK(map.contains(GuestPhys(309), 0));
  CHECK_FALSE(map.contains(GuestPhys(99), 2));
  CHECK_FALSE(map.contains(GuestPhys(100), 61));
  CHECK_FALSE(map.contains(GuestPhys(160), 0));
  CHECK_FALSE(map.contains(GuestPhys(150), 160));
  CHECK_FALSE(map.contains(GuestPhys(100), kTop));
  CHECK_FALSE(map.contains(GuestPhys(0), 0));
  CHECK_FALSE(RamMap().contains(GuestPhys(0), 0));
}

TEST_CASE("the end of the address space does not wrap") {
  const RamMap map({block(kTop - 10, kTop)});
  CHECK(map.total() == 10);
  CHECK(map.contains(GuestPhys(kTop - 1), 1));
  CHECK_FALSE(map.contains(GuestPhys(kTop - 1), 2));
  CHECK_FALSE(map.contains(GuestPhys(kTop), 1));
}

TEST_CASE("the flat view of system memory gives RAM and ROM, and no device") {
  const auto map = gdb::parse_mtree(gdb::testing::kMtree);
  REQUIRE(map);
  REQUIRE(map->blocks().size() == 4);
  CHECK(map->blocks()[0] == block(0, 0xa0000));
  CHECK(map->blocks()[1] == block(0xc0000, 0xb000));
  CHECK(map->blocks()[2] == block(0x100000, 0xff00000));
  CHECK(map->blocks()[3] == block(0x100000000, 0x40000000));
}

TEST_CASE("the ranges of the flat view are told apart although they touch, and RAM from ROM") {
  const auto ranges = gdb::parse_mtree_ranges(
      "FlatView #0\n AS \"memory\", root: system\n"
      "  0000-0fff (prio 0, ram): a\n  1000-1fff (prio 0, rom): a @1000\n"
      "  2000-2fff (prio 0, nv-ram): b\n  3000-3fff (prio 0, ramd): c\n"
      "  4000-4fff (prio 0, nv-rom): d\n");
  REQUIRE(ranges);
  REQUIRE(ranges->size() == 4);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(ranges->at(i).block == block(i == 3 ? 0x4000 : i * 0x1000, 0x1000));
    CHECK(ranges->at(i).writable == (i % 2 == 0));
  }
}

TEST_CASE("other views, other types and other spellings do not confuse the RAM map") {
  const auto map = gdb::parse_mtree(
      "FlatView #0\r\n AS \"memory-odd\", root: x\r\n  0000-0fff (prio 0, ram): a\r\n"
      "FlatView #1\r\n AS \"cpu-memory-0\", root: system\r\n AS \"memory\", root: system\r\n"
      "  0000000000001000-0000000000001fff (prio 0, nv-ram): nvdimm KVM\r\n"
      "  0000000000002000-0000000000002fff (prio 0, romd): flash\r\n"
      "  0000000000003000-0000000000003fff (prio 0, ramd): vfio\r\n"
      "  0000000000004000-0000000000004fff (prio 0, i/o): (prio 0, ram): liar\r\n"
      "  0000000000006000-0000000000005fff (prio 0, ram): backwards\r\n"
      "  zzzz-0000000000005fff (prio 0, ram): nonsense\r\n"
      "  0000000000007000-0000000000007fff (prio -1, ram): pc.ram owner:{obj path=/x (y):}\r\n"
      "FlatView #2\r\n AS \"I/O\", root: io\r\n  0000-0fff (prio 0, ram): b\r\n");
  REQUIRE(map);
  REQUIRE(map->blocks().size() == 2);
  CHECK(map->blocks()[0] == block(0x1000, 0x1000));
  CHECK(map->blocks()[1] == block(0x7000, 0x1000));
}

TEST_CASE("a memory tree without system memory, or without RAM in it, is unsupported") {
  for (const char* text :
       {"", "\n\n", "FlatView #0\n AS \"I/O\", root: io\n", "unknown command: 'info mtree -f'\r\n",
        "FlatView #0\n AS \"memory\", root: system\n  0-f (prio 0, i/o): x\n"}) {
    CAPTURE(text);
    const auto map = gdb::parse_mtree(text);
    REQUIRE_FALSE(map);
    CHECK(map.error().code == ErrorCode::kUnsupported);
  }
}

TEST_CASE("a memory tree cut off anywhere is read as far as it goes") {
  const std::string_view whole = gdb::testing::kMtree;
  for (std::size_t cut = 0; cut < whole.size(); ++cut) {
    const auto map = gdb::parse_mtree(whole.substr(0, cut));
    if (map) CHECK(map->total() <= 0x50000000 - 0x20000);
  }
}

TEST_CASE("a range that covers the whole address space is cut, not wrapped to nothing") {
  const auto map = gdb::parse_mtree(
      "FlatView\n AS \"memory\", root: x\n  0000000000000000-ffffffffffffffff (prio 0, ram): a\n");
  REQUIRE(map);
  CHECK(map->total() == kTop);
}

}  // namespace
}  // namespace guestscope
