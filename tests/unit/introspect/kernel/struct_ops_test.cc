// Values of the kernel's own types: tables of functions that BPF programs stand for.
#include <algorithm>

#include "introspect/limits.h"
#include "tests/unit/introspect/kernel/btf_objects.h"
#include "tests/unit/introspect/kernel/refs_guest.h"

namespace guestscope {
namespace {

using test::module_types;
using test::refresh;

struct StructOps : test::BtfObjects {
  StructOps() : kernel(guest.model, nullptr) {
    refresh(kernel, guest);
    guest.poke("btf_vmlinux", 0);
    map.map.map_type = 26;
    map.map.key_size = 4;
    map.map.value_size = sizeof(mini::bpf_struct_ops_value);
    map.map.max_entries = 1;
    map.map.refcnt.counter = 1;
    map.kvalue.common = {.refcnt = 3, .state = 1};
    map.kvalue.data[0] = 0xffffffffc0401000;
    const mini::bpf_struct_ops_value written{.common = {}, .data = {42, 43}};
    map.uvalue = guest.put(written);
    value_type = *file_types().find(BtfKind::kStruct, "bpf_struct_ops_value");
    map.map.btf_vmlinux_value_type_id = value_type;
  }
  MapContents contents() {
    guest.put_idr("map_idr", {{5, guest.put(map)}});
    const auto maps = kernel.maps(guest.memory);
    REQUIRE(maps.has_value());
    CHECK(maps->maps.at(0).btf_vmlinux_value_type_id == map.map.btf_vmlinux_value_type_id);
    auto read = kernel.map_contents(guest.memory, maps->maps.at(0), {}, budget);
    if (!read) FAIL(read.error().to_string());
    return *std::move(read);
  }

