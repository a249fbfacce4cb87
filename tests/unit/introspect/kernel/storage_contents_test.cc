// Values that belong to sockets, tasks, inodes and cgroups.
#include "introspect/limits.h"
#include "tests/unit/introspect/kernel/refs_guest.h"

namespace guestscope {
namespace {

using test::Numbers;
using test::RefsGuest;
using test::text_of;

constexpr std::uint32_t kSocketStorage = 24, kInodeStorage = 28, kTaskStorage = 29,
                        kCgroupStorage = 32;
constexpr std::size_t kNode = offsetof(mini::bpf_local_storage_elem, map_node);

struct LocalStorage : RefsGuest {
  explicit LocalStorage(std::uint32_t bucket_log = 1) : map(guest.allocate(256)) {
    object.bucket_log = bucket_log;
    buckets = guest.allocate((1ULL << bucket_log) * sizeof(mini::bpf_local_storage_map_bucket));
    object.buckets = buckets;
  }
  std::uint64_t of_type(std::uint32_t type, std::uint32_t value_size = 8) {
    object.map = header(type, 4, value_size, 0);
    guest.write_object(map, object);
    return map;
  }
  std::uint64_t element(std::uint64_t owner, std::uint64_t value, std::uint64_t next = 0) {
    mini::bpf_local_storage storage{};
    storage.owner = owner;
    mini::bpf_local_storage_elem entry{};
    entry.local_storage = guest.put(storage);
    entry.map_node.next = next == 0 ? 0 : next + kNode;
    entry.sdata.smap = map;
    entry.sdata.data_start = value;
    return guest.put(entry);
  }
  void chain(std::size_t bucket, std::uint64_t first) {
    guest.write_u64(buckets + bucket * sizeof(mini::bpf_local_storage_map_bucket) +
                        offsetof(mini::bpf_local_storage_map_bucket, list),
                    first + kNode);
  }
  static Numbers values(const MapContents& contents) {
    Numbers list;
    for (std::size_t i = 0; i < contents.size(); ++i) list.push_back(value_of(contents, i));
    return list;
  }

