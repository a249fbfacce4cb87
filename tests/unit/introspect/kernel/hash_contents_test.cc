#include <doctest/doctest.h>

#include <map>

#include "introspect/jhash.h"
#include "tests/support/mini_guest.h"

namespace guestscope {
namespace {

using test::MiniGuest;
using test::refresh;

constexpr std::size_t kKeyOffset = sizeof(mini::htab_elem);
constexpr std::size_t kNextOffset = 0;
constexpr std::size_t kSlotBytes = kKeyOffset + 16;
constexpr std::uint32_t kSeed = 0x5eed;

/// A hash table with keys of 4 and values of 8 bytes, built bucket by bucket.
struct HashGuest {
  explicit HashGuest(std::uint32_t type = 1, std::uint32_t buckets_wanted = 4)
      : guest(MiniGuest::booted(test::load_model())),
        kernel(guest.model, nullptr),
        bucket_count(buckets_wanted) {
    refresh(kernel, guest);
    buckets = guest.allocate(bucket_count * sizeof(mini::bucket));
    for (std::uint32_t i = 0; i < bucket_count; ++i) guest.write_u64(bucket(i), end_of(i));
    header.map.map_type = type;
    header.map.key_size = 4;
    header.map.value_size = 8;
    header.map.max_entries = 16;
    header.map.refcnt.counter = 1;
    header.map.id = 1;
    header.buckets = buckets;
    header.n_buckets = bucket_count;
    header.hashrnd = kSeed;
    map = guest.put(header);
    guest.put_idr("map_idr", {{1, map}});
  }

  static std::uint64_t end_of(std::uint64_t index) { return index << 1 | 1; }
  std::uint64_t bucket(std::uint64_t index) const { return buckets + index * sizeof(mini::bucket); }

  /// An element that is in no chain yet.
  std::uint64_t element(std::uint32_t key, std::uint64_t value) {
    const std::uint64_t at = slots == 0 ? guest.allocate(kSlotBytes) : free_slot;
    if (slots != 0) free_slot += kSlotBytes;
    guest.write_object(at + kKeyOffset, key);
    guest.write_u64(at + kKeyOffset + 8, value);
    return at;
  }
  void chain(std::uint64_t index, const std::vector<std::uint64_t>& elements, std::uint64_t end) {
    std::uint64_t link = bucket(index);
    for (const std::uint64_t at : elements) {
      guest.write_u64(link, at);
      guest.write_object(at + offsetof(mini::htab_elem, hash), static_cast<std::uint32_t>(index));
      link = at + kNextOffset;
    }
    guest.write_u64(link, end);
  }
  void chain(std::uint64_t index, const std::vector<std::uint64_t>& elements) {
    chain(index, elements, end_of(index));
  }

  /// Adds the element to the bucket that its key belongs to, in front of the others there.
  std::uint64_t insert(std::uint32_t key, std::uint64_t value) {
    return insert(element(key, value));
  }
  std::uint64_t insert(std::uint64_t at) {
    const std::uint32_t hash = jhash(bytes(at + kKeyOffset, 4), kSeed);
    const std::uint64_t head = bucket(hash & (bucket_count - 1));
    guest.write_object(at + offsetof(mini::htab_elem, hash), hash);
    guest.write(at + kNextOffset, bytes(head, 8));
    guest.write_u64(head, at);
    return at;
  }
  Bytes bytes(std::uint64_t virt, std::size_t size) {
    Bytes read(size);
    std::vector<PhysRead> reads = {
        {.address = GuestPhys(virt - guest.where.page_offset), .into = read}};
    guest.memory.read(reads);
    return read;
  }

  /// Gives the table an array of all its elements; element() then takes them from there.
  void preallocate(std::uint32_t count) {
    slots = guest.allocate(count * kSlotBytes);
    free_slot = slots;
    mini::bpf_htab table = header;
    table.map.max_entries = count;
    table.elems = slots;
    table.elem_size = kSlotBytes;
    guest.write_object(map, table);
  }

  Result<MapContents> look_up(std::uint32_t key) {
    const auto maps = kernel.maps(guest.memory);
    REQUIRE(maps.has_value());
    exchanges = guest.memory.exchanges;
    const auto make_key = [&](const MapContents&) -> Result<Bytes> {
      const auto raw = std::as_bytes(std::span(&key, 1));
      return Bytes(raw.begin(), raw.end());
    };
    auto found = kernel.map_entry(guest.memory, maps->maps.at(0), make_key);
    exchanges = guest.memory.exchanges - exchanges;
    return found;
  }

