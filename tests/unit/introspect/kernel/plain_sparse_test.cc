// Stack traces, arenas, resizable hash tables; names of addresses.
#include <algorithm>

#include "introspect/jhash.h"
#include "tests/unit/introspect/kernel/plain_guest.h"

namespace guestscope {
namespace {

using test::Numbers;
using test::PlainGuest;
using test::TableBuilder;
using test::text_of;

struct StackGuest : PlainGuest {
  std::uint64_t bucket(std::uint32_t frames, const std::vector<std::uint64_t>& data) {
    mini::stack_map_bucket head{};
    head.nr = frames;
    return put_map_with(head, offsetof(mini::stack_map_bucket, data_start), data);
  }
  std::uint64_t stacks(const std::vector<std::uint64_t>& buckets, std::uint32_t entries = 3) {
    mini::bpf_stack_map map{};
    map.map = header(7, 4, 24, entries);
    map.n_buckets = static_cast<std::uint32_t>(buckets.size());
    return put_map_with(map, offsetof(mini::bpf_stack_map, buckets_start), buckets);
  }
  Numbers ids(const MapContents& contents) {
    Numbers list;
    for (std::size_t i = 0; i < contents.size(); ++i) list.push_back(contents.key_number(i));
    return list;
  }
  Bytes key(std::uint8_t id) { return {std::byte{id}, {}, {}, {}}; }
};

TEST_CASE_FIXTURE(StackGuest, "traces are listed by id, with zeros behind them and with symbols") {
  const std::uint64_t in_kernel = guest.link("init_task") + guest.where.slide + 3;
  const auto map = stacks({0, bucket(2, {in_kernel, 0x7f0000001234, 0xdead}), 0,
                           bucket(1, {0xffffffff00000001, 1, 1})});
  const MapContents contents = read(map);
  CHECK(ids(contents) == Numbers{1, 3});
  CHECK(
      text_of(contents.facts_of(0)) ==
      fmt::format("{{frames=[{{address={:#x} symbol=init_task+0x3}},{{address=0x7f0000001234}},]}}",
                  in_kernel));
  CHECK(text_of(contents.facts_of(1)) == "{frames=[{address=0xffffffff00000001},]}");
  CHECK(load_le(contents.value(0)->data() + 8, 8) == 0x7f0000001234);
  CHECK(load_le(contents.value(0)->data() + 16, 8) == 0);
  CHECK(contents.problems.empty());
  // Ids reach up to the next power of two of max_entries.
  CHECK(ids(find(map, key(3))) == Numbers{3});
  CHECK(ids(find(map, key(2))).empty());
  CHECK(ids(find(map, key(200))).empty());
}

TEST_CASE_FIXTURE(StackGuest, "parts of stack traces follow each other") {
  const auto map = stacks({bucket(1, {1}), 0, bucket(1, {2}), bucket(1, {3})});
  const MapContents first = read(map, {.from = {}, .limit = 2});
  CHECK(ids(first) == Numbers{0, 2});
  REQUIRE(first.next.has_value());
  const MapContents rest = read(map, {.from = *first.next, .limit = 2});
  CHECK(ids(rest) == Numbers{3});
  CHECK(!rest.next.has_value());
}

TEST_CASE_FIXTURE(StackGuest,
                  "frames beyond the value, wild buckets and absurd tables are damage") {
  const MapContents contents = read(stacks({bucket(~0U, {1, 2, 3}), kWild, 0, 0}));
  CHECK(ids(contents) == Numbers{0, 1});
  CHECK(!contents.value(1).has_value());
  CHECK(contents.problems.list().size() == 2);
  CHECK(try_read(stacks({0, 0, 0, 0}, 100)).error().code == ErrorCode::kCorrupt);
}

TEST_CASE_FIXTURE(StackGuest, "code of BPF programs is found in the kernel's tree of it") {
  const auto ksym = [&](std::uint64_t start, const char* name) {
    mini::bpf_ksym object{};
    object.start = start;
    object.end = start + 0x100;
    std::string_view(name).copy(object.name, sizeof object.name);
    return object;
  };
  constexpr std::uint64_t kCode = 0xffffffffc0001000;
  constexpr std::size_t kNode = offsetof(mini::bpf_ksym, tnode) + sizeof(mini::rb_node);
  const auto right = guest.put(ksym(kCode + 0x1000, "bpf_prog_0011223344556677_count"));
  mini::bpf_ksym top = ksym(kCode, "bpf_prog_8899aabbccddeeff_top");
  top.tnode.node[1].rb_right = right + kNode;
  // The sequence is odd: the second tree is the one to read.
  guest.poke("bpf_tree", 1);
  guest.poke("bpf_tree", guest.put(top) + kNode,
             offsetof(mini::latch_tree_root, tree) + sizeof(mini::rb_root));
  const MapContents contents =
      read(stacks({bucket(3, {kCode + 0x1010, kCode + 0xff, kCode + 0x800}), 0, 0, 0}));
  CHECK(text_of(contents.facts_of(0)) ==
        "{frames=[{address=0xffffffffc0002010 symbol=bpf_prog_0011223344556677_count+0x10 [bpf]},"
        "{address=0xffffffffc00010ff symbol=bpf_prog_8899aabbccddeeff_top+0xff [bpf]},"
        "{address=0xffffffffc0001800},]}");
  // A tree that leads back into itself is left after so many levels.
  guest.write_u64(right + kNode + offsetof(mini::rb_node, rb_left), right + kNode);
  CHECK(read(stacks({bucket(1, {kCode + 0x800}), 0, 0, 0})).size() == 1);
}

struct ArenaGuest : PlainGuest {
  static constexpr std::uint64_t kArea = 0xffffc90001000000;
  static constexpr std::uint64_t kUser = 0x7f0010000000;
  static constexpr std::uint64_t kPages = 4096;