  GuestKernel kernel;
  mini::bpf_struct_ops_map map{};
  TypeId value_type = 0;
  std::size_t budget = kMaxContentBytes;
};

TEST_CASE_FIXTURE(StructOps, "a table of functions has the value that was written, and its state") {
  guest.poke("btf_vmlinux", guest.put(kernel_object(own)));
  const MapContents read = contents();
  CHECK(read.problems.empty());
  REQUIRE(read.size() == 1);
  CHECK(read.keys == KeyForm::kIndex);
  const ByteSpan value = *read.value(0);
  REQUIRE(value.size() == sizeof(mini::bpf_struct_ops_value));
  CHECK(load_le(&value[offsetof(mini::bpf_struct_ops_value, common.refcnt)], 4) == 3);
  CHECK(load_le(&value[offsetof(mini::bpf_struct_ops_value, common.state)], 4) == 1);
  CHECK(load_le(&value[offsetof(mini::bpf_struct_ops_value, data)], 8) == 42);
  CHECK(read.value_type == value_type);
  CHECK(read.key_type == 0);
  CHECK(read.btf->name_of(read.value_type) == "bpf_struct_ops_value");
}

TEST_CASE_FIXTURE(StructOps, "a table of functions tells its state and its programs by function") {
  guest.poke("btf_vmlinux", guest.put(kernel_object(own)));
  map.map.btf_vmlinux_value_type_id =
      *file_types().find(BtfKind::kStruct, "bpf_struct_ops_mini_ops");
  map.map.value_size = sizeof(mini::bpf_struct_ops_mini_ops);
  map.uvalue = guest.put(mini::bpf_struct_ops_mini_ops{
      .common = {}, .data = {.before = 8, .first = 9, .number = 10, .second = 0, .third = 12}});
  mini::bpf_prog_aux details{};
  details.id = 9;
  std::string_view("slow_first").copy(details.name, sizeof details.name);
  mini::bpf_prog program{};
  program.aux = guest.put(details);
  mini::bpf_link link{.refcnt = 1, .prog = guest.put(program)};
  const std::uint64_t links[] = {guest.put(link), 0xffffc12300000000, 0, 0x1234};
  map.links = guest.put(links);
  map.funcs_cnt = 3;
  const auto told = [&] { return test::text_of(contents().facts_of(0)); };
  CHECK(told() ==
        "{state=inuse operations={first={prog_id=9 name=slow_first} third={prog_id=12}}}");
  map.links = 0xffffc12300000000;
  CHECK(told() == "{state=inuse operations={first={prog_id=9} third={prog_id=12}}}");
  map.funcs_cnt = 0xffffffff;  // no more than the table has members
  map.kvalue.common.state = 7;
  CHECK(told() == "{state=state_7 operations={first={prog_id=9} third={prog_id=12}}}");
  map.kvalue.common.state = 0;
  CHECK(told() == "{state=init}");
}

TEST_CASE_FIXTURE(StructOps, "a value without a table of functions, or one beyond it, has none") {
  guest.poke("btf_vmlinux", guest.put(kernel_object(own)));
  map.map.btf_vmlinux_value_type_id = *file_types().find(BtfKind::kStruct, "bpf_prog");
  CHECK(test::text_of(contents().facts_of(0)) == "{state=inuse}");
  map.map.btf_vmlinux_value_type_id =
      *file_types().find(BtfKind::kStruct, "bpf_struct_ops_mini_ops");
  map.map.value_size = 20;
  CHECK(test::text_of(contents().facts_of(0)) == "{state=inuse operations={}}");
}

TEST_CASE_FIXTURE(StructOps,
                  "uses that the kernel's copy does not count are the map's references") {
  map.kvalue.common.refcnt = 0;
  map.map.refcnt.counter = 7;
  map.map.usercnt.counter = 2;
  const auto uses = [&] {
    return load_le(&(*contents().value(0))[offsetof(mini::bpf_struct_ops_value, common.refcnt)], 4);
  };
  CHECK(uses() == 5);
  map.map.usercnt.counter = 8;
  CHECK(uses() == 0);
}

TEST_CASE_FIXTURE(StructOps, "before a table of functions is set its value is zero") {
  guest.poke("btf_vmlinux", guest.put(kernel_object(own)));
  map.kvalue.common.state = 0;
  map.uvalue = 0;
  const MapContents read = contents();
  CHECK(read.problems.empty());
  const ByteSpan value = *read.value(0);
  CHECK(std::ranges::all_of(value, [](std::byte byte) { return byte == std::byte{0}; }));
}

TEST_CASE_FIXTURE(StructOps,
                  "the types of a kernel value are those that the map names, not its program's") {
  // The program's BTF has another type of that id, and so has the kernel's own.
  mini::btf program = kernel_object(BtfBuilder().bytes());
  program.kernel_btf = 0;
  program.id = 12;
  map.map.btf = guest.put(program);
  const std::uint64_t base = guest.put(kernel_object(own));
  guest.poke("btf_vmlinux", base);
  map.btf = guest.put(module_object(file_types(), base, module_types(file_types(), 1)));
  map.map.btf_vmlinux_value_type_id = file_types().type_count();
  const MapContents read = contents();
  CHECK(read.problems.empty());
  REQUIRE(read.btf);
  CHECK(read.btf->name() == "tcp_bbr");
  CHECK(read.btf->name_of(read.value_type) == "module_state");
}

TEST_CASE_FIXTURE(StructOps,
                  "a kernel that has not looked at its own types yet leaves a value without") {
  const MapContents read = contents();
  CHECK_FALSE(read.btf);
  CHECK(read.value(0).has_value());
  REQUIRE(read.problems.list().size() == 1);
  CHECK(read.problems.list()[0].at == "btf_vmlinux_value_type_id");
}

TEST_CASE_FIXTURE(StructOps, "a table's value that cannot be read, or is too small for a state") {
  guest.poke("btf_vmlinux", guest.put(kernel_object(own)));
  map.uvalue = 0xffffc12300000000;
  const MapContents read = contents();
  REQUIRE(read.size() == 1);
  CHECK_FALSE(read.value(0));
  CHECK(read.problems.list().at(0).at == "entries[0]");
  map.map.value_size = 7;
  guest.put_idr("map_idr", {{5, guest.put(map)}});
  const auto maps = kernel.maps(guest.memory);
  REQUIRE(maps.has_value());
  CHECK(kernel.map_contents(guest.memory, maps->maps.at(0), {}, budget).error().code ==
        ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace guestscope
