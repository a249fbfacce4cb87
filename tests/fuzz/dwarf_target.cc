// Input: an ELF file with DWARF.
#include <string>

#include "introspect/btf.h"
#include "introspect/dwarf_types.h"
#include "tests/fuzz/fuzz_targets.h"
#include "tests/support/dwarf_builder.h"
#include "tests/support/memory_file.h"

namespace guestscope::fuzz {

namespace {

// All kinds of types, each by its simplest member.
Bytes dwarf_seed() {
  DwarfBuilder seed;
  seed.open(DW_TAG_base_type, "int");
  seed.number(DW_AT_byte_size, 4).number(DW_AT_encoding, DW_ATE_signed);
  const DwarfBuilder::Entry integer = seed.next() - 1;
  seed.open(DW_TAG_structure_type, "node");
  const DwarfBuilder::Entry node = seed.next() - 1;
  const DwarfBuilder::Entry pointer = node + 8;
  seed.number(DW_AT_byte_size, 32).children();
  seed.open(DW_TAG_member, "next");
  seed.refer(pointer).number(DW_AT_data_member_location, 0);
  seed.open(DW_TAG_member, "low");
  seed.refer(integer).number(DW_AT_bit_size, 3).number(DW_AT_data_bit_offset, 64);
  seed.open(DW_TAG_member, "old");
  seed.refer(integer).number(DW_AT_bit_size, 3).number(DW_AT_bit_offset, 20);
  seed.raw(DW_AT_data_member_location, DW_FORM_exprloc, {2, DW_OP_plus_uconst, 8});
  seed.open(DW_TAG_member);
  seed.refer(pointer + 1).number(DW_AT_data_member_location, 12);
  seed.open(DW_TAG_member, "state");
  seed.refer(pointer + 4).number(DW_AT_data_member_location, 16);
  seed.open(DW_TAG_member, "function");
  seed.refer(pointer + 6).number(DW_AT_data_member_location, 24);
  seed.open(DW_TAG_member, "array");
  seed.refer(pointer + 9).number(DW_AT_data_member_location, 28).end();
  seed.open(DW_TAG_pointer_type);
  seed.refer(node);
  seed.open(DW_TAG_union_type);
  seed.number(DW_AT_byte_size, 4).children();
  seed.open(DW_TAG_member, "a");
  seed.refer(integer);
  seed.open(DW_TAG_member, "b");
  seed.refer(pointer + 11).end();
  seed.open(DW_TAG_enumeration_type, "state");
  seed.number(DW_AT_byte_size, 4).children();
  seed.open(DW_TAG_enumerator, "DEAD");
  seed.raw(DW_AT_const_value, DW_FORM_sdata, {0x7f}).end();
  seed.open(DW_TAG_subroutine_type);
  seed.refer(integer).children();
  seed.open(DW_TAG_formal_parameter);
  seed.refer(pointer);
  seed.open(DW_TAG_unspecified_parameters);
  seed.end();
  seed.open(DW_TAG_array_type);
  seed.refer(pointer + 11).children();
  seed.open(DW_TAG_subrange_type);
  seed.number(DW_AT_upper_bound, 3).end();
  seed.open(DW_TAG_const_type);
  seed.refer(pointer + 12);
  seed.open(DW_TAG_typedef, "number");
  seed.refer(integer);
  seed.open(DW_TAG_structure_type, "declared");
  seed.flag(DW_AT_declaration);
  return seed.elf();
}

}  // namespace

void run_dwarf(ByteSpan input) {
  const MemoryFile file(input);
  auto bytes = btf_from_dwarf(file.path());
  if (!bytes) {
    require(bytes.error().message.find(file.path()) != std::string::npos, "errors name the file");
    return;
  }
  const auto btf = Btf::parse(std::move(*bytes), "dwarf");
  require(btf.has_value(), "what is made of DWARF is BTF");
  for (TypeId id = 0; id < btf->type_count(); ++id) static_cast<void>(btf->size_of(id));
}

std::vector<Bytes> dwarf_seeds() {
  Bytes seed = dwarf_seed();
  const MemoryFile file(seed);
  const auto bytes = btf_from_dwarf(file.path());
  require(bytes.has_value(), "the seed has types");
  const auto btf = Btf::parse(*bytes, "seed");
  require(btf.has_value(), "the seed's types are BTF");
  const auto node = btf->find(BtfKind::kStruct, "node");
  require(node.has_value() && btf->members(*node).size() == 7, "the seed is a good one");
  return {seed};
}

}  // namespace guestscope::fuzz
