// Maps that refer to programs, maps, perf events, cgroups; devices, CPUs.
#include "introspect/limits.h"
#include "tests/unit/introspect/kernel/refs_guest.h"

namespace guestscope {
namespace {

using test::MiniGuest;
using test::Numbers;
using test::RefsGuest;
using test::text_of;

constexpr std::size_t kSlots = offsetof(mini::bpf_array, value_start);

struct References : RefsGuest {
  std::uint64_t table_map(std::uint32_t type, const std::vector<std::uint64_t>& slots) {
    mini::bpf_array map{};
    map.map = header(type, 4, 4, static_cast<std::uint32_t>(slots.size()));
    return put_map_with(map, kSlots, slots);
  }
};

TEST_CASE_FIXTURE(References, "a table of programs lists the slots in use with the programs' ids") {
  const std::uint64_t map = table_map(3, {0, put_prog(9, "tail"), 0, put_prog(11, "")});
  const MapContents contents = read(map);
  CHECK(contents.keys == KeyForm::kNumber);
  CHECK_FALSE(contents.values_shown);
  CHECK(numbers(contents) == Numbers{1, 3});
  CHECK(text_of(contents.facts_of(0)) == "{prog_id=9 prog_name=tail}");
  CHECK(text_of(contents.facts_of(1)) == "{prog_id=11}");
  CHECK(contents.value(0)->size() == 4);
  CHECK(value_of(contents, 0) == 9);
  CHECK(contents.problems.empty());
  CHECK_FALSE(contents.next);
  CHECK(contents.lookup_error == 0);
  CHECK(exchanges == 3);  // slots, programs, their details
}

TEST_CASE_FIXTURE(References, "a table of pointers is read in parts, which meet") {
  std::vector<std::uint64_t> slots(1000);
  for (const std::uint32_t i : {3U, 4U, 700U, 999U}) slots[i] = put_prog(i, "");
  const std::uint64_t map = table_map(3, slots);
  const MapContents first = read(map, {.from = {}, .limit = 2});
  CHECK(numbers(first) == Numbers{3, 4});
  REQUIRE(first.next);
  CHECK(first.next->position == 5);
  const MapContents second = read(map, {.from = *first.next, .limit = 2});
  CHECK(numbers(second) == Numbers{700, 999});
  CHECK_FALSE(second.next);
  CHECK(read(map, {.from = {.position = 5000}, .limit = 2}).size() == 0);
}

TEST_CASE_FIXTURE(References, "one slot is found by its number, an empty one is not") {
  const std::uint64_t map = table_map(3, {0, put_prog(9, "tail"), put_prog(10, "")});
  const MapContents found = find(map, bytes_of(1, 4));
  REQUIRE(found.size() == 1);
  CHECK(value_of(found, 0) == 9);
  CHECK(find(map, bytes_of(0, 4)).size() == 0);
  CHECK(find(map, bytes_of(3, 4)).size() == 0);
}

TEST_CASE_FIXTURE(References, "a slot that leads nowhere keeps its key and costs nobody else") {
  const MapContents contents = read(table_map(3, {kWild, put_prog(9, ""), 1}));
  CHECK(numbers(contents) == Numbers{0, 1, 2});
  CHECK(text_of(contents.facts_of(0)) == "{prog_id=null}");
  CHECK_FALSE(contents.value(0));
  CHECK(value_of(contents, 1) == 9);
  REQUIRE(contents.problems.list().size() == 2);
  CHECK(contents.problems.list()[0].at == "entries with key 0.prog_id");
}

TEST_CASE_FIXTURE(References, "of a table with absurdly many slots only those of memory are read") {
  mini::bpf_array map{};
  map.map = header(3, 4, 4, 0xffffffff);
  const std::uint64_t at = put_map_with(map, kSlots, {put_prog(9, "")});
  const MapContents contents = read(at);
  CHECK(contents.size() >= 1);
  REQUIRE(contents.next);
  CHECK(contents.next->position == kMaxSlotsAtOnce);
  CHECK(guest.memory.bytes_read < 5 * kMaxSlotsAtOnce * 8);
}

TEST_CASE_FIXTURE(References, "a budget that is spent ends a part") {
  const std::uint64_t map = table_map(3, std::vector<std::uint64_t>(8, put_prog(9, "")));
  budget = 3 * (kFactsBytes + 16);
  const MapContents contents = read(map);
  CHECK(numbers(contents) == Numbers{0, 1, 2});
  CHECK(contents.next->position == 3);
}

TEST_CASE_FIXTURE(References, "sizes that no such map has are survived") {
  mini::bpf_array map{};
  map.map = header(3, 300, 1, 2);
  const std::uint64_t at = put_map_with(map, kSlots, {put_prog(0x1234, ""), 0});
  const MapContents contents = read(at);
  CHECK(contents.key(0).size() == 300);
  CHECK(value_of(contents, 0) == 0x34);
  map.map.value_size = 0;
  CHECK_FALSE(read(put_map_with(map, kSlots, {put_prog(1, ""), 0})).value(0));
}

TEST_CASE_FIXTURE(References, "an array of maps names its maps") {
  const MapContents contents = read(table_map(12, {put_map_object(7, "inner"), 0}));
  CHECK(numbers(contents) == Numbers{0});
  CHECK(text_of(contents.facts_of(0)) == "{map_id=7 map_name=inner}");
  CHECK(value_of(contents, 0) == 7);
}

TEST_CASE_FIXTURE(References, "a hash of maps has ids in the place of pointers") {
  const std::uint64_t buckets = guest.allocate(sizeof(mini::bucket));
  const std::uint64_t good = guest.allocate(sizeof(mini::htab_elem) + 16);
  const std::uint64_t bad = guest.allocate(sizeof(mini::htab_elem) + 16);
  for (const auto& [at, key, pointer, next] :
       {std::tuple{good, 40U, put_map_object(7, "inner"), bad},
        std::tuple{bad, 50U, std::uint64_t{kWild}, std::uint64_t{1}}}) {
    guest.write_u64(at, next);
    guest.write_object(at + sizeof(mini::htab_elem), std::uint32_t{key});
    guest.write_u64(at + sizeof(mini::htab_elem) + 8, pointer);
  }
  guest.write_u64(buckets, good);
  mini::bpf_htab table{};
  table.map = header(13, 4, 4, 16);
  table.buckets = buckets;
  table.n_buckets = 1;
  table.elem_size = sizeof(mini::htab_elem) + 16;
  const std::uint64_t map = guest.put(table);
  const MapContents contents = read(map);
  REQUIRE(contents.size() == 2);
  CHECK_FALSE(contents.values_shown);
  CHECK(load_le(contents.key(0).data(), 4) == 40);
  CHECK(contents.value(0)->size() == 4);
  CHECK(value_of(contents, 0) == 7);
  CHECK(text_of(contents.facts_of(0)) == "{map_id=7 map_name=inner}");
  CHECK(text_of(contents.facts_of(1)) == "{map_id=null}");
  CHECK_FALSE(contents.value(1));
  CHECK(contents.problems.list().size() == 1);
  const MapContents found = find(map, bytes_of(40, 4));
  REQUIRE(found.size() == 1);
  CHECK(value_of(found, 0) == 7);
}

TEST_CASE_FIXTURE(References, "perf events have their kind, their CPU and their tasks") {
  mini::perf_event event{};
  event.cpu = -1;
  event.attr.type = 1;
  event.attr.config = 10;
  event.hw.target = put_task(70, 69, "watched");
  event.owner = put_task(5, 5, "perf");
  mini::perf_event other{};
  other.cpu = 3;
  other.attr.type = 8;
  other.attr.config = 77;
  other.owner = kWild;
  mini::bpf_event_entry entries[] = {{.file = 0, .event = guest.put(event)},
                                     {.file = 0, .event = guest.put(other)},
                                     {.file = 0, .event = kWild}};
  const MapContents contents = read(table_map(
      4, {guest.put(entries[0]), guest.put(entries[1]), guest.put(entries[2]), kWild, 0}));
  CHECK(numbers(contents) == Numbers{0, 1, 2, 3});
  CHECK(text_of(contents.facts_of(0)) ==
        "{type=software config=10 event=bpf_output cpu=-1 task={pid=70 tgid=69 comm=watched} "
        "owner={pid=5 tgid=5 comm=perf}}");
  CHECK(text_of(contents.facts_of(1)) == "{type=type_8 config=77 cpu=3 owner=null}");
  CHECK(contents.lookup_error == 524);
  CHECK_FALSE(contents.value(0));
  CHECK(contents.problems.list().size() == 3);
}

TEST_CASE_FIXTURE(References, "cgroups have their path, read level by level") {
  const std::uint64_t root = put_node(0, "", 1);
  const std::uint64_t outer = put_node(root, "outer", 20);
  const std::uint64_t inner = put_node(outer, "in ner", 30);
  std::vector<std::uint64_t> slots{put_cgroup(root), put_cgroup(inner), put_cgroup(outer)};
  const MapContents contents = read(table_map(8, slots));
  CHECK(text_of(contents.facts_of(0)) == "{cgroup_id=1 path=/}");
  CHECK(text_of(contents.facts_of(1)) == "{cgroup_id=30 path=/outer/in ner}");
  CHECK(text_of(contents.facts_of(2)) == "{cgroup_id=20 path=/outer}");
  CHECK(contents.lookup_error == 524);
  // Three times as many cost no more exchanges.
  const std::size_t few = exchanges;
  for (int i = 0; i < 6; ++i) slots.push_back(put_cgroup(put_node(outer, "one more", 40)));
  CHECK(read(table_map(8, slots)).size() == 9);
  CHECK(exchanges == few);
}

TEST_CASE_FIXTURE(References, "cgroups inside each other, or with unreadable names, have no path") {
  const std::uint64_t loop = put_node(0, "loop", 5);
  guest.write_u64(loop + offsetof(mini::kernfs_node, parent), loop);
  const std::uint64_t orphan = put_node(kWild, "orphan", 6);
  const std::uint64_t nameless = put_node(put_node(0, "", 1), "x", 7);
  guest.write_u64(nameless + offsetof(mini::kernfs_node, name), kWild);
  const MapContents contents =
      read(table_map(8, {put_cgroup(loop), put_cgroup(orphan), put_cgroup(nameless), put_cgroup(0),
                         put_cgroup(kWild)}));
  REQUIRE(contents.size() == 5);
  CHECK(text_of(contents.facts_of(0)) == "{cgroup_id=5 path=null}");
  CHECK(text_of(contents.facts_of(1)) == "{cgroup_id=6 path=null}");
  CHECK(text_of(contents.facts_of(2)) == "{cgroup_id=7 path=null}");
  CHECK(contents.facts_of(3).empty());
  CHECK(contents.facts_of(4).empty());
  CHECK(contents.problems.list().size() == 5);
}

TEST_CASE_FIXTURE(References, "a cgroup's name may cross into a page, and may end before a hole") {
  const std::uint64_t block = guest.allocate(3 * 4096);
  const std::uint64_t page = (block + 4095) & ~std::uint64_t{4095};
  const std::string name = "crosses-the-border";
  guest.write(page + 4096 - 7, std::as_bytes(std::span(name)));
  const std::uint64_t node = put_node(put_node(0, "", 1), "", 8);
  guest.write_u64(node + offsetof(mini::kernfs_node, name), page + 4096 - 7);
  CHECK(text_of(read(table_map(8, {put_cgroup(node)})).facts_of(0)) ==
        "{cgroup_id=8 path=/crosses-the-border}");
  // The last bytes of memory.
  const std::uint64_t end = guest.where.page_offset + MiniGuest::kRam;
  guest.write(end - 4, std::as_bytes(std::span("end", 4)));
  guest.write_u64(node + offsetof(mini::kernfs_node, name), end - 4);
  CHECK(text_of(read(table_map(8, {put_cgroup(node)})).facts_of(0)) == "{cgroup_id=8 path=/end}");
}

// --- devices and CPUs ---

struct Devices : RefsGuest {
  std::uint64_t target(std::uint64_t device, std::uint32_t index, std::uint32_t prog = 0) {
    mini::bpf_dtab_netdev entry{};
    entry.dev = device;
    entry.idx = index;
    entry.val.ifindex = 3;
    entry.val.bpf_prog.id = prog;
    return guest.put(entry);
  }
};

TEST_CASE_FIXTURE(Devices, "a device map has names, and programs where its values have room") {
  const std::uint64_t eth = put_device(3, "eth0");
  const std::uint64_t slots =
      put_table({0, target(eth, 1), target(eth, 2, 44), target(kWild, 3), kWild});
  for (const std::uint32_t value_size : {4U, 8U}) {
    mini::bpf_dtab table{};
    table.map = header(14, 4, value_size, 5);
    table.netdev_map = slots;
    const MapContents contents = read(guest.put(table));
    CHECK(numbers(contents) == Numbers{1, 2, 3, 4});
    CHECK(text_of(contents.facts_of(0)) == "{ifindex=3 ifname=eth0}");
    CHECK(text_of(contents.facts_of(1)) ==
          (value_size == 8 ? "{ifindex=3 ifname=eth0 prog_id=44}" : "{ifindex=3 ifname=eth0}"));
    CHECK(value_of(contents, 1) == (value_size == 8 ? 0x2c00000003 : 3));
    CHECK(text_of(contents.facts_of(2)) == "{ifindex=null ifname=null}");
    CHECK(contents.value(2));
    CHECK(contents.facts_of(3).empty());
    CHECK_FALSE(contents.value(3));
    CHECK(contents.problems.list().size() == 2);
  }
}

TEST_CASE_FIXTURE(Devices, "a hash of devices is listed bucket by bucket, and a cycle ends") {
  const std::uint64_t eth = put_device(3, "eth0");
  const std::uint64_t first = target(eth, 4), second = target(eth, 8, 44), third = target(eth, 5);
  const std::size_t node = offsetof(mini::bpf_dtab_netdev, index_hlist);
  guest.write_u64(first + node, second + node);
  const std::uint64_t buckets = put_table({first + node, third + node});
  mini::bpf_dtab table{};
  table.map = header(25, 4, 8, 8);
  table.dev_index_head = buckets;
  table.n_buckets = 2;
  const std::uint64_t map = guest.put(table);
  const auto keys = [](const MapContents& contents) {
    Numbers list;
    for (std::size_t i = 0; i < contents.size(); ++i)
      list.push_back(load_le(contents.key(i).data(), 4));
    return list;
  };
  const MapContents contents = read(map);
  CHECK(contents.keys == KeyForm::kBytes);
  CHECK(keys(contents) == Numbers{4, 8, 5});
  CHECK(text_of(contents.facts_of(1)) == "{ifindex=3 ifname=eth0 prog_id=44}");
  CHECK(contents.problems.empty());
  CHECK(keys(find(map, bytes_of(8, 4))) == Numbers{8});
  guest.write_u64(second + node, first + node);
  guest.write_u64(third + node, kWild);
  const MapContents damaged = read(map);
  CHECK(keys(damaged) == Numbers{4, 8, 5});
  CHECK(damaged.problems.list().size() == 2);
  for (const std::uint32_t absurd : {0U, 3U, 0x80000000U}) {
    table.n_buckets = absurd;
    CHECK_FALSE(try_read(guest.put(table)));
  }
}

TEST_CASE_FIXTURE(Devices, "a CPU map has the sizes of queues") {
  mini::bpf_cpu_map_entry entry{};
  entry.value.qsize = 192;
  entry.value.bpf_prog.id = 6;
  mini::bpf_cpu_map table{};
  table.map = header(16, 4, 8, 4);
  table.cpu_map = put_table({0, 0, guest.put(entry), kWild});
  const MapContents contents = read(guest.put(table));
  CHECK(numbers(contents) == Numbers{2, 3});
  CHECK_FALSE(contents.value(1));
  CHECK(text_of(contents.facts_of(0)) == "{qsize=192 prog_id=6}");
  CHECK(value_of(contents, 0) == 0x6000000c0);
  CHECK(contents.problems.list().size() == 1);
}

TEST_CASE_FIXTURE(Devices, "AF_XDP sockets have their device and queue") {
  mini::xdp_sock xdp{};
  xdp.sk = udp_socket(0);
  xdp.sk.__sk_common.skc_family = 44;
  xdp.sk.sk_type = 3;
  xdp.sk.sk_protocol = 0;
  xdp.dev = put_device(3, "eth0");
  xdp.queue_id = 2;
  mini::xsk_map map{};
  map.map = header(17, 4, 4, 3);
  const MapContents contents =
      read(put_map_with(map, offsetof(mini::xsk_map, xsk_map_start), {0, guest.put(xdp), kWild}));
  CHECK(numbers(contents) == Numbers{1, 2});
  CHECK(text_of(contents.facts_of(0)) ==
        "{ifindex=3 ifname=eth0 queue_id=2 zero_copy=false socket={family=xdp type=raw "
        "state=close}}");
  CHECK(text_of(contents.facts_of(1)) == "{socket=null}");
  CHECK(contents.lookup_error == 95);
  CHECK_FALSE(contents.value(0));
  CHECK(contents.problems.list().size() == 1);
}

}  // namespace
}  // namespace guestscope
