#include <doctest/doctest.h>

#include "tests/support/mini_guest.h"

namespace guestscope {
namespace {

using test::MiniGuest;
using test::refresh;

constexpr std::size_t kKeyOffset = sizeof(mini::htab_elem);
constexpr std::size_t kNextOffset = 0;

/// A hash table with keys of 4 and values of 8 bytes, built bucket by bucket.
struct HashGuest {
  explicit HashGuest(std::uint32_t type = 1, std::uint32_t bucket_count = 4)
      : guest(MiniGuest::booted(test::load_model())), kernel(guest.model, nullptr) {
    refresh(kernel, guest);
    buckets = guest.allocate(bucket_count * sizeof(mini::bucket));
    for (std::uint32_t i = 0; i < bucket_count; ++i) guest.write_u64(bucket(i), end_of(i));
    mini::bpf_htab table{};
    table.map.map_type = type;
    table.map.key_size = 4;
    table.map.value_size = 8;
    table.map.max_entries = 16;
    table.map.refcnt.counter = 1;
    table.buckets = buckets;
    table.n_buckets = bucket_count;
    map = guest.put(table);
    guest.put_idr("map_idr", {{1, map}});
  }

  static std::uint64_t end_of(std::uint64_t index) { return index << 1 | 1; }
  std::uint64_t bucket(std::uint64_t index) const { return buckets + index * sizeof(mini::bucket); }

  /// An element that is in no chain yet.
  std::uint64_t element(std::uint32_t key, std::uint64_t value) {
    const std::uint64_t at = guest.allocate(kKeyOffset + 16);
    guest.write_object(at + kKeyOffset, key);
    guest.write_u64(at + kKeyOffset + 8, value);
    return at;
  }
  void chain(std::uint64_t index, const std::vector<std::uint64_t>& elements, std::uint64_t end) {
    std::uint64_t link = bucket(index);
    for (const std::uint64_t at : elements) {
      guest.write_u64(link, at);
      link = at + kNextOffset;
    }
    guest.write_u64(link, end);
  }
  void chain(std::uint64_t index, const std::vector<std::uint64_t>& elements) {
    chain(index, elements, end_of(index));
  }

  MapContents read() {
    const auto maps = kernel.maps(guest.memory);
    REQUIRE(maps.has_value());
    exchanges = guest.memory.exchanges;
    auto contents = kernel.map_contents(guest.memory, maps->maps.at(0), {}, budget);
    exchanges = guest.memory.exchanges - exchanges;
    if (!contents) FAIL(contents.error().to_string());
    return *std::move(contents);
  }
  static std::vector<std::uint64_t> keys(const MapContents& contents) {
    std::vector<std::uint64_t> list;
    for (std::size_t i = 0; i < contents.size(); ++i)
      list.push_back(load_le(contents.key(i).data(), 4));
    return list;
  }

