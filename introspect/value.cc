#include "introspect/value.h"

#include <algorithm>
#include <bit>

#include "introspect/bit_field.h"
#include "introspect/limits.h"
#include "introspect/text.h"

namespace guestscope {
namespace {

// Holds what one walk shares. Every visit_… emits exactly one value, whatever it finds; members()
// and variables() emit keys with their values.
class ValueWalk {
 public:
  ValueWalk(const Btf& btf, ValueVisitor& visitor, std::uint64_t steps)
      : btf_(btf), visitor_(visitor), steps_(steps) {}

  // `bytes` may be shorter than the type, but only when the type graph lies about sizes.
  void value(TypeId id, ByteSpan bytes, unsigned depth) {
    const auto type = btf_.resolve(id);
    if (!type) return visitor_.damaged(type.error());
    if (depth > kMaxTypeDepth) return damaged("{} is nested too deep", *type);
    const auto size = btf_.size_of(*type);
    if (!size && size.error().code == ErrorCode::kUnsupported) return visitor_.hex(bytes);
    if (!size) return visitor_.damaged(size.error());
    if (*size > bytes.size()) return damaged("{} lies outside its structure", *type);
    const ByteSpan own = bytes.first(*size);
    switch (btf_.kind(*type)) {
      case BtfKind::kInt: return integer(*type, own, 0, bit_width(*type, own));
      case BtfKind::kEnum:
      case BtfKind::kEnum64: return enumerator(*type, own, 0, bit_width(*type, own));
      case BtfKind::kPtr: return visitor_.pointer(GuestVirt(load_le(own.data(), own.size())));
      case BtfKind::kFloat: return floating(own);
      case BtfKind::kArray: return array(*type, own, depth);
      case BtfKind::kStruct:
      case BtfKind::kUnion: return object([&] { members(*type, own, depth); });
      case BtfKind::kDatasec: return object([&] { variables(*type, own, depth); });
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

  void damaged(fmt::format_string<std::string> what, TypeId type) {
    visitor_.damaged(
        {.code = ErrorCode::kCorrupt, .message = fmt::format(what, btf_.describe(type))});
  }

  static constexpr const char* kTooMuch = "{} has more parts than its bytes can justify";

  // In place of an object's remaining members.
  void left_out(TypeId type) {
    visitor_.key("(left out)");
    damaged(kTooMuch, type);
  }

  // False once the walk has had its share of work; the rest is then left out.
  bool spend(std::uint64_t steps = 1) {
    steps_ = steps_ < steps ? 0 : steps_ - steps;
    return steps_ != 0;
  }

  unsigned bit_width(TypeId type, ByteSpan own) const {
    const unsigned declared = btf_.int_info(type).bits;
    const auto whole = static_cast<unsigned>(std::min<std::size_t>(own.size(), 16) * 8);
    return declared != 0 && declared < whole ? declared : whole;
  }

  void integer(TypeId type, ByteSpan own, unsigned first, unsigned bits) {
    if (bits == 0 || bits > 128 || own.size() > 17) return visitor_.hex(own);
    const BtfInt info = btf_.int_info(type);
    const Wide number = load_bits(own, first, bits);
    if (info.is_bool) return visitor_.boolean((number.low | number.high) != 0);
    if (bits > 64) {
      const bool negative = info.is_signed && (number.high >> (bits - 65) & 1) != 0;
      const auto extended = static_cast<std::uint64_t>(sign_extend(number.high, bits - 64));
      return visitor_.u128(negative ? extended : number.high, number.low, info.is_signed);
    }
    if (info.is_signed) return visitor_.s64(sign_extend(number.low, bits));
    visitor_.u64(number.low);
  }

  void enumerator(TypeId type, ByteSpan own, unsigned first, unsigned bits) {
    if (bits == 0 || bits > 64) return visitor_.hex(own);
    std::uint64_t number = load_bits(own, first, bits).low;
    const bool is_signed = btf_.is_signed(type);
    if (is_signed) number = static_cast<std::uint64_t>(sign_extend(number, bits));
    const std::string_view name = name_among(btf_.enumerators(type), number, bits);
    if (!name.empty()) return visitor_.enumerator(name, number);
    if (is_signed) return visitor_.s64(static_cast<std::int64_t>(number));
    visitor_.u64(number);
  }

  std::string_view name_among(const BtfList<BtfEnumerator>& list, std::uint64_t number,
                              unsigned bits) {
    // Most enumerations count from zero: look there first, since arrays of enumerators are long.
    if (number < list.size())
      if (const BtfEnumerator likely = list[number]; likely.value == number) return likely.name;
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

  void floating(ByteSpan own) {
    const std::uint64_t bits = own.size() <= 8 ? load_le(own.data(), own.size()) : 0;
    if (own.size() == 4)
      return visitor_.f64(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
    if (own.size() == 8) return visitor_.f64(std::bit_cast<double>(bits));
    visitor_.hex(own);
  }

  bool is_char(TypeId type) const {
    const BtfInt info = btf_.int_info(type);
    return info.bits == 8 && btf_.type(type).size == 1 && !info.is_bool &&
           (info.is_char || btf_.name_of(type) == "char");
  }

  void array(TypeId type, ByteSpan own, unsigned depth) {
    const BtfArray info = btf_.array(type);
    const TypeId element = btf_.resolve(info.element).value_or(0);
    if (is_char(element) && is_text(text_in(own))) return visitor_.string(text_in(own));
    visitor_.begin_array();
    // Elements without size would cost nothing in memory, however many the type claims.
    const std::size_t size = info.count == 0 || own.empty() ? 0 : own.size() / info.count;
    for (std::size_t at = 0; size != 0 && at < own.size(); at += size) {
      if (!spend()) {
        damaged(kTooMuch, type);
        break;
      }
      value(element, own.subspan(at, size), depth + 1);
    }
    visitor_.end_array();
  }

  void members(TypeId type, ByteSpan own, unsigned depth) {
    for (const BtfMember& member : btf_.members(type)) {
      if (!spend()) return left_out(type);
      const auto place = btf_.place(member);
      const bool has_size = place.has_value();
      const bool inside =
          has_size && place->offset <= own.size() && place->size <= own.size() - place->offset;
      if (member.name.empty()) {
        if (inside) anonymous(*place, own, depth);
        continue;
      }
      visitor_.key(member.name);
      if (!has_size) {
        visitor_.damaged(place.error());
      } else if (!inside) {
        damaged("{} has a member outside of it", type);
      } else {
        member_value(*place, own.subspan(place->offset, place->size), depth);
      }
    }
  }

  void member_value(const MemberPlace& place, ByteSpan own, unsigned depth) {
    if (place.bit_size == 0) return value(place.type, own, depth + 1);
    if (btf_.kind(place.type) == BtfKind::kInt)
      return integer(place.type, own, place.bit_offset, place.bit_size);
    enumerator(place.type, own, place.bit_offset, place.bit_size);
  }

  // C names the members of an anonymous structure as if they were the parent's. Anything else
  // without a name is padding.
  void anonymous(const MemberPlace& place, ByteSpan own, unsigned depth) {
    const BtfKind kind = btf_.kind(place.type);
    if ((kind != BtfKind::kStruct && kind != BtfKind::kUnion) || depth >= kMaxTypeDepth) return;
    members(place.type, own.subspan(place.offset, place.size), depth + 1);
  }

  void variables(TypeId type, ByteSpan own, unsigned depth) {
    for (const BtfVariable& variable : btf_.variables(type)) {
      if (!spend()) return left_out(type);
      visitor_.key(btf_.name_of(variable.type));
      if (variable.offset > own.size() || variable.size > own.size() - variable.offset)
        damaged("{} has a variable outside of it", type);
      else
        value(variable.type, own.subspan(variable.offset, variable.size), depth + 1);
    }
  }

  const Btf& btf_;
  ValueVisitor& visitor_;
  std::uint64_t steps_;
};

}  // namespace

Result<void> visit_value(const Btf& btf, TypeId type, ByteSpan bytes, ValueVisitor& visitor) {
  GS_ASSIGN(const TypeId behind, btf.resolve(type));
  const auto size = btf.size_of(behind);
  // What has no size (void, a forward declaration) is shown as it lies there, by ValueWalk.
  if (!size && size.error().code != ErrorCode::kUnsupported) return std::unexpected(size.error());
  if (size && *size > bytes.size())
    return fail(ErrorCode::kCorrupt, "{} needs {} bytes and has {}", btf.describe(behind), *size,
                bytes.size());
  const std::uint64_t used = size ? *size : 0;
  ValueWalk walk(btf, visitor, kValueStepsBase + kValueStepsPerByte * used);
  walk.value(behind, bytes, 0);
  return {};
}

}  // namespace guestscope