  mini::bpf_local_storage_map object{};
  std::uint64_t map;
  std::uint64_t buckets;
};

TEST_CASE_FIXTURE(LocalStorage, "values of tasks name their tasks and have no keys") {
  const std::uint64_t task = put_task(70, 69, "worker");
  chain(0, element(put_task(1, 1, "init"), 100, element(task, 200)));
  chain(1, element(task, 300));
  const MapContents contents = read(of_type(kTaskStorage));
  CHECK(contents.keys == KeyForm::kNone);
  CHECK(contents.values_shown);
  CHECK(values(contents) == Numbers{100, 200, 300});
  CHECK(text_of(contents.facts_of(0)) == "{owner={pid=1 tgid=1 comm=init}}");
  CHECK(text_of(contents.facts_of(1)) == "{owner={pid=70 tgid=69 comm=worker}}");
  CHECK(contents.problems.empty());
}

TEST_CASE_FIXTURE(LocalStorage, "values of inodes have the inode's number, device and type") {
  mini::super_block file_system{};
  file_system.s_dev = (8 << 20) | 300;
  mini::inode file{.i_mode = 0100644, .i_sb = guest.put(file_system), .i_ino = 280};
  mini::inode folder{.i_mode = 0040755, .i_sb = kWild, .i_ino = 2};
  chain(0, element(guest.put(file), 1, element(guest.put(folder), 2)));
  const MapContents contents = read(of_type(kInodeStorage));
  CHECK(text_of(contents.facts_of(0)) == "{owner={inode=280 dev=8:300 type=file}}");
  CHECK(text_of(contents.facts_of(1)) == "{owner={inode=2 dev=null type=directory}}");
  CHECK(contents.problems.list().size() == 1);
}

TEST_CASE_FIXTURE(LocalStorage, "values of cgroups and of sockets name them") {
  chain(0, element(put_cgroup(put_node(put_node(0, "", 1), "known", 20)), 1));
  CHECK(text_of(read(of_type(kCgroupStorage)).facts_of(0)) == "{owner={cgroup_id=20 path=/known}}");
  chain(0, element(guest.put(udp_socket(5)), 1));
  CHECK(text_of(read(of_type(kSocketStorage)).facts_of(0))
            .starts_with("{owner={socket={family=inet type=dgram protocol=udp state=close"));
}

TEST_CASE_FIXTURE(LocalStorage, "an owner that is gone leaves the value") {
  const std::uint64_t gone = element(0, 1);
  const std::uint64_t lost = element(put_task(1, 1, "init"), 2, gone);
  guest.write_u64(lost + offsetof(mini::bpf_local_storage_elem, local_storage), kWild);
  chain(0, lost);
  const MapContents contents = read(of_type(kTaskStorage));
  CHECK(values(contents) == Numbers{2, 1});
  CHECK(text_of(contents.facts_of(0)) == "{owner=null}");
  CHECK(text_of(contents.facts_of(1)) == "{owner=null}");
  CHECK(contents.problems.list().size() == 2);
}

TEST_CASE_FIXTURE(LocalStorage, "chains that lead back, into each other or nowhere end there") {
  const std::uint64_t task = put_task(1, 1, "init");
  const std::uint64_t second = element(task, 2);
  const std::uint64_t first = element(task, 1, second);
  guest.write_u64(second + kNode, first + kNode);
  chain(0, first);
  chain(1, element(task, 3, second));
  const MapContents contents = read(of_type(kTaskStorage));
  CHECK(contents.size() == 3);
  CHECK(contents.problems.list().size() == 2);
  guest.write_u64(second + kNode, kWild);
  const MapContents torn = read(of_type(kTaskStorage));
  CHECK(torn.size() == 3);
  CHECK_FALSE(torn.problems.empty());
}

TEST_CASE_FIXTURE(LocalStorage, "exchanges grow with the longest chain only") {
  const std::uint64_t task = put_task(1, 1, "init");
  chain(0, element(task, 1, element(task, 2)));
  read(of_type(kTaskStorage));
  const std::size_t few = exchanges;
  chain(1, element(task, 3, element(task, 4)));
  CHECK(read(of_type(kTaskStorage)).size() == 4);
  CHECK(exchanges == few);
}

TEST_CASE_FIXTURE(LocalStorage, "an element of another map, absurd sizes, a spent budget") {
  const std::uint64_t task = put_task(1, 1, "init");
  const std::uint64_t foreign = element(task, 1, element(task, 2));
  guest.write_u64(foreign + offsetof(mini::bpf_local_storage_elem, sdata), 0x1234);
  chain(0, foreign);
  CHECK(read(of_type(kTaskStorage)).problems.list().size() == 1);
  CHECK_FALSE(try_read(of_type(kTaskStorage, 0)));
  budget = kFactsBytes + 64;
  const MapContents cut = read(of_type(kTaskStorage));
  CHECK(cut.size() == 1);
  CHECK_FALSE(cut.problems.empty());
  for (const std::uint32_t absurd : {29U, 31U, 64U, 0xffffffffU}) {
    object.bucket_log = absurd;
    CHECK_FALSE(try_read(of_type(kTaskStorage)));
  }
}

TEST_CASE_FIXTURE(LocalStorage, "local storage has no keys to look up") {
  guest.put_idr("map_idr", {{1, of_type(kTaskStorage)}});
  const auto maps = kernel.maps(guest.memory);
  REQUIRE(maps.has_value());
  const auto found = kernel.map_entry(guest.memory, maps->maps.at(0),
                                      [](const MapContents&) -> Result<Bytes> { return Bytes(4); });
  REQUIRE_FALSE(found);
  CHECK(found.error().code == ErrorCode::kInvalidArgument);
}

// --- the storage of programs of cgroups ---

constexpr std::size_t kTree = offsetof(mini::bpf_cgroup_storage, node);
constexpr std::size_t kList = offsetof(mini::bpf_cgroup_storage, list_map);
constexpr std::size_t kRing = offsetof(mini::bpf_cgroup_storage, list_cg);

struct GroupStorage : RefsGuest {
  GroupStorage() {
    root = put_node(0, "", 1);
    outer = put_cgroup(put_node(root, "outer", 20));
    inner = put_cgroup(put_node(root, "inner", 30));
  }
  std::uint64_t stored(std::uint64_t group_id, std::uint32_t attach_type, std::uint64_t value) {
    mini::bpf_storage_buffer buffer{};
    buffer.data_start = value;
    mini::bpf_cgroup_storage storage{};
    storage.buf = guest.put(buffer);
    storage.key.cgroup_inode_id = group_id;
    storage.key.attach_type = attach_type;
    return guest.put(storage);
  }
  /// Puts the storages into the ring of a cgroup.
  void ring(std::uint64_t cgroup, const std::vector<std::uint64_t>& storages) {
    std::uint64_t link = cgroup + offsetof(mini::cgroup, bpf.storages);
    const std::uint64_t head = link;
    for (const std::uint64_t storage : storages) {
      guest.write_u64(link, storage + kRing);
      link = storage + kRing;
    }
    guest.write_u64(link, head);
  }
  void below(std::uint64_t storage, std::uint64_t left, std::uint64_t right) {
    guest.write_u64(storage + kTree + offsetof(mini::rb_node, rb_left),
                    left == 0 ? 0 : left + kTree);
    guest.write_u64(storage + kTree + offsetof(mini::rb_node, rb_right),
                    right == 0 ? 0 : right + kTree);
  }
  std::uint64_t map_of(std::uint64_t top, const std::vector<std::uint64_t>& order,
                       std::uint32_t key_size = 16, std::uint32_t type = 19) {
    mini::bpf_cgroup_storage_map object{};
    object.map = header(type, key_size, 8, 0);
    object.root.rb_node = top + kTree;
    const std::uint64_t map = guest.put(object);
    std::uint64_t link = map + offsetof(mini::bpf_cgroup_storage_map, list);
    for (const std::uint64_t storage : order) {
      guest.write_u64(link, storage + kList);
      link = storage + kList;
    }
    guest.write_u64(link, map + offsetof(mini::bpf_cgroup_storage_map, list));
    return map;
  }
  static Numbers values(const MapContents& contents) {
    Numbers list;
    for (std::size_t i = 0; i < contents.size(); ++i) list.push_back(value_of(contents, i));
    return list;
  }