  MiniGuest guest;
  GuestKernel kernel;
  std::uint64_t buckets = 0;
  std::uint64_t map = 0;
  std::size_t exchanges = 0;
  std::size_t budget = kMaxContentBytes;
};

using Keys = std::vector<std::uint64_t>;

TEST_CASE("elements are listed bucket by bucket in chain order, with one exchange for each depth") {
  HashGuest hash;
  hash.chain(0, {hash.element(10, 100)});
  hash.chain(2, {hash.element(30, 300), hash.element(31, 310), hash.element(32, 320)});
  hash.chain(3, {hash.element(40, 400), hash.element(41, 410)});
  const MapContents contents = hash.read();
  CHECK(HashGuest::keys(contents) == Keys{10, 30, 31, 32, 40, 41});
  CHECK(load_le(contents.value(3)->data(), 8) == 320);
  CHECK(contents.problems.empty());
  CHECK(hash.exchanges == 5);  // table, buckets, three depths
}

TEST_CASE("an empty table is an empty list without a problem") {
  HashGuest hash;
  const MapContents contents = hash.read();
  CHECK(contents.size() == 0);
  CHECK(contents.problems.empty());
}

TEST_CASE("per-CPU values are found behind the pointer in the element") {
  HashGuest hash(5);
  hash.chain(1, {hash.element(7, 0x3000), hash.element(8, 0x3010)});
  for (unsigned cpu : {0U, 1U}) {
    hash.guest.write_u64(hash.guest.area_offset(cpu) + 0x3000, 70 + cpu);
    hash.guest.write_u64(hash.guest.area_offset(cpu) + 0x3010, 80 + cpu);
  }
  const MapContents contents = hash.read();
  CHECK(HashGuest::keys(contents) == Keys{7, 8});
  CHECK(load_le(contents.value(0, 1)->data(), 8) == 71);
  CHECK(load_le(contents.value(1, 0)->data(), 8) == 80);
}

TEST_CASE("a per-CPU pointer that follows the key at once is found too") {
  HashGuest hash(5);
  const std::uint64_t first = hash.element(7, 0), second = hash.element(8, 0);
  // A real pointer's high half is not zero: read from the aligned place, it is a small offset.
  hash.guest.write_u64(first + kKeyOffset + 4, 0x3000);
  hash.guest.write_u64(second + kKeyOffset + 4, 0x3010);
  hash.chain(1, {first, second});
  for (unsigned cpu : {0U, 1U}) {
    hash.guest.write_u64(hash.guest.area_offset(cpu) + 0x3000, 70 + cpu);
    hash.guest.write_u64(hash.guest.area_offset(cpu) + 0x3010, 80 + cpu);
  }
  const MapContents contents = hash.read();
  CHECK(HashGuest::keys(contents) == Keys{7, 8});
  CHECK(load_le(contents.value(0, 1)->data(), 8) == 71);
  CHECK(load_le(contents.value(1, 0)->data(), 8) == 80);
}

TEST_CASE("a chain that ends in another bucket's mark is reported, and its elements are kept") {
  HashGuest hash;
  hash.chain(1, {hash.element(7, 1)}, HashGuest::end_of(2));
  const MapContents contents = hash.read();
  CHECK(HashGuest::keys(contents) == Keys{7});
  REQUIRE(contents.problems.list().size() == 1);
  CHECK(contents.problems.list()[0].at == "bucket 1");
}

TEST_CASE("a chain that runs into a hole keeps what came before it") {
  HashGuest hash;
  hash.chain(0, {hash.element(1, 1)}, 0xffffc12300000000);
  hash.chain(1, {hash.element(2, 2)});
  const MapContents contents = hash.read();
  CHECK(HashGuest::keys(contents) == Keys{1, 2});
  CHECK(contents.problems.list().size() == 1);
}

TEST_CASE("a chain with a cycle ends, and every element of it is listed once") {
  for (const std::size_t length : {1U, 2U, 5U, 9U}) {
    for (std::size_t back = 0; back < length; ++back) {
      CAPTURE(length);
      CAPTURE(back);
      HashGuest hash;
      std::vector<std::uint64_t> elements;
      Keys expected;
      for (std::size_t i = 0; i < length; ++i) {
        elements.push_back(hash.element(static_cast<std::uint32_t>(i), i));
        expected.push_back(i);
      }
      hash.chain(2, elements, elements[back]);
      const MapContents contents = hash.read();
      CHECK(HashGuest::keys(contents) == expected);
      REQUIRE(contents.problems.list().size() == 1);
      CHECK(contents.problems.list()[0].error.message == "its chain has a cycle");
    }
  }
}

TEST_CASE("a null in a chain and an absurd number of buckets are damage, not an empty map") {
  HashGuest hash;
  hash.chain(0, {hash.element(1, 1)}, 0);
  CHECK(hash.read().problems.list().size() == 1);
  hash.guest.memory.write_u64(
      hash.map - hash.guest.where.page_offset + offsetof(mini::bpf_htab, n_buckets), 3);
  const auto maps = hash.kernel.maps(hash.guest.memory);
  CHECK(
      hash.kernel.map_contents(hash.guest.memory, maps->maps.at(0), {}, hash.budget).error().code ==
      ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace guestscope
