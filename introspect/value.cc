#include "introspect/value.h"

#include <algorithm>
#include <bit>

#include "introspect/bit_field.h"
#include "introspect/limits.h"
#include "introspect/special_fields.h"
#include "introspect/text.h"

namespace guestscope {
namespace {

std::uint64_t load_number(ByteSpan own) {
  switch (own.size()) {  // with a size that the compiler knows
    case 1: return load_le(own.data(), 1);
    case 2: return load_le(own.data(), 2);
    case 4: return load_le(own.data(), 4);
    case 8: return load_le(own.data(), 8);
    default: return load_le(own.data(), std::min<std::size_t>(own.size(), 8));
  }
}

// Holds what one walk shares. Every visit_… emits exactly one value, whatever it finds; members()
// and variables() emit keys with their values.
class ValueWalk {
 public:
  ValueWalk(ValuePlan& plan, ValueVisitor& visitor, std::uint64_t steps)
      : plan_(plan), visitor_(visitor), steps_(steps) {}

  // `bytes` may be shorter than the type, but only when the type graph lies about sizes.
  void value(PlannedType& type, ByteSpan bytes, unsigned depth) {
    if (depth > kMaxTypeDepth) return damaged("{} is nested too deep", type);
    if (type.shape == ValueShape::kSizeless) return visitor_.hex(bytes);
    if (type.error) return visitor_.damaged(*type.error);
    if (type.size > bytes.size()) return damaged("{} lies outside its structure", type);
    const ByteSpan own = bytes.first(type.size);
    switch (type.shape) {
      case ValueShape::kUnsigned:
      case ValueShape::kSigned:
      case ValueShape::kBool: return integer(type, own, 0, type.bits);
      case ValueShape::kEnum: return enumerator(type, own, 0, type.bits);
      case ValueShape::kPointer: return visitor_.pointer(GuestVirt(load_number(own)));
      case ValueShape::kFunction: return visitor_.function(GuestVirt(load_number(own)));
      case ValueShape::kFloat:
        return visitor_.f64(std::bit_cast<float>(static_cast<std::uint32_t>(load_number(own))));
      case ValueShape::kDouble: return visitor_.f64(std::bit_cast<double>(load_number(own)));
      case ValueShape::kArray: return array(type, own, depth);
      case ValueShape::kObject: return object([&] { members(type, own, depth); });
      case ValueShape::kSection: return object([&] { variables(type, own, depth); });
      case ValueShape::kSpecial: return object([&] { special(*type.special, own); });
      default: return visitor_.hex(own);
    }
  }

 private:
  template <typename Content>
  void object(Content content) {
    visitor_.begin_object();
    content();
    visitor_.end_object();
  }

  void damaged(fmt::format_string<std::string> what, const PlannedType& type) {
    visitor_.damaged(
        {.code = ErrorCode::kCorrupt, .message = fmt::format(what, plan_.btf().describe(type.id))});
  }

  static constexpr const char* kTooMuch = "{} has more parts than its bytes can justify";

  // In place of an object's remaining members.
  void left_out(const PlannedType& type) {
    visitor_.key("(left out)");
    damaged(kTooMuch, type);
  }

  // False once the walk has had its share of work; the rest is then left out.
  bool spend(std::uint64_t steps = 1) {
    steps_ = steps_ < steps ? 0 : steps_ - steps;
    return steps_ != 0;
  }

  void integer(const PlannedType& type, ByteSpan own, unsigned first, unsigned bits) {
    if (bits == 0 || bits > 128 || own.size() > 17) return visitor_.hex(own);
    const bool plain = first == 0 && bits == own.size() * 8 && bits <= 64;
    const Wide number =
        plain ? Wide{.high = 0, .low = load_number(own)} : load_bits(own, first, bits);
    if (type.shape == ValueShape::kBool) return visitor_.boolean((number.low | number.high) != 0);
    if (bits > 64) {
      const bool negative = type.is_signed && (number.high >> (bits - 65) & 1) != 0;
      const auto extended = static_cast<std::uint64_t>(sign_extend(number.high, bits - 64));
      return visitor_.u128(negative ? extended : number.high, number.low, type.is_signed);
    }
    if (type.is_signed) return visitor_.s64(sign_extend(number.low, bits));
    visitor_.u64(number.low);
  }

  void enumerator(const PlannedType& type, ByteSpan own, unsigned first, unsigned bits) {
    if (bits == 0 || bits > 64) return visitor_.hex(own);
    std::uint64_t number = load_bits(own, first, bits).low;
    if (type.is_signed) number = static_cast<std::uint64_t>(sign_extend(number, bits));
    const std::string_view name = name_among(type.enumerators, number, bits);
    if (!name.empty()) return visitor_.enumerator(name, number);
    if (type.is_signed) return visitor_.s64(static_cast<std::int64_t>(number));
    visitor_.u64(number);
  }