  std::uint64_t root = 0, outer = 0, inner = 0;
};

TEST_CASE_FIXTURE(GroupStorage, "storages are listed in the map's order and name their cgroups") {
  const std::uint64_t one = stored(20, 0, 100), two = stored(20, 1, 200),
                      three = stored(30, 1, 300);
  below(two, one, three);
  ring(outer, {two, one});
  ring(inner, {three});
  const std::uint64_t map = map_of(two, {three, one, two});
  const MapContents contents = read(map);
  CHECK(values(contents) == Numbers{300, 100, 200});
  CHECK(contents.keys == KeyForm::kBytes);
  CHECK(load_le(contents.key(1).data(), 8) == 20);
  CHECK(text_of(contents.facts_of(0)) ==
        "{cgroup_id=30 attach_type=cgroup_inet_egress path=/inner}");
  CHECK(text_of(contents.facts_of(1)) ==
        "{cgroup_id=20 attach_type=cgroup_inet_ingress path=/outer}");
  CHECK(text_of(contents.facts_of(2)) ==
        "{cgroup_id=20 attach_type=cgroup_inet_egress path=/outer}");
  CHECK(contents.problems.empty());
  Bytes key = bytes_of(20, 16);
  key[8] = std::byte{1};
  CHECK(values(find(map, key)) == Numbers{200});
  key[13] = std::byte{1};  // behind the fields
  CHECK(values(find(map, key)) == Numbers{200});
  key[8] = std::byte{2};
  CHECK(find(map, key).size() == 0);
}

TEST_CASE_FIXTURE(GroupStorage,
                  "keys of 8 bytes are cgroups, whichever way programs are attached") {
  const std::uint64_t one = stored(20, 1, 100);
  ring(outer, {one});
  const MapContents contents = read(map_of(one, {one}, 8));
  CHECK(contents.key(0).size() == 8);
  CHECK(text_of(contents.facts_of(0)) == "{cgroup_id=20 path=/outer}");
  CHECK(find(map_of(one, {one}, 8), bytes_of(20, 8)).size() == 1);
  CHECK(find(map_of(one, {one}, 8), bytes_of(21, 8)).size() == 0);
}

TEST_CASE_FIXTURE(GroupStorage, "each CPU has its own value") {
  const std::uint64_t one = stored(20, 1, 0);
  guest.write_u64(one, 0x3000);
  ring(outer, {one});
  for (const unsigned cpu : {0U, 1U}) guest.write_u64(guest.area_offset(cpu) + 0x3000, 70 + cpu);
  const MapContents contents = read(map_of(one, {one}, 16, 21));
  REQUIRE(contents.size() == 1);
  CHECK(load_le(contents.value(0, 1)->data(), 8) == 71);
}

TEST_CASE_FIXTURE(GroupStorage,
                  "a cgroup that is not in the ring is left out, however long that is") {
  const std::uint64_t one = stored(20, 1, 100), two = stored(30, 1, 200);
  below(one, 0, two);
  guest.write_u64(one + kRing, one + kRing);
  guest.write_u64(two + kRing, kWild);
  const MapContents contents = read(map_of(one, {one, two}));
  CHECK(text_of(contents.facts_of(0)) == "{cgroup_id=20 attach_type=cgroup_inet_egress}");
  CHECK(text_of(contents.facts_of(1)) == "{cgroup_id=30 attach_type=cgroup_inet_egress}");
}

TEST_CASE_FIXTURE(GroupStorage, "a tree with cycles, a list that lies, values that are missing") {
  const std::uint64_t one = stored(20, 0, 100), two = stored(20, 1, 200);
  below(one, two, one);
  below(two, one, 0);
  guest.write_u64(two, kWild);
  const std::uint64_t map = map_of(one, {two, two});
  const MapContents contents = read(map);
  REQUIRE(contents.size() == 2);
  CHECK(load_le(contents.key(0).data() + 8, 4) == 1);  // first in the list
  CHECK_FALSE(contents.value(0));
  CHECK(value_of(contents, 1) == 100);
  CHECK(contents.problems.list().size() == 3);
  guest.write_u64(map + offsetof(mini::bpf_cgroup_storage_map, root), kWild);
  const MapContents none = read(map);
  CHECK(none.size() == 0);
  CHECK(none.problems.list().size() == 1);
}

TEST_CASE_FIXTURE(GroupStorage, "exchanges grow with the depth of the tree") {
  const std::uint64_t top = stored(20, 0, 1), left = stored(20, 1, 2), right = stored(20, 2, 3);
  below(top, left, 0);
  ring(outer, {top, left});
  read(map_of(top, {top, left}));
  const std::size_t few = exchanges;
  below(top, left, right);
  ring(outer, {top, left});
  guest.write_u64(right + kRing, top + kRing);
  CHECK(read(map_of(top, {top, left, right})).size() == 3);
  CHECK(exchanges <= few + 2);  // one more to find its cgroup by
}

}  // namespace
}  // namespace guestscope
