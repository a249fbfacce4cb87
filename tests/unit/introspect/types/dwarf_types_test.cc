// DWARF of both compilers, in all its versions and forms, against what this test's own compiler
// says about the same declarations, and against BTF that clang made of them.
#include "introspect/dwarf_types.h"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstring>

#include "dwarf_compare.h"
#include "fixtures/dwarf_types.h"
#include "type_test_support.h"

namespace guestscope {
namespace {

constexpr const char* kVariants[] = {
    "dwarf.gcc5",        "dwarf.gcc4",        "dwarf.gcc3",
    "dwarf.gcc2",        "dwarf.compressed",  "dwarf.compressed_old_way",
    "dwarf.type_units5", "dwarf.type_units4", "dwarf.clang5",
    "dwarf.clang4",      "dwarf.debug",       "dwarf.dwz",
    "dwarf.sharing"};

Btf from_dwarf(const std::string& name) {
  auto bytes = btf_from_dwarf(fixture(name));
  if (!bytes) FAIL(bytes.error().to_string());
  auto btf = Btf::parse(std::move(*bytes), name);
  if (!btf) FAIL(btf.error().to_string());
  return std::move(*btf);
}

TypeId only(const Btf& btf, BtfKind kind, std::string_view name) {
  const auto found = btf.find_all(kind, name);
  CAPTURE(std::string(name));
  CHECK(found.size() == 1);
  return found.empty() ? 0 : found.front();
}

/// The member of that name, anonymous ones searched as C does.
std::optional<BtfMember> member_of(const Btf& btf, TypeId type, std::string_view name,
                                   std::uint32_t base = 0) {
  for (BtfMember member : btf.members(btf.resolve(type).value_or(0))) {
    member.bit_offset += base;
    if (member.name == name) return member;
    if (!member.name.empty()) continue;
    if (const auto inner = member_of(btf, member.type, name, member.bit_offset)) return inner;
  }
  return std::nullopt;
}

// What the compiler made of a bit field: where it begins, and how many bits it has.
template <typename T, typename Clear>
std::pair<std::size_t, std::size_t> bits_of(Clear clear) {
  T value;
  std::memset(&value, 0xff, sizeof value);
  clear(value);
  unsigned char bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);
  std::size_t first = 0;
  std::size_t count = 0;
  for (std::size_t bit = 0; bit < sizeof value * 8; ++bit)
    if ((bytes[bit / 8] >> bit % 8 & 1) == 0 && count++ == 0) first = bit;
  return {first, count};
}

#define CHECK_MEMBER(btf, type, name)                                              \
  do {                                                                             \
    CAPTURE(#type "." #name);                                                      \
    const auto member = member_of(btf, only(btf, BtfKind::kStruct, #type), #name); \
    REQUIRE(member);                                                               \
    const auto place = btf.place(*member);                                         \
    REQUIRE(place);                                                                \
    CHECK(place->offset == offsetof(struct type, name));                           \
    CHECK(place->size == sizeof(static_cast<struct type*>(nullptr)->name));        \
    CHECK(place->bit_size == 0);                                                   \
  } while (false)

#define CHECK_BITS(btf, type, name)                                                     \
  do {                                                                                  \
    CAPTURE(#type "." #name);                                                           \
    const auto member = member_of(btf, only(btf, BtfKind::kStruct, #type), #name);      \
    REQUIRE(member);                                                                    \
    const auto place = btf.place(*member);                                              \
    REQUIRE(place);                                                                     \
    const auto [first, count] = bits_of<struct type>(                                   \
        [](struct type& value) { value.name = static_cast<decltype(value.name)>(0); }); \
    CHECK(place->offset * 8U + place->bit_offset == first);                             \
    CHECK(place->bit_size == count);                                                    \
  } while (false)

}  // namespace

TEST_CASE("every member lies where the compiler puts it") {
  for (const char* variant : kVariants) {
    CAPTURE(std::string(variant));
    const Btf btf = from_dwarf(variant);
    CHECK(btf.size_of(only(btf, BtfKind::kStruct, "scalars")) == sizeof(scalars));
    CHECK(btf.size_of(only(btf, BtfKind::kStruct, "everything")) == sizeof(everything));
    CHECK(btf.size_of(only(btf, BtfKind::kStruct, "arrays")) == sizeof(arrays));
    CHECK(btf.size_of(only(btf, BtfKind::kUnion, "number")) == sizeof(number));
    CHECK_MEMBER(btf, scalars, c);
    CHECK_MEMBER(btf, scalars, s);
    CHECK_MEMBER(btf, scalars, ull);
    CHECK_MEMBER(btf, scalars, b);
    CHECK_MEMBER(btf, scalars, d);
    CHECK_MEMBER(btf, scalars, i128);
    CHECK_MEMBER(btf, scalars, word);
    CHECK_MEMBER(btf, scalars, wide);
    CHECK_MEMBER(btf, scalars, byte_sized);
    CHECK_MEMBER(btf, arrays, one);
    CHECK_MEMBER(btf, arrays, two);
    CHECK_MEMBER(btf, arrays, points);
    CHECK_MEMBER(btf, arrays, names);
    CHECK_MEMBER(btf, arrays, none);
    CHECK_MEMBER(btf, everything, counter);
    CHECK_MEMBER(btf, everything, number);
    CHECK_MEMBER(btf, everything, in_union);
    CHECK_MEMBER(btf, everything, deeper);
    CHECK_MEMBER(btf, everything, nowhere);
    CHECK_MEMBER(btf, everything, callback);
    CHECK_MEMBER(btf, everything, parent);
    CHECK_MEMBER(btf, bits, plain);
    CHECK_MEMBER(btf, packed_bits, after);
  }
}

TEST_CASE("bit fields lie where the compiler puts them, in old DWARF and in packed structures") {
  for (const char* variant : kVariants) {
    CAPTURE(std::string(variant));
    const Btf btf = from_dwarf(variant);
    CHECK_BITS(btf, bits, a);
    CHECK_BITS(btf, bits, b);
    CHECK_BITS(btf, bits, c);
    CHECK_BITS(btf, bits, d);
    CHECK_BITS(btf, bits, e);
    CHECK_BITS(btf, bits, f);
    CHECK_BITS(btf, bits, h);
    CHECK_BITS(btf, packed_bits, a);
    CHECK_BITS(btf, packed_bits, b);
    CHECK_BITS(btf, packed_bits, c);
    CHECK(btf.is_signed(member_of(btf, only(btf, BtfKind::kStruct, "bits"), "c")->type));
    CHECK_FALSE(btf.is_signed(member_of(btf, only(btf, BtfKind::kStruct, "bits"), "b")->type));
  }
}

TEST_CASE("arrays keep their dimensions, and empty and flexible ones have no elements") {
  for (const char* variant : kVariants) {
    CAPTURE(std::string(variant));
    const Btf btf = from_dwarf(variant);
    const TypeId type = only(btf, BtfKind::kStruct, "arrays");
    const BtfArray outer = btf.array(member_of(btf, type, "two")->type);
    CHECK(outer.count == 2);
    CHECK(btf.array(outer.element).count == 5);
    CHECK(btf.array(member_of(btf, type, "none")->type).count == 0);
    CHECK(btf.array(member_of(btf, type, "flexible")->type).count == 0);
    CHECK(btf.kind(member_of(btf, type, "flexible")->type) == BtfKind::kArray);
  }
}

TEST_CASE("enumerators keep their values, and take 64 bits when they need them") {
  for (const char* variant : kVariants) {
    CAPTURE(std::string(variant));
    const Btf btf = from_dwarf(variant);
    const auto value = [&](BtfKind kind, std::string_view name, std::size_t i) {
      const auto list = btf.enumerators(only(btf, kind, name));
      return i < list.size() ? list[i].value : 0xdead;
    };
    CHECK(value(BtfKind::kEnum, "color", 1) == GREEN);
    CHECK(value(BtfKind::kEnum, "color", 2) == BLUE);
    CHECK(value(BtfKind::kEnum, "temperature", 0) == static_cast<std::uint64_t>(COLD));
    CHECK(value(BtfKind::kEnum64, "wide", 1) == WIDE_HIGH);
    CHECK(value(BtfKind::kEnum64, "wide_signed", 0) == static_cast<std::uint64_t>(WIDE_MINUS));
    CHECK(value(BtfKind::kEnum, "byte_sized", 0) == TINY);
    CHECK(btf.size_of(only(btf, BtfKind::kEnum, "byte_sized")) == 1);
    CHECK(btf.is_signed(only(btf, BtfKind::kEnum, "temperature")));
    CHECK_FALSE(btf.is_signed(only(btf, BtfKind::kEnum, "color")));
    CHECK_FALSE(btf.is_signed(only(btf, BtfKind::kEnum, "byte_sized")));
  }
}

TEST_CASE("what one unit declares and another defines is the definition; nowhere defined is FWD") {
  for (const char* variant : kVariants) {
    CAPTURE(std::string(variant));
    const Btf btf = from_dwarf(variant);
    const TypeId type = only(btf, BtfKind::kStruct, "everything");
    const auto pointee = [&](std::string_view name) {
      return btf.resolve(btf.type(member_of(btf, type, name)->type).target).value_or(0);
    };
    CHECK(pointee("here") == only(btf, BtfKind::kStruct, "declared_here"));
    CHECK(btf.find_all(BtfKind::kFwd, "declared_here").empty());
    CHECK(btf.size_of(pointee("here")) == 8);
    CHECK(btf.kind(pointee("nowhere")) == BtfKind::kFwd);
    CHECK(pointee("scalars") == only(btf, BtfKind::kStruct, "scalars"));
    CHECK(pointee("parent") == type);
    CHECK(pointee("anything") == 0);
  }
}

TEST_CASE("a name with two definitions keeps both, and each unit's types refer to their own") {
  for (const char* variant : kVariants) {
    CAPTURE(std::string(variant));
    const Btf btf = from_dwarf(variant);
    CHECK(btf.find_all(BtfKind::kStruct, "bucket").size() == 2);
    const auto first_member = [&](std::string_view table) {
      const auto member = member_of(btf, only(btf, BtfKind::kStruct, table), "buckets");
      const TypeId bucket = btf.resolve(btf.type(member->type).target).value_or(0);
      const auto members = btf.members(bucket);
      return members.empty() ? std::string() : std::string(members[0].name);
    };
    CHECK(first_member("table_a") == "in_a");
    CHECK(first_member("table_b") == "in_b");
  }
}

TEST_CASE("functions are prototypes, qualifiers stay, and other languages are not read") {
  for (const char* variant : kVariants) {
    CAPTURE(std::string(variant));
    const Btf btf = from_dwarf(variant);
    const TypeId type = only(btf, BtfKind::kStruct, "everything");
    const TypeId callback = btf.type(member_of(btf, type, "callback")->type).target;
    REQUIRE(btf.kind(callback) == BtfKind::kFuncProto);
    CHECK(btf.type(callback).target == 0);
    const auto params = btf.params(callback);
    REQUIRE(params.size() == 3);
    CHECK(btf.type(params[0].type).target == type);
    CHECK(btf.kind(params[1].type) == BtfKind::kInt);
    CHECK(params[2].type == 0);
    CHECK(btf.kind(member_of(btf, type, "counter")->type) == BtfKind::kVolatile);
    CHECK(btf.kind(btf.type(member_of(btf, type, "scalars")->type).target) == BtfKind::kConst);
    if (std::string_view(variant) != "dwarf.gcc2")  // which has no restrict yet
      CHECK(btf.kind(member_of(btf, type, "alias")->type) == BtfKind::kRestrict);
    CHECK(btf.find_all(BtfKind::kStruct, "Foreign").empty());
  }
}

TEST_CASE("on the fixture, DWARF and BTF of one compiler say the same") {
  const auto reference = Btf::parse(file_bytes(fixture("dwarf.btf")), "clang");
  REQUIRE(reference);
  // What BTF of older clang cannot say, or of one unit does not know.
  const auto is_known = [&](std::string_view line) {
    // Both units define a struct bucket; clang has a type for the index of arrays, and ours comes
    // on top.
    if (line.starts_with("struct bucket:") || line.starts_with("int __ARRAY_SIZE_TYPE__:"))
      return true;
    // Before 15 it cuts enumerators to 32 bits.
    const bool has_enum64 = reference->find(BtfKind::kEnum64, "wide").has_value();
    return !has_enum64 &&
           (line.starts_with("enum wide") || line == "struct scalars: member wide: enum, enum64");
  };
  for (const char* variant : {"dwarf.clang5", "dwarf.clang4"}) {
    CAPTURE(std::string(variant));
    const Btf made = from_dwarf(variant);
    std::size_t compared = 0;
    for (const BtfKind kind : {BtfKind::kStruct, BtfKind::kUnion, BtfKind::kEnum, BtfKind::kEnum64,
                               BtfKind::kTypedef, BtfKind::kInt, BtfKind::kFloat}) {
      Comparison result = compare_all(*reference, made, kind);
      compared += result.compared;
      for (const auto* list : {&result.different, &result.missing})
        for (const std::string& line : *list)
          if (!is_known(line)) FAIL_CHECK(line);
    }
    CHECK(compared > 25);
  }
}

TEST_CASE("files without DWARF of C say so") {
  CHECK(has_dwarf(fixture("dwarf.gcc5")));
  CHECK(has_dwarf(fixture("dwarf.debug")));
  CHECK(has_dwarf(fixture("dwarf.compressed_old_way")));
  CHECK_FALSE(has_dwarf(fixture("kernel.elf")));
  CHECK_FALSE(has_dwarf(fixture("dwarf.stripped")));
  CHECK_FALSE(has_dwarf(fixture("no such file")));
  const auto none = btf_from_dwarf(fixture("dwarf.stripped"));
  REQUIRE_FALSE(none);
  CHECK(none.error().code == ErrorCode::kUnsupported);
  CHECK(none.error().message.find("has no DWARF") != std::string::npos);
  const auto split = btf_from_dwarf(fixture("dwarf.split"));
  REQUIRE_FALSE(split);
  CHECK(split.error().code == ErrorCode::kUnsupported);
  CHECK(split.error().message.find(".dwo") != std::string::npos);
  // Without the file that it shares, its types would have no names.
  const auto alone = btf_from_dwarf(fixture("alone/dwarf.sharing"));
  REQUIRE_FALSE(alone);
  CHECK(alone.error().code == ErrorCode::kUnsupported);
  CHECK(alone.error().message.find(".gnu_debugaltlink") != std::string::npos);
  CHECK(btf_from_dwarf(fixture("no such file")).error().code == ErrorCode::kNotFound);
}

}  // namespace guestscope