  MapContents read(const MapPart& part = {}) {
    const auto maps = kernel.maps(guest.memory);
    REQUIRE(maps.has_value());
    exchanges = guest.memory.exchanges;
    auto contents = kernel.map_contents(guest.memory, maps->maps.at(0), part, budget);
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
  std::uint32_t bucket_count;
  mini::bpf_htab header{};
  std::uint64_t buckets = 0;
  std::uint64_t slots = 0;
  std::uint64_t free_slot = 0;
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

TEST_CASE("the hash function is the published one") {
  const std::string_view text = "Four score and seven years ago";
  const auto bytes = std::as_bytes(std::span(text));
  CHECK(jhash(bytes, 0) == 0x17770551);
  CHECK(jhash(bytes, 1) == 0xcd628161);
  CHECK(jhash({}, 0) == 0xdeadbeef);
}

TEST_CASE("of two elements with one key, as an update has them for a moment, the first counts") {
  HashGuest hash;
  hash.insert(10, 100);
  hash.insert(20, 200);
  hash.insert(10, 101);
  MapContents contents = hash.read();
  CHECK(contents.problems.empty());
  REQUIRE(contents.size() == 2);
  std::map<std::uint64_t, std::uint64_t> values;
  for (std::size_t i = 0; i < contents.size(); ++i)
    values[load_le(contents.key(i).data(), 4)] = load_le(contents.value(i, 0)->data(), 8);
  CHECK(values == std::map<std::uint64_t, std::uint64_t>{{10, 101}, {20, 200}});
  const auto found = hash.look_up(10);
  REQUIRE(found.has_value());
  REQUIRE(found->size() == 1);
  CHECK(load_le(found->value(0, 0)->data(), 8) == 101);
}

TEST_CASE("an array of all elements is read as a whole, and free elements are left out") {
  HashGuest hash(1, 64);
  hash.preallocate(100);
  Keys expected;
  for (std::uint32_t key = 0; key < 90; ++key) {
    const std::uint64_t at = hash.element(key, key * 3);
    if (key % 9 == 0) continue;  // never inserted: free
    hash.insert(at);
    expected.push_back(key);
  }
  hash.slots = 0;
  hash.insert(1000, 3000);  // one that lies elsewhere
  expected.push_back(1000);
  const MapContents contents = hash.read();
  Keys found = HashGuest::keys(contents);
  std::ranges::sort(found);
  CHECK(found == expected);
  for (std::size_t i = 0; i < contents.size(); ++i)
    CHECK(load_le(contents.value(i)->data(), 8) == 3 * load_le(contents.key(i).data(), 4));
  CHECK(contents.problems.empty());
  CHECK(hash.exchanges == 4);  // table, elements, buckets, the one elsewhere
}

TEST_CASE("reading the array and following the chains list the same in the same order") {
  HashGuest hash(1, 64);
  hash.preallocate(200);
  for (std::uint32_t key = 0; key < 150; ++key) hash.insert(key, key);
  const Keys at_once = HashGuest::keys(hash.read());
  CHECK(at_once.size() == 150);
  CHECK(HashGuest::keys(hash.read({.from = {}, .limit = 1000})) == at_once);
}

TEST_CASE("an array of elements that is almost empty is not read") {
  HashGuest hash(1, 4096);
  hash.preallocate(4096);
  hash.insert(7, 70);
  const std::size_t before = hash.guest.memory.bytes_read;
  CHECK(HashGuest::keys(hash.read()) == Keys{7});
  CHECK(hash.guest.memory.bytes_read - before < 4096 * (sizeof(mini::bucket) + 8));
}

TEST_CASE("parts of a table put together are the whole, whatever the limit") {
  HashGuest hash(1, 32);
  for (std::uint32_t key = 0; key < 100; ++key) hash.insert(key, key);
  const Keys whole = HashGuest::keys(hash.read());
  REQUIRE(whole.size() == 100);
  for (const std::uint64_t limit : {1U, 2U, 7U, 50U, 99U, 100U, 101U}) {
    CAPTURE(limit);
    Keys together;
    MapPart part{.from = {}, .limit = limit};
    for (std::size_t parts = 0; parts < 101; ++parts) {
      const MapContents contents = hash.read(part);
      CHECK(contents.size() <= limit);
      for (const std::uint64_t key : HashGuest::keys(contents)) together.push_back(key);
      if (!contents.next) break;
      part.from = *contents.next;
    }
    CHECK(together == whole);
  }
}

TEST_CASE("a part goes on in the middle of a bucket when the element before is gone, too") {
  HashGuest hash;
  const auto first = hash.element(1, 1), second = hash.element(2, 2), third = hash.element(3, 3);
  hash.chain(2, {first, second, third});
  const MapContents part = hash.read({.from = {}, .limit = 1});
  CHECK(HashGuest::keys(part) == Keys{1});
  REQUIRE(part.next);
  CHECK(HashGuest::keys(hash.read({.from = *part.next})) == Keys{2, 3});
  hash.chain(2, {second, third});
  CHECK(HashGuest::keys(hash.read({.from = *part.next})) == Keys{2, 3});
}

TEST_CASE("a key is looked up in its bucket only") {
  HashGuest hash(1, 1024);
  for (std::uint32_t key = 0; key < 1000; ++key) hash.insert(key, key + 5);
  for (const std::uint32_t key : {0U, 1U, 500U, 999U}) {
    const auto found = hash.look_up(key);
    REQUIRE(found);
    CHECK(HashGuest::keys(*found) == Keys{key});
    CHECK(load_le(found->value(0)->data(), 8) == key + 5);
    CHECK(hash.exchanges < 10);
  }
  const auto missing = hash.look_up(1001);
  REQUIRE(missing);
  CHECK(missing->size() == 0);
  CHECK(hash.exchanges < 10);
}

TEST_CASE("a kernel that hashes otherwise costs a walk, and no entry") {
  HashGuest hash(1, 64);
  hash.chain(9, {hash.element(4, 40)});
  hash.chain(10, {hash.element(5, 50)});
  const auto found = hash.look_up(5);
  REQUIRE(found);
  CHECK(HashGuest::keys(*found) == Keys{5});
  CHECK(hash.look_up(6)->size() == 0);
}

TEST_CASE("an element whose hash is of another bucket is not taken for one of this") {
  HashGuest hash;
  const std::uint64_t stray = hash.element(1, 1);
  hash.chain(1, {stray});
  hash.guest.write_object(stray + offsetof(mini::htab_elem, hash), std::uint32_t{2});
  const MapContents contents = hash.read();
  CHECK(contents.size() == 0);
  CHECK(contents.problems.list().size() == 1);
}

}  // namespace
}  // namespace guestscope
