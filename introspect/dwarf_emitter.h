// DwarfEmitter: writes the types that DwarfDefinitions lists, and what they refer to, as BTF.
//
// Definitions with names get the first ids, in the order of the list, so that types may refer to
// each other in circles; all others are written before what refers to them, and equal ones once.
//
// Threads: none. Fails as its reader does; check that first.
#pragma once

#include <elfutils/libdw.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "introspect/btf_writer.h"
#include "introspect/dwarf_definitions.h"
#include "introspect/dwarf_die.h"
#include "introspect/dwarf_shape.h"
#include "introspect/offset_map.h"

namespace guestscope {

class DwarfEmitter {
 public:
  DwarfEmitter(DieReader& reader, DwarfShapes& shapes, const DwarfDefinitions& definitions)
      : reader_(reader), shapes_(shapes), definitions_(definitions) {}

  Result<Bytes> run();

 private:
  TypeId id_of(Dwarf_Die& type, unsigned level);
  TypeId target(const DieFacts& facts, unsigned level);
  TypeId write(Dwarf_Die& type, TypeForm form, const DieFacts& facts, unsigned level);
  TypeId named(Dwarf_Die& type, const DieFacts& facts);
  TypeId declaration(int tag, std::string_view name);
  TypeId base(const DieFacts& facts);
  TypeId integer(std::string_view name, std::uint64_t size, std::uint64_t bits,
                 std::uint64_t encoding);
  TypeId array(TypeId element, std::uint32_t count);
  TypeId arrays(Dwarf_Die& type, const DieFacts& facts, unsigned level);
  TypeId function(Dwarf_Die& type, const DieFacts& facts, unsigned level);
  // These write no names: a record's words must stay valid until it is stored.
  BtfRecord aggregate(Dwarf_Die& type, const DieFacts& facts, std::vector<std::uint32_t>& words,
                      unsigned level);
  BtfRecord enumeration(Dwarf_Die& type, const DieFacts& facts, std::vector<std::uint32_t>& words);
  BtfRecord body(Dwarf_Die& type, const DieFacts& facts, std::vector<std::uint32_t>& words,
                 unsigned level);

  DieReader& reader_;
  DwarfShapes& shapes_;
  const DwarfDefinitions& definitions_;
  BtfWriter writer_;
  OffsetMap ids_;  ///< by the DIE's address
};

}  // namespace guestscope
