#include "introspect/value_plan.h"

#include <algorithm>

#include "introspect/limits.h"
#include "introspect/special_fields.h"

namespace guestscope {

namespace {

bool is_char(const Btf& btf, TypeId type) {
  const BtfInt info = btf.int_info(type);
  return info.bits == 8 && btf.type(type).size == 1 && !info.is_bool &&
         (info.is_char || btf.name_of(type) == "char");
}

}  // namespace

PlannedType& ValuePlan::type(TypeId id) {
  if (const auto found = by_id_.find(id); found != by_id_.end()) return *found->second;
  const auto behind = btf_.resolve(id);
  if (behind && *behind != id) {
    PlannedType& same = type(*behind);
    by_id_.emplace(id, &same);
    return same;
  }
  PlannedType& fresh = types_.emplace_back();
  fresh.id = id;
  by_id_.emplace(id, &fresh);
  if (behind)
    plan(fresh);
  else
    fresh.error = behind.error();
  return fresh;
}

void ValuePlan::plan(PlannedType& type) {
  const auto size = btf_.size_of(type.id);
  if (!size) {
    if (size.error().code == ErrorCode::kUnsupported) type.shape = ValueShape::kSizeless;
    type.error = size.error();
    return;
  }
  type.size = *size;
  switch (btf_.kind(type.id)) {
    case BtfKind::kInt:
    case BtfKind::kEnum:
    case BtfKind::kEnum64: return plan_number(type);
    case BtfKind::kPtr: {
      const TypeId target = btf_.resolve(btf_.type(type.id).target).value_or(0);
      type.shape =
          btf_.kind(target) == BtfKind::kFuncProto ? ValueShape::kFunction : ValueShape::kPointer;
      return;
    }
    case BtfKind::kFloat:
      type.shape = type.size == 4   ? ValueShape::kFloat
                   : type.size == 8 ? ValueShape::kDouble
                                    : ValueShape::kBytes;
      return;
    case BtfKind::kArray: {
      // Not its element, yet: a type that contains itself would have no end.
      type.shape = ValueShape::kArray;
      const BtfArray info = btf_.array(type.id);
      type.count = info.count;
      type.is_text = is_char(btf_, btf_.resolve(info.element).value_or(0));
      return;
    }
    case BtfKind::kStruct:
    case BtfKind::kUnion:
      type.special = find_special_field(btf_.name_of(type.id), type.size);
      type.shape = type.special != nullptr ? ValueShape::kSpecial : ValueShape::kObject;
      type.members.resize(btf_.type(type.id).count);
      return;
    case BtfKind::kDatasec:
      type.shape = ValueShape::kSection;
      type.members.resize(btf_.type(type.id).count);
      return;
    default: type.shape = ValueShape::kBytes; return;
  }
}

bool ValuePlan::has_functions(PlannedType& type, unsigned depth) {
  if (depth > kMaxTypeDepth) return true;
  if (type.has_functions) return *type.has_functions;
  type.has_functions = false;  // meanwhile: a type inside of itself adds nothing
  const bool found = any_has_functions(type, depth);
  type.has_functions = found;
  return found;
}

bool ValuePlan::any_has_functions(PlannedType& type, unsigned depth) {
  using State = PlannedMember::State;
  switch (type.shape) {
    case ValueShape::kFunction: return true;
    case ValueShape::kArray:
      if (type.element == nullptr) type.element = &this->type(btf_.array(type.id).element);
      return has_functions(*type.element, depth + 1);
    case ValueShape::kObject:
    case ValueShape::kSection:
      for (std::size_t i = 0; i < type.members.size(); ++i) {
        const PlannedMember& part = member(type, i);
        const bool shown = part.state == State::kPlain || part.state == State::kAnonymous;
        if (shown && has_functions(*part.type, depth + 1)) return true;
      }
      return false;
    default: return false;
  }
}

void ValuePlan::plan_number(PlannedType& type) {
  const BtfInt info = btf_.int_info(type.id);
  const auto whole = static_cast<unsigned>(std::min<std::uint64_t>(type.size, 16) * 8);
  type.bits = info.bits != 0 && info.bits < whole ? info.bits : whole;
  type.is_signed = btf_.is_signed(type.id);
  const bool is_enum = btf_.kind(type.id) != BtfKind::kInt;
  if (is_enum) {
    type.shape = ValueShape::kEnum;
    const auto list = btf_.enumerators(type.id);
    type.enumerators.assign(list.begin(), list.end());
  } else {
    type.shape = info.is_bool     ? ValueShape::kBool
                 : info.is_signed ? ValueShape::kSigned
                                  : ValueShape::kUnsigned;
  }
  // A bit field of such a type is a number all the same: the walk asks for its own width.
  if (type.bits == 0) type.shape = ValueShape::kBytes;
}

void ValuePlan::place(const PlannedType& owner, std::size_t i, PlannedMember& member) {
  using State = PlannedMember::State;
  if (owner.shape == ValueShape::kSection) {
    const BtfVariable variable = btf_.variables(owner.id)[i];
    member.name = btf_.name_of(variable.type);
    member.type = &type(variable.type);
    member.offset = variable.offset;
    member.size = variable.size;
    const bool inside =
        variable.offset <= owner.size && variable.size <= owner.size - variable.offset;
    member.state = inside ? State::kPlain : State::kOutside;
    return;
  }
  const BtfMember from = btf_.members(owner.id)[i];
  member.name = from.name;
  const auto place = btf_.place(from);
  if (!place) {
    member.state = from.name.empty() ? State::kPadding : State::kNoPlace;
    return;
  }
  if (place->offset > owner.size || place->size > owner.size - place->offset) {
    member.state = from.name.empty() ? State::kPadding : State::kOutside;
    return;
  }
  member.offset = place->offset;
  member.size = static_cast<std::uint32_t>(place->size);
  member.bit_offset = place->bit_offset;
  member.bit_size = place->bit_size;
  member.type = &type(place->type);
  // C names the members of an anonymous structure as if they were the parent's. Anything else
  // without a name is padding.
  const BtfKind kind = btf_.kind(place->type);
  const bool aggregate = kind == BtfKind::kStruct || kind == BtfKind::kUnion;
  member.state = !from.name.empty() ? State::kPlain
                 : aggregate        ? State::kAnonymous
                                    : State::kPadding;
}

}  // namespace guestscope