  ArenaGuest() : tables(guest.memory, guest.phys_of("init_top_pgt"), false) {
    tables.set_next_table(0x6000000);
    area.addr = kArea;
    area.size = (std::uint64_t{1} << 32) + 0x10000 + 0x1000;
    object.map = header(33, 0, 0, kPages);
    object.user_vm_start = kUser;
    object.user_vm_end = kUser + kPages * 4096;
  }
  void page(std::uint64_t number, std::uint64_t first_word) {
    const std::uint64_t phys = 0x8000000 + number * 4096;
    tables.map(kArea + 0x8000 + (kUser & 0xffffffff) + number * 4096, phys, 1);
    guest.memory.write_u64(phys, first_word);
  }
  std::uint64_t free_range(std::uint32_t first, std::uint32_t last, std::uint64_t left = 0) {
    mini::range_node node{};
    node.rn_start = first;
    node.rn_last = last;
    node.rn_rbnode.rb_left = left;
    return guest.put(node) + offsetof(mini::range_node, rn_rbnode);
  }
  std::uint64_t arena() {
    object.kern_vm = guest.put(area);
    return guest.put(object);
  }

  TableBuilder tables;
  mini::vm_struct area{};
  mini::bpf_arena object{};
};

TEST_CASE_FIXTURE(ArenaGuest, "the pages that are there are listed, and holes are stepped over") {
  page(0, 100);
  page(5, 105);
  page(4095, 4195);
  const MapContents contents = read(arena());
  CHECK(values(contents) == Numbers{100, 105, 4195});
  CHECK(contents.value(1)->size() == 4096);
  CHECK(text_of(contents.facts_of(1)) == "{offset=20480 address=0x7f0010005000 size=4096}");
  CHECK(contents.problems.empty());
  CHECK(exchanges < 20);
}

TEST_CASE_FIXTURE(ArenaGuest, "what the tree of free ranges has is not listed, mapped or not") {
  page(0, 100);
  page(7, 107);
  page(9, 109);
  object.rt.it_root.rb_root.rb_node = free_range(8, 4095, free_range(1, 6));
  CHECK(values(read(arena())) == Numbers{100, 107});
}

TEST_CASE_FIXTURE(ArenaGuest, "parts of an arena begin at a page") {
  page(3, 103);
  page(1000, 1100);
  const MapContents first = read(arena(), {.from = {}, .limit = 1});
  CHECK(values(first) == Numbers{103});
  REQUIRE(first.next.has_value());
  CHECK(values(read(arena(), {.from = *first.next, .limit = 1})) == Numbers{1100});
}

TEST_CASE_FIXTURE(ArenaGuest, "a looping tree, a wild area and sizes that lie do not hang") {
  page(0, 100);
  const auto node = free_range(1, 4095);
  guest.write_u64(node + offsetof(mini::rb_node, rb_right), node);
  object.rt.it_root.rb_root.rb_node = node;
  CHECK(values(read(arena())) == Numbers{100});
  object.user_vm_end = ~std::uint64_t{0};
  CHECK(try_read(arena()).error().code == ErrorCode::kCorrupt);
  object.user_vm_end = kUser + 4096;
  area.size = 5;
  CHECK(try_read(arena()).error().code == ErrorCode::kCorrupt);
  object.kern_vm = kWild;
  CHECK(!try_read(guest.put(object)).has_value());
}

struct RhashGuest : PlainGuest {
  static constexpr std::size_t kData = offsetof(mini::rhtab_elem, data_start);
  static constexpr std::size_t kBuckets = offsetof(mini::bucket_table, buckets_start);

