#include <doctest/doctest.h>

#include "tests/unit/introspect/kernel/refs_guest.h"

namespace guestscope {
namespace {

using test::MiniGuest;
using test::refresh;

constexpr auto map_header = test::RefsGuest::header;

struct Fixture {
  Fixture() : guest(MiniGuest::booted(test::load_model())), kernel(guest.model, nullptr) {
    refresh(kernel, guest);
  }

  void name(mini::bpf_map& map, std::string_view text) { text.copy(map.name, sizeof map.name); }
  std::vector<MapInfo> list() {
    auto maps = kernel.maps(guest.memory);
    REQUIRE(maps.has_value());
    problems = maps->problems.list();
    return maps->maps;
  }
  MapContents contents(std::uint64_t id) {
    for (const MapInfo& map : list())
      if (map.id == id) {
        auto read = kernel.map_contents(guest.memory, map, {}, budget);
        if (!read) FAIL(read.error().to_string());
        return *std::move(read);
      }
    FAIL("no such map");
    return {};
  }

  MiniGuest guest;
  GuestKernel kernel;
  std::vector<Problem> problems;
  std::size_t budget = kMaxContentBytes;
};

TEST_CASE_FIXTURE(Fixture, "maps are listed with what their headers say, in id order") {
  mini::btf types{};
  types.id = 12;
  mini::bpf_map counters = map_header(5, 4, 8, 1024);
  counters.map_flags = 1 | 1024 | 0x80000000;
  counters.btf = guest.put(types);
  counters.btf_key_type_id = 1;
  counters.btf_value_type_id = 5;
  counters.frozen = 1;
  name(counters, "counters");
  mini::bpf_map full_name = map_header(99, 4, 4, 1);
  name(full_name, "sixteen_letters!");
  guest.put_idr("map_idr", {{70, guest.put(counters)}, {3, guest.put(full_name)}});

  const auto maps = list();
  REQUIRE(maps.size() == 2);
  CHECK(problems.empty());
  CHECK(maps[0].id == 3);
  CHECK(maps[0].name == "sixteen_letters!");
  CHECK(maps[0].type == "type_99");
  CHECK(maps[0].btf_id == 0);
  CHECK(maps[1].id == 70);
  CHECK(maps[1].name == "counters");
  CHECK(maps[1].type == "percpu_hash");
  CHECK(maps[1].flag_names == std::vector<std::string>{"no_prealloc", "mmapable", "bit_31"});
  CHECK(maps[1].frozen);
  CHECK(maps[1].btf_id == 12);
  CHECK(maps[1].btf_value_type_id == 5);
}

TEST_CASE_FIXTURE(Fixture,
                  "a map that is being freed is not listed, an unreadable one is a problem") {
  mini::bpf_map dying = map_header(2, 4, 4, 1);
  dying.refcnt.counter = 0;
  guest.put_idr(
      "map_idr",
      {{1, guest.put(dying)}, {2, 0xffffc12300000000}, {3, guest.put(map_header(2, 4, 4, 1))}});
  const auto maps = list();
  REQUIRE(maps.size() == 1);
  CHECK(maps[0].id == 3);
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].at == "maps with id 2");
}

std::uint64_t put_array(MiniGuest& guest, std::uint32_t value_size, std::uint32_t entries,
                        ByteSpan values) {
  mini::bpf_array array{};
  array.map = map_header(2, 4, value_size, entries);
  array.elem_size = (value_size + 7) / 8 * 8;
  const std::uint64_t at = guest.allocate(sizeof array + values.size());
  guest.write_object(at, array);
  guest.write(at + offsetof(mini::bpf_array, value_start), values);
  return at;
}

TEST_CASE_FIXTURE(Fixture, "array elements lie at multiples of the rounded size") {
  Bytes values(3 * 16);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::byte>(i);
  guest.put_idr("map_idr", {{1, put_array(guest, 9, 3, values)}});
  const MapContents array = contents(1);
  REQUIRE(array.size() == 3);
  CHECK(array.keys == KeyForm::kIndex);
  REQUIRE(array.value(2)->size() == 9);
  CHECK(array.value(2)->front() == std::byte{32});
  CHECK(array.value(2)->back() == std::byte{40});
  CHECK(array.problems.empty());
}