  std::string_view name_among(std::span<const BtfEnumerator> list, std::uint64_t number,
                              unsigned bits) {
    // Most enumerations count from zero: look there first, since arrays of enumerators are long.
    if (number < list.size() && list[number].value == number) return list[number].name;
    std::string_view negative;
    for (const BtfEnumerator& each : list) {
      if (!spend()) return {};
      if (each.value == number) return each.name;
      // clang before 16 wrote -3 down as 4294967293 of an unsigned enumeration, which a field
      // narrower than 32 bits never equals.
      const auto low = static_cast<std::int32_t>(each.value & 0xffffffff);
      if (negative.empty() && low < 0 && sign_extend(number, bits) == low) negative = each.name;
    }
    return negative;
  }

  void array(PlannedType& type, ByteSpan own, unsigned depth) {
    if (type.is_text && is_text(text_in(own))) return visitor_.string(text_in(own));
    visitor_.begin_array();
    // Elements without size would cost nothing in memory, however many the type claims.
    const std::size_t size = type.count == 0 || own.empty() ? 0 : own.size() / type.count;
    if (size != 0 && type.element == nullptr)
      type.element = &plan_.type(plan_.btf().array(type.id).element);
    for (std::size_t at = 0; size != 0 && at < own.size(); at += size) {
      if (!spend()) {
        damaged(kTooMuch, type);
        break;
      }
      value(*type.element, own.subspan(at, size), depth + 1);
    }
    visitor_.end_array();
  }

  void members(PlannedType& type, ByteSpan own, unsigned depth) {
    using State = PlannedMember::State;
    for (std::size_t i = 0; i < type.members.size(); ++i) {
      if (!spend()) return left_out(type);
      const PlannedMember& member = plan_.member(type, i);
      if (member.state == State::kPlain) {
        visitor_.key(member.name);
        member_value(member, own.subspan(member.offset, member.size), depth);
      } else if (member.state == State::kAnonymous) {
        if (depth < kMaxTypeDepth)
          members(*member.type, own.subspan(member.offset, member.size), depth + 1);
      } else if (member.state != State::kPadding) {
        visitor_.key(member.name);
        if (member.state == State::kOutside)
          damaged("{} has a member outside of it", type);
        else
          visitor_.damaged(plan_.btf().place(plan_.btf().members(type.id)[i]).error());
      }
    }
  }

  void member_value(const PlannedMember& member, ByteSpan own, unsigned depth) {
    PlannedType& type = *member.type;
    if (member.bit_size == 0) return value(type, own, depth + 1);
    if (plan_.btf().kind(type.id) == BtfKind::kInt)
      return integer(type, own, member.bit_offset, member.bit_size);
    enumerator(type, own, member.bit_offset, member.bit_size);
  }

  void variables(PlannedType& type, ByteSpan own, unsigned depth) {
    for (std::size_t i = 0; i < type.members.size(); ++i) {
      if (!spend()) return left_out(type);
      const PlannedMember& variable = plan_.member(type, i);
      visitor_.key(variable.name);
      if (variable.state == PlannedMember::State::kOutside)
        damaged("{} has a variable outside of it", type);
      else
        value(*variable.type, own.subspan(variable.offset, variable.size), depth + 1);
    }
  }

  void special(const SpecialField& field, ByteSpan own) {
    for (const SpecialMember& member : field.members) {
      const std::uint64_t number =
          load_number(own.subspan(member.offset, member.size)) & member.mask;
      visitor_.key(member.name);
      switch (member.how) {
        case SpecialMember::How::kPointer: visitor_.pointer(GuestVirt(number)); break;
        case SpecialMember::How::kNumber: visitor_.u64(number); break;
        case SpecialMember::How::kIsSet: visitor_.boolean(number != 0); break;
      }
    }
  }

  ValuePlan& plan_;
  ValueVisitor& visitor_;
  std::uint64_t steps_;
};

}  // namespace

Result<void> visit_value(ValuePlan& plan, TypeId type, ByteSpan bytes, ValueVisitor& visitor) {
  PlannedType& planned = plan.type(type);
  // What has no size (void, a forward declaration) is shown as it lies there, by ValueWalk.
  if (planned.error && planned.shape == ValueShape::kDamaged)
    return std::unexpected(*planned.error);
  if (planned.size > bytes.size())
    return fail(ErrorCode::kCorrupt, "{} needs {} bytes and has {}",
                plan.btf().describe(planned.id), planned.size, bytes.size());
  ValueWalk walk(plan, visitor, kValueStepsBase + kValueStepsPerByte * planned.size);
  walk.value(planned, bytes, 0);
  return {};
}

Result<void> visit_value(const Btf& btf, TypeId type, ByteSpan bytes, ValueVisitor& visitor) {
  ValuePlan plan(btf);
  return visit_value(plan, type, bytes, visitor);
}

}  // namespace guestscope
