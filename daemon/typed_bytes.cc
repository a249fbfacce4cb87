#include "daemon/typed_bytes.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>

#include "daemon/wide_number.h"
#include "introspect/limits.h"

namespace guestscope {

namespace {

using Magnitude = WideNumber::Magnitude;

/// What an error shows of the value that was given.
std::string shown(const Json& json) {
  constexpr std::size_t kMost = 80;
  std::string text = dump_json(json);
  if (text.size() > kMost) text = text.substr(0, kMost) + "…";
  return text;
}

/// Where in the bytes, and in the type, the encoder is.
struct Place {
  std::string name;  ///< "key.ports[2]"
  std::uint64_t first_bit = 0;
  unsigned depth = 0;

  Place member(std::string_view member, std::uint64_t bit) const {
    return {fmt::format("{}.{}", name, member), first_bit + bit, depth + 1};
  }
  Place element(std::size_t index, std::uint64_t bit) const {
    return {fmt::format("{}[{}]", name, index), first_bit + bit, depth + 1};
  }
};

/// How many members of a structure, anonymous ones resolved, were given, and which were not.
struct Members {
  std::size_t given = 0;
  std::vector<std::string> missing;

  void add(Members more) {
    given += more.given;
    missing.insert(missing.end(), more.missing.begin(), more.missing.end());
  }
};

class Encoder {
 public:
  Encoder(const Btf& btf, std::size_t size)
      : btf_(btf),
        steps_(kValueStepsBase + kValueStepsPerByte * size),
        bytes_(size),
        written_(size) {}

  Result<void> value(TypeId declared, const Json& json, const Place& at) {
    GS_ASSIGN(const TypeId type, btf_.resolve(declared));
    if (at.depth > kMaxTypeDepth) return absurd(at);
    const auto size = btf_.size_of(type);
    if (!size && size.error().code != ErrorCode::kUnsupported) return std::unexpected(size.error());
    const std::uint64_t bits = size.value_or(0) * 8;
    if (at.first_bit > bytes_.size() * 8 || bits > bytes_.size() * 8 - at.first_bit)
      return absurd(at);
    switch (btf_.kind(type)) {
      case BtfKind::kInt: return integer(declared, json, at, int_bits(type, bits));
      case BtfKind::kEnum:
      case BtfKind::kEnum64: return enumerator(declared, json, at, bits);
      case BtfKind::kPtr: return integer(declared, json, at, bits);
      case BtfKind::kFloat: return floating(declared, json, at, bits);
      case BtfKind::kArray: return array(type, json, at);
      case BtfKind::kStruct:
      case BtfKind::kUnion: return object(type, json, at);
      default:
        return fail(ErrorCode::kInvalidArgument, "{}: {} cannot be given", at.name,
                    btf_.describe(type));
    }
  }

  Bytes take() { return std::move(bytes_); }

 private:
  std::unexpected<Error> absurd(const Place& at) const {
    return fail(ErrorCode::kCorrupt, "{}: the type makes no sense", at.name);
  }

  /// The name by which the source calls a type: that of a typedef before what it stands for.
  std::string type_name(TypeId id) const {
    for (unsigned i = 0; i < kMaxModifiers && btf_.contains(id); ++i) {
      const BtfType type = btf_.type(id);
      const bool modifier = type.kind == BtfKind::kConst || type.kind == BtfKind::kVolatile ||
                            type.kind == BtfKind::kRestrict || type.kind == BtfKind::kTypeTag;
      if (!modifier) break;
      id = type.target;
    }
    const BtfKind kind = btf_.kind(id);
    const bool plain =
        kind == BtfKind::kInt || kind == BtfKind::kTypedef || kind == BtfKind::kFloat;
    return plain                   ? std::string(btf_.name_of(id))
           : kind == BtfKind::kPtr ? "a pointer"
                                   : btf_.describe(id);
  }