  std::uint64_t element(std::uint32_t key, std::uint64_t value, std::uint64_t next) {
    const std::uint64_t at = guest.allocate(kData + 16);
    guest.write_u64(at, next);
    guest.write_object(at + kData, key);
    guest.write_u64(at + kData + 8, value);
    return at;
  }
  std::uint64_t table(const std::vector<std::uint64_t>& heads, std::uint64_t future = 0) {
    mini::bucket_table object{};
    object.size = static_cast<std::uint32_t>(heads.size());
    object.hash_rnd = 77;
    object.future_tbl = future;
    return put_map_with(object, kBuckets, heads);
  }
  std::uint64_t rhash(std::uint64_t tbl) {
    mini::bpf_rhtab map{};
    map.map = header(35, 4, 8, 100);
    map.ht.tbl = tbl;
    map.ht.p.hashfn = guest.link("jhash") + guest.where.slide;
    return guest.put(map);
  }
  static Bytes key(std::uint32_t number) {
    Bytes bytes;
    for (unsigned i = 0; i < 4; ++i) bytes.push_back(static_cast<std::byte>(number >> (8 * i)));
    return bytes;
  }
};

TEST_CASE_FIXTURE(RhashGuest, "chains are listed by bucket, whatever their locks, side by side") {
  const auto last = element(3, 30, 1);
  const auto map = rhash(table({element(1, 10, 1), 1, element(2, 20, last) | 1, 0}));
  CHECK(values(read(map)) == Numbers{10, 20, 30});
  CHECK(exchanges == 5);  // map, table, buckets, two depths
}

TEST_CASE_FIXTURE(RhashGuest, "while a table grows, both tables are listed, and no element twice") {
  const auto moving = element(9, 90, 1);
  const auto future = table({0, moving, 0, 0, 0, 0, 0, element(4, 40, 1)});
  const MapContents contents = read(rhash(table({moving, element(1, 10, 1)}, future)));
  CHECK(values(contents) == Numbers{90, 10, 40});
  CHECK(contents.problems.empty());
}

TEST_CASE_FIXTURE(RhashGuest, "a key is looked for in its own bucket only") {
  std::vector<std::uint64_t> heads(64);
  heads[jhash(key(5), 77) % 64] = element(5, 50, 1);
  const auto map = rhash(table(heads));
  CHECK(values(find(map, key(5))) == Numbers{50});
  CHECK(values(find(map, key(6))).empty());
}

TEST_CASE_FIXTURE(RhashGuest, "nested tables are followed down to their buckets") {
  // 2048 buckets: one bit chooses the page, ten more the bucket; a page has 512 pointers, so that
  // there is a level between.
  const auto nested = [&](std::uint64_t hash, std::uint64_t head) {
    const auto leaf = guest.allocate(4096), middle = guest.allocate(4096), top = guest.allocate(16);
    guest.write_u64(top + (hash & 1) * 8, middle);
    guest.write_u64(middle + (hash >> 1 & 511) * 8, leaf);
    guest.write_u64(leaf + (hash >> 10 & 1) * 8, head);
    return top;
  };
  mini::bucket_table object{};
  object.size = 2048;
  object.nest = 1;
  object.hash_rnd = 77;
  const std::uint64_t hash = jhash(key(5), 77) & 2047;
  const auto map = rhash(put_map_with(object, kBuckets, {nested(hash, element(5, 50, 1))}));
  CHECK(values(read(map)) == Numbers{50});
  CHECK(values(find(map, key(5))) == Numbers{50});
  CHECK(values(find(map, key(6))).empty());
}

TEST_CASE_FIXTURE(RhashGuest, "cycles, wild pointers and tables that lie are damage") {
  const auto looping = element(1, 10, 1);
  guest.write_u64(looping, looping);
  const MapContents cycle = read(rhash(table({looping, kWild})));
  CHECK(values(cycle) == Numbers{10});
  CHECK(cycle.problems.list().size() == 2);
  CHECK(try_read(rhash(table({1, 1, 1}))).error().code == ErrorCode::kCorrupt);
  const auto endless = table({1, 1});
  guest.write_u64(endless + offsetof(mini::bucket_table, future_tbl), endless);
  CHECK(try_read(rhash(endless)).error().code == ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace guestscope
