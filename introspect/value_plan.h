// ValuePlan: the types of values as a walk needs them, each looked up in BTF once and not for every
// value: a map may have a million of the same type.
//
// Filled as types are met, so that what is never walked costs nothing. Borrows the Btf. Threads:
// not to be shared, since a walk adds to it. What a plan holds is bounded by the Btf's own size.
// Internal to introspect/, but for the class itself, which those who print many values keep.
#pragma once

#include <deque>
#include <optional>
#include <unordered_map>
#include <vector>

#include "introspect/btf.h"

namespace guestscope {

struct PlannedType;
struct SpecialField;

enum class ValueShape : std::uint8_t {
  kUnsigned,
  kSigned,
  kBool,
  kEnum,
  kPointer,
  kFunction,  ///< a pointer to a function
  kFloat,
  kDouble,
  kArray,
  kObject,
  kSection,   ///< a DATASEC
  kSpecial,   ///< a structure that the kernel keeps to itself (special_fields.h)
  kBytes,     ///< what has no notation
  kSizeless,  ///< void, forward declarations
  kDamaged,
};

struct PlannedMember {
  enum class State : std::uint8_t { kUnknown, kPlain, kAnonymous, kPadding, kOutside, kNoPlace };

  std::string_view name{};
  PlannedType* type = nullptr;
  std::uint32_t offset = 0;
  std::uint32_t size = 0;       ///< bytes, or for a bit field of the bytes that it touches
  std::uint8_t bit_offset = 0;  ///< in the byte at `offset`
  std::uint8_t bit_size = 0;    ///< 0: not a bit field
  State state = State::kUnknown;
};

struct PlannedType {
  TypeId id = 0;  ///< behind modifiers
  ValueShape shape = ValueShape::kDamaged;
  bool is_signed = false;
  bool is_text = false;            ///< an array of char
  unsigned bits = 0;               ///< of numbers; at most the bytes have
  std::uint64_t size = 0;          ///< bytes
  std::uint32_t count = 0;         ///< of an array
  PlannedType* element = nullptr;  ///< of an array
  const SpecialField* special = nullptr;
  std::optional<Error> error{};         ///< why it has no size, or makes no sense
  std::optional<bool> has_functions{};  ///< pointers to them; empty: nobody has asked yet
  std::vector<PlannedMember> members{};
  std::vector<BtfEnumerator> enumerators{};
};

class ValuePlan {
 public:
  explicit ValuePlan(const Btf& btf) : btf_(btf) {}
  ValuePlan(const ValuePlan&) = delete;
  ValuePlan& operator=(const ValuePlan&) = delete;

  const Btf& btf() const { return btf_; }

  /// Never fails: what makes no sense is kDamaged. Stays where it is as long as the plan.
  PlannedType& type(TypeId id);
  /// The `i`-th member, which is looked up when it is asked for the first time.
  const PlannedMember& member(PlannedType& owner, std::size_t i) {
    PlannedMember& member = owner.members[i];
    if (member.state == PlannedMember::State::kUnknown) place(owner, i, member);
    return member;
  }
  /// Whether a value of the type has a pointer to a function in it; true where it nests too deep to
  /// tell.
  bool has_functions(TypeId id) { return has_functions(type(id), 0); }

 private:
  bool has_functions(PlannedType& type, unsigned depth);
  bool any_has_functions(PlannedType& type, unsigned depth);
  void plan(PlannedType& type);
  void plan_number(PlannedType& type);
  void place(const PlannedType& owner, std::size_t i, PlannedMember& member);

  const Btf& btf_;
  std::deque<PlannedType> types_;
  std::unordered_map<TypeId, PlannedType*> by_id_;
};

}  // namespace guestscope
