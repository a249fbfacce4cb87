// DwarfShapes: a number for each type of a DWARF file, equal for equal types of different units.
//
// A kernel's DWARF repeats every type in each of its 2,000 units that uses it, 80 times on average.
// The shape of a type is a hash of all that C says about it: name, size, members with their places
// and the shapes of their types. Behind a pointer, a structure, union or enum with a name counts by
// that name alone: there it may be declared and not defined, and it may lead back to where we are.
// So shapes need no graph comparison, and each is computed once for each entry. What that misses:
// of two structures that differ only in what a pointer of theirs points to, both called the same,
// the first is taken for both.
//
// 64 bits: a kernel has 200,000 different types, so that two of them meet once in 10^9 kernels.
//
// Threads: none. Borrows the reader, and fails as it does.
#pragma once

#include <elfutils/libdw.h>

#include <cstdint>
#include <string_view>

#include "introspect/dwarf_die.h"
#include "introspect/offset_map.h"

namespace guestscope {

using Shape = std::uint64_t;

enum class TypeForm : std::uint8_t {
  kNone,  ///< void, or no C type
  kBase,
  kPointer,
  kAlias,      ///< typedef
  kQualifier,  ///< const, volatile, restrict
  kSame,       ///< what BTF does not tell from its target, as _Atomic
  kArray,
  kAggregate,  ///< structure or union
  kEnum,
  kFunction,
};
TypeForm form_of(int tag);

/// Order matters; every bit of both does.
constexpr Shape mix(Shape shape, std::uint64_t value) {
  shape = (shape ^ value) * 0x9e3779b97f4a7c15;
  shape = (shape ^ shape >> 32) * 0xd6e8feb86659fd93;
  return shape ^ shape >> 29;
}
Shape mix(Shape shape, std::string_view text);
/// Of a structure, union or enum with a name, wherever only that is known. DW_TAG_class_type is a
/// structure.
Shape name_shape(int tag, std::string_view name);

class DwarfShapes {
 public:
  explicit DwarfShapes(DieReader& reader) : reader_(reader) {}

  /// What is asked for next lies mostly in this unit.
  void enter(Dwarf_CU* unit);
  /// Of a type, all that it contains included.
  Shape of(Dwarf_Die& type) { return of(type, Depth::kValue, 0); }

 private:
  enum class Depth : std::uint8_t { kValue, kBehindPointer };

  Shape of(Dwarf_Die& type, Depth depth, unsigned level);
  Shape compute(Dwarf_Die& type, Depth depth, unsigned level);
  Shape target(const DieFacts& facts, Depth depth, unsigned level);
  Shape aggregate(Dwarf_Die& type, Depth depth, unsigned level);
  Shape enumeration(Dwarf_Die& type, Depth depth, unsigned level);
  Shape array(Dwarf_Die& type, Depth depth, unsigned level);
  Shape function(Dwarf_Die& type, unsigned level);

  DieReader& reader_;
  Dwarf_CU* unit_ = nullptr;
  OffsetMap in_unit_;    ///< by place in the unit: emptied for the next one
  OffsetMap elsewhere_;  ///< by address: units that others refer to
};

}  // namespace guestscope
