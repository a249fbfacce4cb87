// DWARF without sense, or damaged on purpose: an error or BTF that parses, and soon.
#include <doctest/doctest.h>

#include <chrono>

#include "introspect/dwarf_types.h"
#include "introspect/elf_sections.h"
#include "tests/support/dwarf_builder.h"
#include "tests/support/memory_file.h"
#include "type_test_support.h"

namespace guestscope {
namespace {

/// What becomes of a file of these bytes: the error's text, or "" when there are types.
std::string outcome(const Bytes& bytes) {
  const MemoryFile file(bytes);
  auto btf = btf_from_dwarf(file.path());
  if (!btf) {
    CHECK(btf.error().message.find(file.path()) != std::string::npos);
    return btf.error().message;
  }
  const auto parsed = Btf::parse(std::move(*btf), "hostile");
  return parsed ? "" : "NOT PARSED: " + parsed.error().message;
}

Btf types_in(DwarfBuilder& builder) {
  const MemoryFile file(builder.elf());
  auto bytes = btf_from_dwarf(file.path());
  if (!bytes) FAIL(bytes.error().to_string());
  auto btf = Btf::parse(std::move(*bytes), "made");
  if (!btf) FAIL(btf.error().to_string());
  return std::move(*btf);
}

void add_struct(DwarfBuilder& builder, std::string_view name = "anchor") {
  builder.open(DW_TAG_structure_type, name);
  builder.number(DW_AT_byte_size, 8);
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a typedef of itself, and two of each other, become types that end in void") {
  DwarfBuilder builder;
  add_struct(builder);
  builder.open(DW_TAG_typedef, "self");
  builder.refer(builder.next() - 1);
  builder.open(DW_TAG_typedef, "ping");
  builder.refer(builder.next());
  builder.open(DW_TAG_typedef, "pong");
  builder.refer(builder.next() - 2);
  const Btf btf = types_in(builder);
  for (const char* name : {"self", "ping", "pong"}) {
    const auto id = btf.find(BtfKind::kTypedef, name);
    REQUIRE(id);
    CHECK(btf.resolve(*id) == 0);
  }
}

TEST_CASE("a structure, an array and a pointer that contain themselves are read") {
  DwarfBuilder builder;
  builder.open(DW_TAG_structure_type, "inside_itself");
  const DwarfBuilder::Entry self = builder.next() - 1;
  builder.number(DW_AT_byte_size, 8).children();
  builder.open(DW_TAG_member, "me");
  builder.refer(self).number(DW_AT_data_member_location, 0);
  builder.open(DW_TAG_member, "array");
  builder.refer(builder.next() + 1).number(DW_AT_data_member_location, 4);
  builder.open(DW_TAG_member, "pointer");
  builder.refer(builder.next() + 1).number(DW_AT_data_member_location, 4).end();
  builder.open(DW_TAG_array_type);
  builder.refer(builder.next() - 1);
  builder.open(DW_TAG_pointer_type);
  builder.refer(builder.next() - 1);
  const Btf btf = types_in(builder);
  const auto found = btf.find(BtfKind::kStruct, "inside_itself");
  REQUIRE(found);
  CHECK(btf.members(*found).size() == 3);
}

TEST_CASE("types nested without end are refused") {
  DwarfBuilder builder;
  add_struct(builder);
  builder.open(DW_TAG_typedef, "deep");
  builder.refer(builder.next());
  for (int i = 0; i < 100'000; ++i) {
    builder.open(DW_TAG_pointer_type);
    builder.refer(builder.next());
  }
  CHECK(contains(outcome(builder.elf()), "nested too deep"));
}

TEST_CASE("a sibling that lies before its entry is refused") {
  DwarfBuilder builder;
  add_struct(builder, "first");
  builder.open(DW_TAG_structure_type, "second");
  builder.refer(1, DW_AT_sibling).children().end();
  add_struct(builder, "third");
  CHECK_FALSE(outcome(builder.elf()).empty());
}

TEST_CASE(
    "structures within structures, each referred to, do not cost the square of their number") {
  constexpr std::size_t kNested = 40'000;
  DwarfBuilder builder;
  const DwarfBuilder::Entry first = builder.next();
  for (std::size_t i = 0; i < kNested; ++i) {
    builder.open(DW_TAG_structure_type);
    builder.children();
  }
  for (std::size_t i = 0; i < kNested; ++i) builder.end();
  for (std::size_t i = 0; i < kNested; ++i) {
    builder.open(DW_TAG_typedef, "t");
    builder.refer(first + i);
  }
  const auto start = std::chrono::steady_clock::now();
  CHECK(contains(outcome(builder.elf()), "without end"));
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(20));
}

TEST_CASE("entries of thousands of attributes are refused") {
  DwarfBuilder builder;
  add_struct(builder);
  for (int i = 0; i < 10'000; ++i) builder.flag(DW_AT_external);
  CHECK(contains(outcome(builder.elf()), "attributes"));
}

TEST_CASE("references to nowhere, and sizes that lie, are errors or nothing") {
  DwarfBuilder nowhere;
  add_struct(nowhere);
  nowhere.open(DW_TAG_typedef, "nowhere");
  nowhere.refer(0x7fffffff);
  CHECK_FALSE(outcome(nowhere.elf()).empty());

  DwarfBuilder sizes;
  sizes.open(DW_TAG_base_type, "huge");
  sizes.number(DW_AT_byte_size, ~0ULL).number(DW_AT_encoding, DW_ATE_unsigned);
  const DwarfBuilder::Entry huge = sizes.next() - 1;
  sizes.open(DW_TAG_structure_type, "odd");
  sizes.number(DW_AT_byte_size, ~0ULL).children();
  sizes.open(DW_TAG_member, "far");
  sizes.refer(huge).number(DW_AT_data_member_location, ~0ULL);
  sizes.open(DW_TAG_member, "wide");
  sizes.refer(huge).number(DW_AT_bit_size, ~0ULL).number(DW_AT_data_bit_offset, ~0ULL);
  sizes.open(DW_TAG_member, "before");
  sizes.refer(huge).number(DW_AT_bit_size, 5).number(DW_AT_bit_offset, ~0ULL - 3);
  sizes.open(DW_TAG_member, "expression");
  sizes.refer(huge).raw(DW_AT_data_member_location, DW_FORM_exprloc, {3, 0x23, 0x80, 0x80});
  sizes.open(DW_TAG_member, "old");
  sizes.refer(huge).raw(DW_AT_data_member_location, DW_FORM_exprloc, {2, 0x23, 0x05}).end();
  const Btf btf = types_in(sizes);
  const auto odd = btf.find(BtfKind::kStruct, "odd");
  REQUIRE(odd);
  const auto members = btf.members(*odd);
  REQUIRE(members.size() == 1);
  CHECK(members[0].name == "old");
  CHECK(members[0].bit_offset == 40);
}

TEST_CASE("a structure behind 2 MB keeps its bit fields that can be written") {
  DwarfBuilder builder;
  builder.open(DW_TAG_base_type, "int");
  builder.number(DW_AT_byte_size, 4).number(DW_AT_encoding, DW_ATE_signed);
  builder.open(DW_TAG_structure_type, "big");
  builder.number(DW_AT_byte_size, 8U << 20).children();
  builder.open(DW_TAG_member, "near");
  builder.refer(1).number(DW_AT_bit_size, 3).number(DW_AT_data_bit_offset, 0xffffff);
  builder.open(DW_TAG_member, "far");
  builder.refer(1).number(DW_AT_data_member_location, 4U << 20).end();
  const Btf btf = types_in(builder);
  const auto members = btf.members(btf.find(BtfKind::kStruct, "big").value_or(0));
  REQUIRE(members.size() == 1);
  CHECK(members[0].bit_offset == 0xffffff);
  CHECK(members[0].bit_size == 3);
}

TEST_CASE("more enumerators than BTF can count are cut, not wrapped") {
  DwarfBuilder builder;
  builder.open(DW_TAG_enumeration_type, "many");
  builder.number(DW_AT_byte_size, 4).children();
  for (std::uint64_t i = 0; i < 70'000; ++i) {
    builder.open(DW_TAG_enumerator, "e");
    builder.number(DW_AT_const_value, i);
  }
  builder.end();
  const Btf btf = types_in(builder);
  CHECK(btf.enumerators(btf.find(BtfKind::kEnum, "many").value_or(0)).size() == 0xffff);
}

TEST_CASE("units of other languages, and empty ones, are not read") {
  DwarfBuilder rust(DW_LANG_Rust);
  add_struct(rust, "Foreign");
  CHECK(contains(outcome(rust.elf()), "no types of C"));
  DwarfBuilder empty;
  CHECK(contains(outcome(empty.elf()), "no types of C"));
}

TEST_CASE("strings that do not end are refused, compressed or not") {
  // A strings section of "x" alone, at the end of which a name begins.
  for (const char* name : {"dwarf.gcc4", "dwarf.compressed_old_way"}) {
    Bytes bytes = file_bytes(fixture(name));
    auto sections = ElfSections::open(fixture(name));
    REQUIRE(sections);
    const ElfSection* strings = sections->named(".debug_str");
    if (strings == nullptr) strings = sections->named(".zdebug_str");
    REQUIRE(strings != nullptr);
    // Of the compressed one, the first bytes say that it is: without them it is taken as it is.
    bytes[strings->offset] = std::byte{'x'};
    bytes[strings->offset + strings->size - 1] = std::byte{'x'};
    CHECK(contains(outcome(bytes), "not terminated"));
  }
}

TEST_CASE("every truncation, and any changed byte, gives an error or types") {
  for (const char* name : {"dwarf.gcc5", "dwarf.type_units4", "dwarf.compressed"}) {
    const Bytes good = file_bytes(fixture(name));
    REQUIRE(good.size() > 1000);
    for (std::size_t n = 0; n < good.size(); n += 61)
      CHECK_FALSE(
          outcome(Bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(n))).empty());
    for (std::size_t at = 0; at < good.size(); at += 7) {
      Bytes bad = good;
      bad[at] ^= std::byte{static_cast<unsigned char>(1U << (at % 8))};
      CHECK_FALSE(outcome(bad).starts_with("NOT PARSED"));
    }
  }
}

}  // namespace guestscope