  std::uint64_t int_bits(TypeId type, std::uint64_t bits) const {
    const std::uint64_t declared = btf_.int_info(type).bits;
    return declared != 0 && declared < bits ? declared : bits;
  }

  /// False where a bit has been written before and differs.
  bool put(std::uint64_t first_bit, std::uint64_t bits, Magnitude value) {
    bool agrees = true;
    for (std::uint64_t i = 0; i < bits; ++i) {
      const std::uint64_t at = first_bit + i;
      const auto mask = std::byte{1} << (at % 8);
      const std::byte bit = (value >> i & 1) != 0 ? mask : std::byte{0};
      if ((written_[at / 8] & mask) != std::byte{0} && (bytes_[at / 8] & mask) != bit)
        agrees = false;
      written_[at / 8] |= mask;
      bytes_[at / 8] = (bytes_[at / 8] & ~mask) | bit;
    }
    return agrees;
  }

  Result<void> store(const Place& at, std::uint64_t bits, Magnitude value) {
    if (put(at.first_bit, bits, value)) return {};
    return fail(ErrorCode::kInvalidArgument, "{}: it contradicts another member of the same union",
                at.name);
  }

  std::unexpected<Error> unexpected_value(const Place& at, const Json& given,
                                          std::string_view expected) const {
    return fail(ErrorCode::kInvalidArgument, "{}: {} is not {}", at.name, shown(given), expected);
  }

  static std::optional<WideNumber> number_in(const Json& json) {
    if (json.is_string()) return parse_wide_number(json.get_ref<const std::string&>());
    if (json.is_number_unsigned()) return WideNumber{false, json.get<std::uint64_t>()};
    if (!json.is_number_integer()) return std::nullopt;
    const auto value = json.get<std::int64_t>();
    return WideNumber{value < 0, value < 0 ? -static_cast<Magnitude>(value) : Magnitude(value)};
  }

  Result<void> number(TypeId type, const Json& json, const Place& at, std::uint64_t bits,
                      std::string_view expected) {
    const auto given = number_in(json);
    if (!given) return unexpected_value(at, json, expected);
    const bool fits = btf_.is_signed(type) ? given->fits_signed(bits) : given->fits_unsigned(bits);
    if (fits) return store(at, bits, given->negative ? -given->magnitude : given->magnitude);
    const auto size = btf_.size_of(type);
    const std::string given_text = json.is_string() ? json.get<std::string>() : dump_json(json);
    if (size && *size * 8 != bits)
      return fail(ErrorCode::kInvalidArgument, "{}: {} does not fit {} bits of {}", at.name,
                  given_text, bits, type_name(type));
    return fail(ErrorCode::kInvalidArgument, "{}: {} does not fit {}", at.name, given_text,
                type_name(type));
  }

  Result<void> integer(TypeId declared, const Json& json, const Place& at, std::uint64_t bits) {
    const TypeId type = btf_.resolve(declared).value_or(0);
    if (bits == 0 || bits > 128) return bytes(declared, json, at);
    if (btf_.int_info(type).is_bool) {
      const auto given = number_in(json);
      const bool is_true = json == true || json == "true" || (given && given->magnitude == 1);
      const bool is_false = json == false || json == "false" || (given && given->magnitude == 0);
      if (!is_true && !is_false) return unexpected_value(at, json, "true or false");
      return store(at, bits, is_true ? 1 : 0);
    }
    return number(declared, json, at, bits, "a number");
  }

