// Our reader against libbpf's, type by type: on the fixture, and on a whole kernel's types when
// GUESTSCOPE_TEST_VMLINUX names one.
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <doctest/doctest.h>

#include <chrono>
#include <cstdlib>
#include <memory>

#include "introspect/btf.h"
#include "introspect/kernel_file.h"
#include "type_test_support.h"

namespace guestscope {
namespace {

struct FreeBtf {
  void operator()(btf* it) const { btf__free(it); }
};
using Reference = std::unique_ptr<btf, FreeBtf>;

std::string_view name_in(const btf* reference, std::uint32_t offset) {
  return btf__name_by_offset(reference, offset);
}

// Each returns the first difference in words, or nothing: a CHECK for each of a kernel's 700,000
// members would take longer than the comparison.
std::string compare_members(const Btf& ours, const btf* reference, TypeId id) {
  const btf_type* type = btf__type_by_id(reference, id);
  const btf_member* expected = btf_members(type);
  std::uint32_t i = 0;
  for (const BtfMember& member : ours.members(id)) {
    const auto place = ours.place(member);
    if (!place) return place.error().message;
    if (member.name != name_in(reference, expected[i].name_off)) return "member name";
    if (member.type != expected[i].type) return "member type";
    if (member.bit_offset != btf_member_bit_offset(type, i)) return "member offset";
    if (member.bit_size != btf_member_bitfield_size(type, i)) return "member bits";
    const std::int64_t size = btf__resolve_size(reference, expected[i].type);
    if (place->bit_size == 0 && size >= 0 && place->size != static_cast<std::uint64_t>(size))
      return "member size";
    if (place->offset * 8ULL + place->bit_offset != member.bit_offset) return "member place";
    ++i;
  }
  return i == btf_vlen(type) ? "" : "member count";
}

std::string compare_items(const Btf& ours, const btf* reference, TypeId id) {
  const btf_type* type = btf__type_by_id(reference, id);
  std::uint32_t i = 0;
  if (btf_is_composite(type)) return compare_members(ours, reference, id);
  if (btf_is_enum(type)) {
    for (const BtfEnumerator& each : ours.enumerators(id)) {
      const struct btf_enum& expected = btf_enum(type)[i++];
      if (each.name != name_in(reference, expected.name_off)) return "enumerator name";
      if (static_cast<std::int32_t>(each.value) != expected.val) return "enumerator value";
    }
    return i == btf_vlen(type) ? "" : "enumerator count";
  }
  if (btf_is_func_proto(type)) {
    for (const BtfParam& each : ours.params(id)) {
      const btf_param& expected = btf_params(type)[i++];
      if (each.name != name_in(reference, expected.name_off)) return "parameter name";
      if (each.type != expected.type) return "parameter type";
    }
    return i == btf_vlen(type) ? "" : "parameter count";
  }
  if (btf_is_datasec(type)) {
    for (const BtfVariable& each : ours.variables(id)) {
      const btf_var_secinfo& expected = btf_var_secinfos(type)[i++];
      if (each.type != expected.type || each.offset != expected.offset ||
          each.size != expected.size)
        return "variable";
    }
    return i == btf_vlen(type) ? "" : "variable count";
  }
  return "";
}

std::string compare_type(const Btf& ours, const btf* reference, TypeId id) {
  const btf_type* type = btf__type_by_id(reference, id);
  if (static_cast<unsigned>(ours.kind(id)) != btf_kind(type)) return "kind";
  if (ours.name_of(id) != name_in(reference, type->name_off)) return "name";
  const auto size = ours.size_of(id);
  const std::int64_t expected = btf__resolve_size(reference, id);
  // libbpf knows no size of an unresolved DATASEC, and takes a function for its result.
  if (expected >= 0 && size && *size != static_cast<std::uint64_t>(expected)) return "size";
  if (expected >= 0 && !size && !btf_is_func(type) && !btf_is_func_proto(type)) return "no size";
  if (btf_is_array(type)) {
    const BtfArray array = ours.array(id);
    if (array.element != btf_array(type)->type || array.count != btf_array(type)->nelems)
      return "array";
  }
  if (btf_is_int(type)) {
    const BtfInt info = ours.int_info(id);
    if (info.bits != btf_int_bits(type) || info.bit_offset != btf_int_offset(type) ||
        info.is_signed != ((btf_int_encoding(type) & BTF_INT_SIGNED) != 0) ||
        info.is_bool != ((btf_int_encoding(type) & BTF_INT_BOOL) != 0))
      return "int";
  }
  if (btf_is_ptr(type) || btf_is_mod(type) || btf_is_typedef(type) || btf_is_func(type))
    if (ours.type(id).target != type->type) return "target";
  return compare_items(ours, reference, id);
}

void compare(const Btf& ours, const btf* reference) {
  REQUIRE(ours.type_count() == btf__type_cnt(reference));
  for (TypeId id = 1; id < ours.type_count(); ++id) {
    const std::string difference = compare_type(ours, reference, id);
    if (difference.empty()) continue;
    CAPTURE(ours.describe(id));
    FAIL_CHECK("type " << id << " differs: " << difference);
  }
}

}  // namespace

TEST_CASE("on the fixture, every type, member, offset and size is the one that libbpf reads") {
  const Reference reference(btf__parse(fixture("types.btf").c_str(), nullptr));
  REQUIRE(reference);
  compare(fixture_btf(), reference.get());
}

TEST_CASE("the data sections that libbpf has completed print as objects of their variables") {
  bpf_object* object = bpf_object__open(fixture("types.bpf.o").c_str());
  REQUIRE(object != nullptr);
  std::uint32_t size = 0;
  const void* raw = btf__raw_data(bpf_object__btf(object), &size);
  const auto btf = Btf::parse(ByteSpan(static_cast<const std::byte*>(raw), size), "object");
  REQUIRE(btf);
  compare(*btf, bpf_object__btf(object));
  const auto data = btf->find(BtfKind::kDatasec, ".data");
  REQUIRE(data);
  REQUIRE(btf->size_of(*data) == 12);
  const std::string printed = print(*btf, *data, Memory(12).put(0, 3, 4).text(4, "hello"));
  CHECK((printed == R"({counter:3,label:"hello"})"));
  bpf_object__close(object);
}

TEST_CASE("on a whole kernel, every type, member, offset and size is the one that libbpf reads") {
  const char* path = std::getenv("GUESTSCOPE_TEST_VMLINUX");
  if (path == nullptr) {
    MESSAGE("skipped: GUESTSCOPE_TEST_VMLINUX names no kernel file");
    REQUIRE(std::getenv("GUESTSCOPE_NO_SKIP") == nullptr);
    return;
  }
  const Reference reference(btf__parse_elf(path, nullptr));
  REQUIRE(reference);
  const auto start = std::chrono::steady_clock::now();
  const auto file = KernelFile::open(path);
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  if (!file) FAIL(file.error().to_string());
  MESSAGE("opened " << std::string(path) << " in " << took.count() << " ms");
  compare((*file)->btf(), reference.get());
  CHECK((*file)->build_id().size() == 40);
  CHECK_FALSE((*file)->release().empty());
  CHECK((*file)->symbols().find("map_idr"));
}

}  // namespace guestscope
