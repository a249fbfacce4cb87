// What the kernel keeps in values and hands out as zeros, by the notes of kernels before and since
// 6.2.
#include "introspect/hidden_fields.h"

#include "introspect/limits.h"
#include "tests/support/btf_builder.h"
#include "tests/unit/introspect/kernel/plain_guest.h"

namespace guestscope {
namespace {

using test::Numbers;

struct Hidden : test::PlainGuest {
  static constexpr std::uint32_t kValueBytes = 24;
  static constexpr std::uint64_t kBefore = 0x1111, kTask = 0xffff888000001000, kAfter = 0x2222;

  /// A program's types: { u64 before; struct task_struct *task; u64 after; }, the pointer with a
  /// tag or without.
  std::uint64_t types(bool tagged = true) {
    BtfBuilder builder;
    const TypeId number = builder.integer("u64", 8, 64);
    const TypeId task = builder.aggregate(BtfKind::kStruct, "task_struct", 8, {{"pid", number, 0}});
    const TypeId kept = builder.refer(
        BtfKind::kPtr, tagged ? builder.refer(BtfKind::kTypeTag, task, "kptr") : task);
    value_type =
        builder.aggregate(BtfKind::kStruct, "keeping", kValueBytes,
                          {{"before", number, 0}, {"task", kept, 64}, {"after", number, 128}});
    const Bytes bytes = builder.bytes();
    mini::btf object{};
    object.data = put_bytes(bytes);
    object.data_size = static_cast<std::uint32_t>(bytes.size());
    object.id = 12;
    return guest.put(object);
  }

  std::uint64_t map(std::uint64_t table, std::uint64_t record, bool tagged = true) {
    mini::bpf_array array{};
    array.map = header(2, 4, kValueBytes, 1);
    array.map.btf = types(tagged);
    array.map.btf_value_type_id = value_type;
    array.map.kptr_off_tab = table;
    array.map.record = record;
    array.elem_size = kValueBytes;
    return put_map_with(array, offsetof(mini::bpf_array, value_start), {kBefore, kTask, kAfter});
  }

  std::uint64_t table_of(const std::vector<std::uint32_t>& offsets) {
    const std::size_t at = offsetof(mini::bpf_map_value_off, off_start);
    const std::uint64_t table =
        guest.allocate(at + offsets.size() * sizeof(mini::bpf_map_value_off_desc));
    guest.write_object(table, static_cast<std::uint32_t>(offsets.size()));
    for (std::size_t i = 0; i < offsets.size(); ++i)
      guest.write_object(
          table + at + i * sizeof(mini::bpf_map_value_off_desc),
          mini::bpf_map_value_off_desc{.type = 1, .offset = offsets[i], .kptr_btf = 0});
    return table;
  }
  std::uint64_t record_of(const std::vector<mini::btf_field>& fields, std::int32_t refcount) {
    const std::size_t at = offsetof(mini::btf_record, fields_start);
    const std::uint64_t record = guest.allocate(at + fields.size() * sizeof(mini::btf_field));
    guest.write_object(record, mini::btf_record{.refcount_off = refcount,
                                                .cnt = static_cast<std::uint32_t>(fields.size()),
                                                .fields_start = 0});
    for (std::size_t i = 0; i < fields.size(); ++i)
      guest.write_object(record + at + i * sizeof(mini::btf_field), fields[i]);
    return record;
  }

  /// The value as a system call gives it, as numbers of 64 bits.
  Numbers looked_up(const MapContents& contents) {
    REQUIRE(contents.size() == 1);
    Bytes scratch;
    const ByteSpan value = as_looked_up(contents, *contents.value(0), scratch);
    Numbers numbers;
    for (std::size_t at = 0; at < value.size(); at += 8)
      numbers.push_back(load_le(value.data() + at, 8));
    return numbers;
  }

  TypeId value_type = 0;
};

TEST_CASE_FIXTURE(Hidden, "a table of kept pointers, as until 6.1, hides each of them") {
  const auto contents = read(map(table_of({8}), 0));
  CHECK(contents.problems.empty());
  CHECK(looked_up(contents) == Numbers{kBefore, 0, kAfter});
  // Only for who asks as a system call does.
  CHECK(load_le(contents.value(0)->data() + 8, 8) == kTask);
  CHECK(looked_up(read(map(table_of({16, 0}), 0))) == Numbers{0, kTask, 0});
  CHECK(looked_up(read(map(table_of({}), 0))) == Numbers{kBefore, kTask, kAfter});
}

TEST_CASE_FIXTURE(Hidden, "a list of fields, as since 6.2, hides each, and counts begin with one") {
  const auto record = record_of({{.type = 2, .size = 8, .offset = 8, .flags = 0},
                                 {.type = 512, .size = 4, .offset = 16, .flags = 0}},
                                16);
  CHECK(looked_up(read(map(0, record))) == Numbers{kBefore, 0, 1});
  const auto without = record_of({{.type = 2, .size = 8, .offset = 8, .flags = 0}}, -22);
  CHECK(looked_up(read(map(0, without))) == Numbers{kBefore, 0, kAfter});
}

TEST_CASE_FIXTURE(Hidden, "what is no list hides nothing: null, and the kernel's errors") {
  for (const std::uint64_t none : {std::uint64_t{0}, -std::uint64_t{22}}) {
    const auto contents = read(map(none, none));
    CHECK(contents.problems.empty());
    CHECK(looked_up(contents) == Numbers{kBefore, kTask, kAfter});
  }
}

TEST_CASE_FIXTURE(Hidden, "a value whose type can keep nothing costs no look at such lists") {
  const auto contents = read(map(kWild, kWild, false));
  CHECK(contents.problems.empty());
  CHECK(looked_up(contents) == Numbers{kBefore, kTask, kAfter});
}

TEST_CASE_FIXTURE(Hidden,
                  "a list that leads nowhere is a problem, and the value is there as it is") {
  for (const std::uint64_t at : {map(kWild, 0), map(0, kWild)}) {
    const auto contents = read(at);
    CHECK(contents.problems.list().size() == 1);
    CHECK(looked_up(contents) == Numbers{kBefore, kTask, kAfter});
  }
}

TEST_CASE_FIXTURE(Hidden, "offsets outside the value and counts that lie hide nothing more") {
  CHECK(looked_up(read(map(table_of({17, 24, 0xfffffff8, 8}), 0))) == Numbers{kBefore, 0, kAfter});
  const auto large = table_of(std::vector<std::uint32_t>(kMaxHiddenFields + 8, 100));
  guest.write_object(large, std::uint32_t{0xffffffff});
  guest.write_object(large + offsetof(mini::bpf_map_value_off, off_start) +
                         offsetof(mini::bpf_map_value_off_desc, offset),
                     std::uint32_t{8});
  CHECK(looked_up(read(map(large, 0))) == Numbers{kBefore, 0, kAfter});
  const auto record = record_of({{.type = 2, .size = 0xffffffff, .offset = 8, .flags = 0},
                                 {.type = 2, .size = 25, .offset = 0, .flags = 0}},
                                0);
  CHECK(looked_up(read(map(0, record))) == Numbers{kBefore, kTask, kAfter});
}

}  // namespace
}  // namespace guestscope