  Result<void> enumerator(TypeId declared, const Json& json, const Place& at, std::uint64_t bits) {
    const TypeId type = btf_.resolve(declared).value_or(0);
    if (bits == 0 || bits > 64) return bytes(declared, json, at);
    if (!json.is_string() || number_in(json))
      return number(declared, json, at, bits, "an enumerator or a number");
    for (const BtfEnumerator& each : btf_.enumerators(type)) {
      if (each.name != json.get_ref<const std::string&>()) continue;
      // clang before 16 wrote -3 down as 4294967293 of an unsigned enumeration.
      const auto wide = static_cast<std::int64_t>(each.value);
      const auto narrow = static_cast<std::int32_t>(each.value & 0xffffffff);
      const WideNumber value{false, each.value};
      const std::int64_t number = value.fits_unsigned(bits) || wide < 0 ? wide : narrow;
      const WideNumber sized{number < 0, number < 0
                                             ? -static_cast<Magnitude>(number)
                                             : Magnitude(static_cast<std::uint64_t>(number))};
      if (sized.fits_unsigned(bits) || sized.fits_signed(bits))
        return store(at, bits, static_cast<Magnitude>(number));
    }
    return fail(ErrorCode::kInvalidArgument, "{}: {} is no enumerator of {}", at.name, shown(json),
                btf_.describe(type));
  }

  Result<void> floating(TypeId declared, const Json& json, const Place& at, std::uint64_t bits) {
    if (bits != 32 && bits != 64) return bytes(declared, json, at);
    double value = 0;
    if (json.is_number()) {
      value = json.get<double>();
    } else {
      if (!json.is_string()) return unexpected_value(at, json, "a number");
      const std::string& text = json.get_ref<const std::string&>();  // "inf", "-inf", "nan" as well
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
      if (error != std::errc{} || end != text.data() + text.size())
        return unexpected_value(at, json, "a number");
    }
    if (bits == 64) return store(at, bits, std::bit_cast<std::uint64_t>(value));
    return store(at, bits, std::bit_cast<std::uint32_t>(static_cast<float>(value)));
  }

  /// What has no notation of its own is all its bytes as hex.
  Result<void> bytes(TypeId type, const Json& json, const Place& at) {
    GS_ASSIGN(const std::uint64_t size, btf_.size_of(type));
    const std::string text = json.is_string() ? json.get<std::string>() : "";
    const auto given = parse_hex_bytes(text);
    if (!given || given->size() != size)
      return unexpected_value(at, json, fmt::format("a string of {} hex digits", size * 2));
    for (std::size_t i = 0; i < size; ++i)
      GS_CHECK(store({at.name, at.first_bit + i * 8}, 8, std::to_integer<unsigned>((*given)[i])));
    return {};
  }

  Result<void> array(TypeId type, const Json& json, const Place& at) {
    const BtfArray info = btf_.array(type);
    if (json.is_string() && is_text_array(btf_, type)) return text(info, json, at);
    if (!json.is_array())
      return unexpected_value(at, json, is_text_array(btf_, type) ? "a string" : "an array");
    if (json.size() != info.count)
      return fail(ErrorCode::kInvalidArgument, "{}: an array of {} elements, expected {}", at.name,
                  json.size(), info.count);
    GS_ASSIGN(const std::uint64_t size, btf_.size_of(info.element));
    for (std::size_t i = 0; i < json.size(); ++i)
      GS_CHECK(value(info.element, json[i], at.element(i, i * size * 8)));
    return {};
  }

  Result<void> text(const BtfArray& info, const Json& json, const Place& at) {
    const std::string& given = json.get_ref<const std::string&>();
    if (given.size() > info.count)
      return fail(ErrorCode::kInvalidArgument, "{}: a text of {} bytes, expected at most {}",
                  at.name, given.size(), info.count);
    // In a union another member may say what follows the terminator.
    const std::size_t end = std::min<std::size_t>(given.size() + 1, info.count);
    for (std::size_t i = 0; i < end; ++i) {
      const auto c = i < given.size() ? static_cast<unsigned char>(given[i]) : 0U;
      GS_CHECK(store({at.name, at.first_bit + i * 8}, 8, c));
    }
    return {};
  }

