// Tries, queues, stacks, Bloom filters, ring buffers.
#include <algorithm>
#include <array>

#include "tests/unit/introspect/kernel/plain_guest.h"

namespace guestscope {
namespace {

using test::Numbers;
using test::PlainGuest;
using test::text_of;

struct TrieGuest : PlainGuest {
  static constexpr std::size_t kData = offsetof(mini::lpm_trie_node, data_start);

  /// 4 bytes of data, a value of 8 behind them, not aligned.
  std::uint64_t node(std::array<std::uint8_t, 4> data, std::uint32_t length, std::uint64_t value,
                     std::uint64_t zero = 0, std::uint64_t one = 0, std::uint32_t flags = 0) {
    const std::uint64_t at = guest.allocate(kData + 12);
    mini::lpm_trie_node head{};
    head.child[0] = zero;
    head.child[1] = one;
    head.prefixlen = length;
    head.flags = flags;
    guest.write_object(at, head);
    guest.write(at + kData, std::as_bytes(std::span(data)));
    guest.write_u64(at + kData + 4, value);
    return at;
  }
  std::uint64_t trie(std::uint64_t root) {
    mini::lpm_trie map{};
    map.map = header(11, 8, 8, 16);
    map.root = root;
    map.max_prefixlen = 32;
    map.data_size = 4;
    return guest.put(map);
  }
  /// The example in the kernel's source, with an intermediate node.
  std::uint64_t example() {
    const auto two = node({192, 168, 0, 0}, 24, 2);
    const auto five = node({192, 168, 1, 0}, 24, 5);
    const auto four = node({192, 168, 0, 0}, 23, 999, two, five, 1);
    const auto three = node({192, 168, 128, 0}, 24, 3);
    return trie(node({192, 168, 0, 0}, 16, 1, four, three));
  }
  static Bytes key(std::uint32_t length, std::array<std::uint8_t, 4> data) {
    Bytes bytes;
    for (unsigned i = 0; i < 4; ++i) bytes.push_back(static_cast<std::byte>(length >> (8 * i)));
    for (const auto byte : data) bytes.push_back(static_cast<std::byte>(byte));
    return bytes;
  }
};

TEST_CASE_FIXTURE(TrieGuest, "prefixes are listed as the kernel does, an exchange for each level") {
  const MapContents contents = read(example());
  CHECK(values(contents) == Numbers{2, 5, 3, 1});
  CHECK(text_of(contents.facts_of(1)) == "{prefix=192.168.1.0/24}");
  CHECK(std::ranges::equal(contents.key(3), key(16, {192, 168, 0, 0})));
  CHECK(contents.problems.empty());
  CHECK(exchanges == 4);  // the trie, three levels
}

TEST_CASE_FIXTURE(TrieGuest,
                  "the longest prefix of a key is found, and never one without a value") {
  const auto map = example();
  CHECK(values(find(map, key(32, {192, 168, 1, 77}))) == Numbers{5});
  CHECK(values(find(map, key(32, {192, 168, 2, 1}))) == Numbers{1});
  CHECK(values(find(map, key(23, {192, 168, 0, 0}))) == Numbers{1});
  CHECK(values(find(map, key(16, {192, 168, 0, 0}))) == Numbers{1});
  CHECK(values(find(map, key(15, {192, 168, 0, 0}))).empty());
  CHECK(values(find(map, key(32, {10, 0, 0, 1}))).empty());
  CHECK(values(find(map, key(33, {192, 168, 0, 0}))).empty());
}

TEST_CASE_FIXTURE(TrieGuest, "cycles, shared nodes and prefixes too long are damage, not a hang") {
  const auto shared = node({10, 1, 0, 0}, 24, 2);
  const auto twice = read(trie(node({10, 0, 0, 0}, 8, 1, shared, shared)));
  CHECK(values(twice) == Numbers{2, 1});
  CHECK(twice.problems.list().size() == 1);

  const auto root = node({10, 0, 0, 0}, 8, 1);
  guest.write_u64(root + offsetof(mini::lpm_trie_node, child), root);
  const auto looping = read(trie(root));
  CHECK(values(looping) == Numbers{1});
  CHECK(looping.problems.list().size() == 1);

  CHECK(values(read(trie(node({10, 0, 0, 0}, 33, 1)))).empty());
  const auto wild = read(trie(node({10, 0, 0, 0}, 8, 1, kWild)));
  CHECK(values(wild) == Numbers{1});
  CHECK(wild.problems.list().size() == 1);

  mini::lpm_trie absurd{};
  absurd.map = header(11, 8, 8, 16);
  absurd.max_prefixlen = absurd.data_size = ~std::uint64_t{0};
  CHECK(try_read(guest.put(absurd)).error().code == ErrorCode::kCorrupt);
}

std::uint64_t put_ring(PlainGuest& on, std::uint32_t type, std::uint32_t tail, std::uint32_t head,
                       std::uint32_t entries = 4) {
  mini::bpf_queue_stack map{};
  map.map = PlainGuest::header(type, 0, 8, entries);
  map.tail = tail;
  map.head = head;
  map.size = entries + 1;
  std::vector<std::uint64_t> slots(entries + 1);
  for (std::uint64_t i = 0; i < slots.size(); ++i) slots[i] = 10 + i;
  return on.put_map_with(map, offsetof(mini::bpf_queue_stack, elements_start), slots);
}

TEST_CASE_FIXTURE(PlainGuest,
                  "queues and stacks list what would be taken out first, past the end") {
  CHECK(values(read(put_ring(*this, 22, 3, 1))) == Numbers{13, 14, 10});
  CHECK(values(read(put_ring(*this, 23, 3, 1))) == Numbers{10, 14, 13});
  CHECK(values(read(put_ring(*this, 22, 2, 2))).empty());
  CHECK(read(put_ring(*this, 22, 3, 1)).keys == KeyForm::kNone);
}

TEST_CASE_FIXTURE(PlainGuest, "parts of queues and stacks follow each other") {
  for (const std::uint32_t type : {22U, 23U}) {
    const auto map = put_ring(*this, type, 3, 1);
    const auto all = values(read(map));
    Numbers parts;
    for (MapPart part{.from = {}, .limit = 2};;) {
      const MapContents contents = read(map, part);
      for (const auto value : values(contents)) parts.push_back(value);
      if (!contents.next) break;
      part.from = *contents.next;
    }
    CHECK(parts == all);
  }
}

TEST_CASE_FIXTURE(PlainGuest, "positions outside a queue are damage") {
  CHECK(try_read(put_ring(*this, 22, 5, 1)).error().code == ErrorCode::kCorrupt);
  CHECK(try_read(put_ring(*this, 23, 1, ~0U)).error().code == ErrorCode::kCorrupt);
}

TEST_CASE_FIXTURE(PlainGuest, "a Bloom filter's bits are counted") {
  mini::bpf_bloom_filter map{};
  map.map = header(30, 0, 8, 16);
  map.bitset_mask = 127;
  map.nr_hash_funcs = 3;
  const auto offset = offsetof(mini::bpf_bloom_filter, bitset_start);
  const auto contents = read(put_map_with(map, offset, {0x8000000000000001, 7, ~0ULL}));
  CHECK(text_of(contents.facts) == "{bits_set=5 bits=128 hash_count=3 bitset_bytes=16}");
  CHECK(contents.size() == 0);
  map.bitset_mask = 100;
  CHECK(try_read(guest.put(map)).error().code == ErrorCode::kCorrupt);
}

struct BufferGuest : PlainGuest {
  static constexpr std::uint64_t kSize = 4096;
  static constexpr std::uint64_t kBusy = 1U << 31;
  static constexpr std::uint64_t kDiscarded = 1U << 30;