TEST_CASE_FIXTURE(Fixture, "a missing page costs the elements on it and no others") {
  // The struct and its first page in the vmalloc area; the second page is missing, the third is
  // there.
  const std::uint64_t base = guest.where.page_offset + (std::uint64_t{2} << 40);
  test::TableBuilder tables(guest.memory, guest.phys_of("init_top_pgt"), false);
  tables.set_next_table(0xa00000);
  tables.map(base, 0x5000000, 1);
  tables.map(base + 8192, 0x5002000, 1);
  mini::bpf_array array{};
  array.map = map_header(2, 4, 8, 1200);
  array.elem_size = 8;
  guest.memory.write(0x5000000, std::as_bytes(std::span(&array, 1)));
  guest.put_idr("map_idr", {{1, base}});
  const MapContents read = contents(1);
  REQUIRE(read.size() == 1200);
  const std::size_t first_bad = (4096 - offsetof(mini::bpf_array, value_start)) / 8;
  CHECK(read.value(first_bad - 1).has_value());
  CHECK_FALSE(read.value(first_bad).has_value());
  CHECK_FALSE(read.value(first_bad + 511).has_value());
  CHECK(read.value(first_bad + 512).has_value());
  REQUIRE(read.problems.list().size() == 1);
  CHECK(read.problems.list()[0].at == "entries[" + std::to_string(first_bad) + "]");
}

TEST_CASE_FIXTURE(Fixture, "a per-CPU array has a value of every possible CPU") {
  mini::bpf_array array{};
  array.map = map_header(6, 4, 4, 2);
  array.elem_size = 8;
  const std::uint64_t at = guest.allocate(sizeof array + 16);
  guest.write_object(at, array);
  guest.write_u64(at + offsetof(mini::bpf_array, value_start), 0x2000);
  guest.write_u64(at + offsetof(mini::bpf_array, value_start) + 8, 0x2008);
  for (unsigned cpu : {0U, 1U})
    for (unsigned i : {0U, 1U})
      guest.write_u64(guest.area_offset(cpu) + 0x2000 + i * 8, 100 * cpu + i);
  guest.put_idr("map_idr", {{1, at}});
  const MapContents read = contents(1);
  CHECK(read.cpus == std::vector<unsigned>{0, 1});
  CHECK(load_le(read.value(1, 0)->data(), 4) == 1);
  CHECK(load_le(read.value(1, 1)->data(), 4) == 101);
}

TEST_CASE_FIXTURE(
    Fixture,
    "absurd sizes are refused before anything is allocated, foreign kinds say what they are") {
  guest.put_idr("map_idr", {{1, guest.put(map_header(2, 4, 0x7fffffff, 0xffffffff))},
                            {2, guest.put(map_header(2, 0, 4, 1))},
                            {3, guest.put(map_header(99, 4, 4, 1))}});
  const auto maps = list();
  REQUIRE(maps.size() == 3);
  CHECK(kernel.map_contents(guest.memory, maps[0], {}, budget).error().code == ErrorCode::kCorrupt);
  CHECK(kernel.map_contents(guest.memory, maps[1], {}, budget).error().code == ErrorCode::kCorrupt);
  CHECK(kernel.map_contents(guest.memory, maps[2], {}, budget).error().message ==
        "the contents of type_99 maps cannot be read");
}

TEST_CASE_FIXTURE(Fixture, "an element size that contradicts the value size is refused") {
  mini::bpf_array array{};
  array.map = map_header(2, 4, 8, 4);
  array.elem_size = 24;
  guest.put_idr("map_idr", {{1, guest.put(array)}});
  CHECK(kernel.map_contents(guest.memory, list()[0], {}, budget).error().code ==
        ErrorCode::kCorrupt);
}

TEST_CASE_FIXTURE(Fixture,
                  "a part is bounded: a map of four billion elements goes on in the next") {
  mini::bpf_array array{};
  array.map = map_header(2, 4, 4096, 0xffffffff);
  array.elem_size = 4096;
  guest.put_idr("map_idr", {{1, guest.put(array)}});
  const MapContents read = contents(1);
  CHECK(read.size() == kMapPartBytes / 4096);
  REQUIRE(read.next);
  CHECK(read.next->position == read.size());
}

TEST_CASE_FIXTURE(Fixture, "the bytes of one answer are shared by its maps") {
  Bytes values(64 * 8);
  guest.put_idr("map_idr",
                {{1, put_array(guest, 8, 64, values)}, {2, put_array(guest, 8, 64, values)}});
  budget = 100 * 8;
  CHECK(contents(1).size() == 64);
  CHECK(budget == 36 * 8);
  const MapContents second = contents(2);
  CHECK(second.size() == 36);
  CHECK(second.problems.empty());
  REQUIRE(second.next);
  CHECK(second.next->position == 36);
}