  Result<void> object(TypeId type, const Json& json, const Place& at) {
    if (!json.is_object()) return unexpected_value(at, json, "an object");
    GS_ASSIGN(const Members found, members(type, json, at));
    for (const auto& [name, unused] : json.items())
      if (!has_member(type, name, 0))
        return fail(ErrorCode::kInvalidArgument, "{}: {} has no member {}", at.name,
                    btf_.describe(type), shown(name));
    if (found.missing.empty()) return {};
    return fail(ErrorCode::kInvalidArgument, "{}: {} missing", at.name,
                fmt::join(found.missing, ", "));
  }

  Result<Members> members(TypeId type, const Json& json, const Place& at) {
    Members all;
    bool first = true;
    const bool is_union = btf_.kind(type) == BtfKind::kUnion;
    for (const BtfMember& member : btf_.members(type)) {
      if (steps_ == 0 || at.depth > kMaxTypeDepth) return absurd(at);
      --steps_;
      GS_ASSIGN(Members found, one_member(member, json, at));
      // Of a union one member is enough; the first is named when there is none.
      const bool counts = !is_union || found.given != 0 || (first && all.given == 0);
      if (is_union && found.given != 0 && all.given == 0) all.missing.clear();
      if (counts) all.add(std::move(found));
      first = false;
    }
    return all;
  }

  Result<Members> one_member(const BtfMember& member, const Json& json, const Place& at) {
    GS_ASSIGN(const MemberPlace place, btf_.place(member));
    const std::uint64_t bit = std::uint64_t{place.offset} * 8 + place.bit_offset;
    if (member.name.empty()) {
      if (!is_aggregate(place.type)) return Members{};
      return members(place.type, json, {at.name, at.first_bit + bit, at.depth + 1});
    }
    const auto given = json.find(std::string(member.name));
    if (given == json.end()) return Members{0, {std::string(member.name)}};
    const Place inside = at.member(member.name, bit);
    if (place.bit_size == 0) {
      GS_CHECK(value(member.type, *given, inside));
    } else if (inside.first_bit + place.bit_size > bytes_.size() * 8) {
      return absurd(inside);
    } else if (btf_.kind(place.type) == BtfKind::kInt) {
      GS_CHECK(integer(member.type, *given, inside, place.bit_size));
    } else {
      GS_CHECK(enumerator(member.type, *given, inside, place.bit_size));
    }
    return Members{1, {}};
  }

  bool is_aggregate(TypeId type) const {
    return btf_.kind(type) == BtfKind::kStruct || btf_.kind(type) == BtfKind::kUnion;
  }

  bool has_member(TypeId type, std::string_view name, unsigned depth) {
    if (depth > kMaxTypeDepth) return false;
    for (const BtfMember& member : btf_.members(type)) {
      if (steps_ == 0) return false;
      --steps_;
      if (!member.name.empty() && member.name == name) return true;
      const TypeId behind = btf_.resolve(member.type).value_or(0);
      if (member.name.empty() && is_aggregate(behind) && has_member(behind, name, depth + 1))
        return true;
    }
    return false;
  }

  const Btf& btf_;
  std::uint64_t steps_;
  Bytes bytes_;
  Bytes written_;  // a bit is set when it has been written
};

}  // namespace

bool is_text_array(const Btf& btf, TypeId type) {
  const TypeId array = btf.resolve(type).value_or(0);
  if (btf.kind(array) != BtfKind::kArray) return false;
  const TypeId element = btf.resolve(btf.array(array).element).value_or(0);
  const BtfInt info = btf.int_info(element);
  return info.bits == 8 && btf.type(element).size == 1 && !info.is_bool &&
         (info.is_char || btf.name_of(element) == "char");
}

Result<Bytes> encode_value(const Btf& btf, TypeId type, const Json& json, std::size_t size,
                           std::string_view name) {
  Encoder encoder(btf, size);
  GS_CHECK(encoder.value(type, json, {.name = std::string(name)}));
  return encoder.take();
}

}  // namespace guestscope