  BufferGuest() {
    buffer = guest.allocate(sizeof(mini::bpf_ringbuf) + kSize);
    ring.mask = kSize - 1;
  }
  std::uint64_t map(std::uint32_t type = 27) {
    guest.write_object(buffer, ring);
    mini::bpf_ringbuf_map object{};
    object.map = header(type, 0, 0, kSize);
    object.rb = buffer;
    for (const auto& [at, word] : words)
      guest.write_u64(buffer + offsetof(mini::bpf_ringbuf, data_start) + at % kSize, word);
    return guest.put(object);
  }

  mini::bpf_ringbuf ring{};
  std::uint64_t buffer = 0;
  std::map<std::uint64_t, std::uint64_t> words;
};

TEST_CASE_FIXTURE(BufferGuest, "records that wait are listed, also where they pass the end") {
  ring.consumer_pos = 3 * kSize - 24;
  ring.producer_pos = 3 * kSize + 24;
  ring.pending_pos = 3 * kSize;
  words = {{kSize - 24, 4 | kDiscarded}, {kSize - 16, 0x44332211}, {kSize - 8, 12},
           {0, 0x0807060504030201},      {8, 0x0c0b0a09},          {16, 0 | kBusy}};
  const auto contents = read(map());
  CHECK(text_of(contents.facts) ==
        "{consumer_pos=12264 producer_pos=12312 pending_pos=12288 pending_bytes=48 size=4096}");
  REQUIRE(contents.size() == 3);
  CHECK(text_of(contents.facts_of(0)) ==
        "{offset=4072 size=4 busy=false discarded=true value=11223344}");
  CHECK(text_of(contents.facts_of(1)) ==
        "{offset=4088 size=12 busy=false discarded=false value=0102030405060708090a0b0c}");
  CHECK(text_of(contents.facts_of(2)) == "{offset=16 size=0 busy=true discarded=false value=}");
  CHECK(contents.lookup_error == 524);
  CHECK(contents.problems.empty());
}

TEST_CASE_FIXTURE(BufferGuest, "a ring that overwrites begins where it was last overwritten") {
  ring.overwrite_mode = 1;
  ring.overwrite_pos = kSize;
  ring.producer_pos = kSize + 16;
  words = {{0, 8}, {8, 7}};
  const auto contents = read(map());
  REQUIRE(contents.size() == 1);
  CHECK(text_of(contents.facts_of(0)) ==
        "{offset=0 size=8 busy=false discarded=false value=0700000000000000}");
}

TEST_CASE_FIXTURE(BufferGuest, "positions and lengths that lie cost a problem and nothing more") {
  struct Case {
    std::uint64_t consumer, producer, header;
  };
  for (const Case& lie : {Case{16, 8, 8}, Case{0, kSize + 8, 8}, Case{4, 20, 8},
                          Case{0, 16, 0x3fffffff}, Case{0, 16, 9}, Case{~7ULL, 8, 0}}) {
    CAPTURE(lie.consumer);
    CAPTURE(lie.header);
    ring.consumer_pos = lie.consumer;
    ring.producer_pos = lie.producer;
    words = {{lie.consumer % kSize / 8 * 8, lie.header}};
    const auto contents = read(map(31));
    CHECK(contents.size() == 0);
    CHECK(contents.problems.list().size() == 1);
  }
  ring.mask = 12345;
  CHECK(try_read(map()).error().code == ErrorCode::kCorrupt);
  buffer = kWild;
  mini::bpf_ringbuf_map object{};
  object.map = header(27, 0, 0, kSize);
  object.rb = kWild;
  CHECK(!try_read(guest.put(object)).has_value());
}

}  // namespace
}  // namespace guestscope