TEST_CASE_FIXTURE(Fixture, "an array of which nothing can be read ends at once") {
  mini::bpf_array array{};
  array.map = map_header(2, 4, 8, 0xffffffff);
  array.elem_size = 8;
  guest.put_idr("map_idr", {{1, guest.put(array)}});
  const std::vector<MapInfo> maps = list();
  MapInfo map = maps[0];
  const std::uint64_t page = guest.where.page_offset + (std::uint64_t{2} << 40);
  test::TableBuilder tables(guest.memory, guest.phys_of("init_top_pgt"), false);
  tables.set_next_table(0xa00000);
  tables.map(page, 0x5000000, 1);
  guest.memory.write(0x5000000 + 4096 - sizeof array, std::as_bytes(std::span(&array, 1)));
  map.address = GuestVirt(page + 4096 - sizeof array);
  const auto read = kernel.map_contents(guest.memory, map, {}, budget);
  REQUIRE(read.has_value());
  CHECK(read->size() <= (std::size_t{2} << 20) / 8);
  CHECK_FALSE(read->problems.empty());
  CHECK_FALSE(read->next);
}

/// BTF of one type: its three words and one more, and the strings.
Bytes tiny_btf(std::initializer_list<std::uint32_t> type, std::string_view strings) {
  const auto type_bytes = static_cast<std::uint32_t>(type.size() * 4);
  const auto string_bytes = static_cast<std::uint32_t>(strings.size());
  std::vector<std::uint32_t> words = {0x0001eb9f, 24, 0, type_bytes, type_bytes, string_bytes};
  words.insert(words.end(), type);
  const auto wire = std::as_bytes(std::span(words));
  const auto text = std::as_bytes(std::span(strings));
  Bytes bytes(wire.begin(), wire.end());
  bytes.insert(bytes.end(), text.begin(), text.end());
  return bytes;
}

TEST_CASE_FIXTURE(Fixture, "ids of the kernel's types are looked up in the guest's own types") {
  using namespace std::string_view_literals;
  // Not those of the kernel file: such as one whose types were made from DWARF.
  const Bytes own = tiny_btf({1, 1U << 24, 4, 32}, "\0int\0"sv);
  const Bytes of_module = tiny_btf({5, 8U << 24, 1}, "mine\0"sv);
  mini::btf vmlinux{};
  vmlinux.id = 1;
  vmlinux.kernel_btf = 1;
  vmlinux.data_size = static_cast<std::uint32_t>(own.size());
  vmlinux.data = guest.allocate(own.size());
  guest.write(vmlinux.data, own);
  mini::btf module{};
  module.id = 2;
  module.kernel_btf = 1;
  module.data_size = static_cast<std::uint32_t>(of_module.size());
  module.start_id = 2;
  module.start_str_off = 5;
  module.data = guest.allocate(of_module.size());
  guest.write(module.data, of_module);
  module.base_btf = guest.put(vmlinux);
  mini::bpf_array array{};
  array.map = map_header(2, 4, 4, 1);
  array.elem_size = 8;
  array.map.btf = guest.put(module);
  guest.put_idr("map_idr", {{1, guest.put(array)}});
  const MapContents found = contents(1);
  REQUIRE(found.btf);
  CHECK(found.problems.empty());
  REQUIRE(found.btf->type_count() == 3);
  CHECK(found.btf->name_of(1) == "int");
  CHECK(found.btf->name_of(2) == "mine");

  mini::btf endless = module;
  endless.id = 3;
  endless.base_btf = array.map.btf;
  array.map.btf = guest.put(endless);
  guest.put_idr("map_idr", {{1, guest.put(array)}});
  const MapContents refused = contents(1);
  CHECK(refused.btf == nullptr);
  REQUIRE(refused.problems.list().size() == 1);
  CHECK(refused.problems.list()[0].error.code == ErrorCode::kCorrupt);
}

TEST_CASE("before the boot a question about maps says that it is too early") {
  MiniGuest guest(test::load_model());
  GuestKernel kernel(guest.model, nullptr);
  CHECK(kernel.maps(guest.memory).error().code == ErrorCode::kNotReady);
  refresh(kernel, guest);
  CHECK(kernel.maps(guest.memory).error().message ==
        "paging is off: the guest has not entered its kernel yet");
  CHECK(kernel.progs(guest.memory).error().code == ErrorCode::kNotReady);
  CHECK(kernel.run_queues(guest.memory, false).error().code == ErrorCode::kNotReady);
}

}  // namespace
}  // namespace guestscope
