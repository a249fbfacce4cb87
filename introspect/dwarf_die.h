// DieReader: what the entries (DIEs) of DWARF say about types, read through libdw.
//
// The first damage found, or a budget of work that is used up, makes the reader fail for good:
// everything then reads as absent and walks end at once. Callers look at error() once, at the end,
// instead of at every one of ten million steps.
//
// Threads: none. Borrows the Dwarf. Does not block: libdw has all in memory.
// Source of truth: DWARF 5, chapters 5 (types) and 7.5 (encodings); DWARF 4 for DW_AT_bit_offset.
#pragma once

#include <dwarf.h>
#include <elfutils/libdw.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "arch/result.h"
#include "introspect/limits.h"

namespace guestscope {

/// The attributes of one DIE that matter here. Points into the DIE: lives as long as the Dwarf.
class DieFacts {
 public:
  enum Slot : std::uint8_t {
    kName,
    kType,
    kSignature,
    kDeclaration,
    kByteSize,
    kBitSize,
    kBitOffset,
    kDataBitOffset,
    kMemberLocation,
    kEncoding,
    kUpperBound,
    kCount,
    kConstValue,
    kSlots
  };

  bool has(Slot slot) const { return (present_ >> slot & 1) != 0; }
  const Dwarf_Attribute& operator[](Slot slot) const { return attributes_[slot]; }

  /// Empty when there is none, or a too long one.
  std::string_view name() const;
  bool is_declaration() const;
  /// A constant. Sign-extended when its form is signed; see is_negative().
  std::optional<std::uint64_t> number(Slot slot) const;
  bool is_negative(Slot slot) const;

 private:
  friend class DieReader;
  static int store(Dwarf_Attribute* attribute, void* facts);

  std::uint32_t present_ = 0;
  std::array<Dwarf_Attribute, kSlots> attributes_;
};

/// A member of a structure. Its place is in bits from the structure's first one.
struct DieMember {
  DieFacts facts;
  std::uint64_t bit_offset = 0;
  std::uint64_t bit_size = 0;  ///< 0: not a bit field
  bool is_placed = false;      ///< false: its place is an expression, or makes no sense
};

struct DieArray {
  std::size_t dimensions = 0;
  std::array<std::uint32_t, kMaxArrayDimensions> counts;  ///< 0: unknown, or flexible
};

class DieReader {
 public:
  /// `bytes`: how many there are to be read; the budget is a multiple of it.
  explicit DieReader(std::uint64_t bytes);

  bool failed() const { return error_.has_value(); }
  const std::optional<Error>& error() const { return error_; }
  void damaged(std::string_view what);

  DieFacts facts(Dwarf_Die& die);
  /// The DIE that an attribute refers to; false when there is none.
  bool follow(const Dwarf_Attribute& reference, Dwarf_Die& target);
  bool follow(const DieFacts& facts, DieFacts::Slot slot, Dwarf_Die& target) {
    return facts.has(slot) && follow(facts[slot], target);
  }

  DieMember member(Dwarf_Die& die);
  DieArray array(Dwarf_Die& die);
  /// Of a type, modifiers in front of it included; 0 when it has none.
  std::uint64_t byte_size(Dwarf_Die type);

  /// Calls `visit(child)` for each child.
  template <typename Visit>
  void for_each_child(Dwarf_Die& parent, Visit visit) {
    Dwarf_Die at;
    int status = failed() ? 1 : dwarf_child(&parent, &at);
    while (status == 0) {
      visit(at);
      status = failed() ? 1 : next_sibling(at);
    }
    if (status < 0) damaged(dwarf_errmsg(-1));
  }

 private:
  void spend(std::uint64_t bytes);
  int next_sibling(Dwarf_Die& die);
  void place_bit_field(DieMember& member);

  std::uint64_t budget_;
  std::optional<Error> error_;
};

}  // namespace guestscope
