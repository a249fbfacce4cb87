#include "daemon/bpftool_value.h"

#include <algorithm>
#include <array>

#include "daemon/typed_bytes.h"
#include "introspect/bit_field.h"
#include "introspect/limits.h"

namespace guestscope {

namespace {

constexpr std::uint64_t kPrintableFirst = ' ', kPrintableLast = '~';

bool is_printable(std::uint64_t byte) { return byte >= kPrintableFirst && byte <= kPrintableLast; }

class BpftoolText {
 public:
  BpftoolText(std::string& text, const Btf& btf, ByteSpan bytes)
      : text_(text),
        btf_(btf),
        bytes_(bytes),
        steps_(kValueStepsBase + kValueStepsPerByte * bytes.size()) {}

  /// `bit` in the byte at `at`: of an old-style bit field, which is a type of its own.
  void value(TypeId id, std::uint64_t at, unsigned bit, unsigned depth) {
    if (depth > kMaxTypeDepth || !spend()) return word("null");
    switch (btf_.kind(id)) {
      case BtfKind::kInt: return integer(id, at, bit);
      case BtfKind::kEnum: return enumerator(id, at);
      case BtfKind::kEnum64: return enumerator64(id, at);
      case BtfKind::kPtr: return has(at, 8) ? number(load(at, 8)) : word("null");
      case BtfKind::kArray: return array(id, at, depth);
      case BtfKind::kStruct:
      case BtfKind::kUnion: return members(id, at, depth);
      case BtfKind::kVar: return variable(id, at, depth);
      case BtfKind::kDatasec: return section(id, at, depth);
      default: break;
    }
    const auto behind = btf_.resolve(id);
    if (behind && *behind != id) return value(*behind, at, bit, depth + 1);
    our_way(id, at);
  }

 private:
  // bpftool's own commas: one in front of everything that follows something.
  void separate() {
    if (text_.empty()) return;
    const char last = text_.back();
    if (last != '{' && last != '[' && last != ':') text_ += ',';
  }
  void word(std::string_view word) {
    separate();
    text_ += word;
  }
  void number(std::uint64_t value) { word(fmt::format_int(value).c_str()); }
  void number(std::int64_t value) { word(fmt::format_int(value).c_str()); }
  void string(std::string_view value) {
    separate();
    append_bpftool_string(text_, value);
  }
  void key(std::string_view name) {
    string(name);
    text_ += ':';
  }

  bool spend() { return steps_ != 0 && --steps_ != 0; }
  bool has(std::uint64_t at, std::uint64_t size) const {
    return at <= bytes_.size() && size <= bytes_.size() - at;
  }
  std::uint64_t load(std::uint64_t at, std::size_t size) const {
    return load_le(&bytes_[at], size);
  }

  /// Where bpftool's output is broken.
  void our_way(TypeId id, std::uint64_t at) {
    const auto size = btf_.size_of(id);
    separate();
    if (!size || !has(at, *size) || !append_value(text_, btf_, id, bytes_.subspan(at, *size)))
      text_ += "null";
  }

  void bits(std::uint64_t at, unsigned bit, unsigned count) {
    at += bit / 8;
    bit %= 8;
    if (count == 0 || count > 128 || !has(at, (bit + count + 7) / 8)) return word("null");
    const Wide wide = load_bits(bytes_.subspan(at), bit, count);
    if (wide.high == 0)
      word(fmt::format("\"0x{:x}\"", wide.low));
    else
      word(fmt::format("\"0x{:x}{:016x}\"", wide.high, wide.low));
  }

  void integer(TypeId id, std::uint64_t at, unsigned bit) {
    const BtfInt info = btf_.int_info(id);
    if (bit != 0 || info.bit_offset != 0 || info.bits % 8 != 0 || info.bits == 128)
      return bits(at, bit + info.bit_offset, info.bits);
    const unsigned size = info.bits / 8;
    if (size == 0 || !has(at, info.is_char || info.is_bool ? 1 : size)) return word("null");
    if (info.is_bool + info.is_char + info.is_signed > 1) return our_way(id, at);
    if (info.is_bool) return word(load(at, 1) != 0 ? "true" : "false");
    if (info.is_char) return letter(load(at, 1));
    if (size != 1 && size != 2 && size != 4 && size != 8) return bits(at, 0, info.bits);
    const std::uint64_t value = load(at, size);
    if (info.is_signed) return number(sign_extend(value, info.bits));
    number(value);
  }

  void letter(std::uint64_t value) {
    const char c = static_cast<char>(value);
    if (!is_printable(value)) return word(fmt::format("\"\\u00{:02x}\"", value));
    separate();
    append_string(text_, {&c, 1});
  }

  void enumerator(TypeId id, std::uint64_t at) {
    const std::uint32_t size = btf_.type(id).size;
    if ((size != 1 && size != 2 && size != 4 && size != 8) || !has(at, size))
      return our_way(id, at);
    const std::int64_t value = sign_extend(load(at, size), size * 8);
    for (const BtfEnumerator& each : btf_.enumerators(id)) {
      if (!spend()) break;
      // As 32 bits with a sign, whatever the type's own.
      if (static_cast<std::int32_t>(each.value & 0xffffffff) == value) return string(each.name);
    }
    number(value);
  }

  void enumerator64(TypeId id, std::uint64_t at) {
    if (btf_.type(id).size != 8 || !has(at, 8)) return our_way(id, at);
    const std::uint64_t value = load(at, 8);
    for (const BtfEnumerator& each : btf_.enumerators(id)) {
      if (!spend()) break;
      if (each.value == value) return string(each.name);
    }
    number(static_cast<std::int64_t>(value));
  }

  /// Whether the element is char itself; a typedef of it does not count.
  bool has_chars(TypeId element) const {
    for (unsigned i = 0; i < kMaxModifiers; ++i) {
      const BtfKind kind = btf_.kind(element);
      if (kind != BtfKind::kConst && kind != BtfKind::kVolatile && kind != BtfKind::kRestrict &&
          kind != BtfKind::kTypeTag)
        break;
      element = btf_.type(element).target;
    }
    if (btf_.kind(element) != BtfKind::kInt || btf_.type(element).size != 1) return false;
    const BtfInt info = btf_.int_info(element);
    return (info.is_char && !info.is_signed && !info.is_bool) || btf_.name_of(element) == "char";
  }

  bool text_array(const BtfArray& info, std::uint64_t at) {
    if (info.count == 0 || !has(at, info.count) || !has_chars(info.element)) return false;
    const ByteSpan own = bytes_.subspan(at, info.count);
    const std::string_view found = text_in(own);
    if (found.size() == own.size()) return false;  // no terminator
    if (!std::ranges::all_of(found,
                             [](char c) { return is_printable(static_cast<unsigned char>(c)); }))
      return false;
    string(found);
    return true;
  }

  void array(TypeId id, std::uint64_t at, unsigned depth) {
    const BtfArray info = btf_.array(id);
    if (text_array(info, at)) return;
    word("[");
    const std::uint64_t size = btf_.size_of(info.element).value_or(0);
    for (std::uint64_t i = 0; i < info.count && has(at, size) && steps_ > 1; ++i, at += size)
      value(info.element, at, 0, depth + 1);
    text_ += ']';
  }

  void members(TypeId id, std::uint64_t at, unsigned depth) {
    word("{");
    for (const BtfMember& member : btf_.members(id)) {
      if (steps_ <= 1) break;
      key(member.name);
      const std::uint64_t place = at + member.bit_offset / 8;
      if (member.bit_size != 0)
        bits(place, member.bit_offset % 8, member.bit_size);
      else
        value(member.type, place, member.bit_offset % 8, depth + 1);
    }
    text_ += '}';
  }

  void variable(TypeId id, std::uint64_t at, unsigned depth) {
    word("{");
    key(btf_.name_of(id));
    value(btf_.type(id).target, at, 0, depth + 1);
    text_ += '}';
  }

  void section(TypeId id, std::uint64_t at, unsigned depth) {
    word("{");
    key(btf_.name_of(id));
    text_ += '[';
    for (const BtfVariable& variable : btf_.variables(id)) {
      if (steps_ <= 1) break;
      value(variable.type, at + variable.offset, 0, depth + 1);
    }
    text_ += "]}";
  }

  std::string& text_;
  const Btf& btf_;
  ByteSpan bytes_;
  std::uint64_t steps_;
};

/// How bpftool writes one character of a string; empty: as it is.
std::string_view escaped(char c) {
  switch (c) {
    case '\t': return "\\t";
    case '\n': return "\\n";
    case '\r': return "\\r";
    case '\f': return "\\f";
    case '\b': return "\\b";
    case '\\': return "\\n";  // 7.1; mended in 7.2
    case '"': return "\\\"";
    default: return {};
  }
}

}  // namespace

void append_bpftool_value(std::string& text, const Btf& btf, TypeId type, ByteSpan bytes) {
  BpftoolText(text, btf, bytes).value(type, 0, 0, 0);
}

void append_bpftool_string(std::string& text, std::string_view value) {
  const bool plain = std::ranges::all_of(value, [](char c) {
    return is_printable(static_cast<unsigned char>(c)) || !escaped(c).empty();
  });
  if (!plain) return append_string(text, value);
  text += '"';
  for (const char c : value) {
    if (const std::string_view instead = escaped(c); instead.empty())
      text += c;
    else
      text += instead;
  }
  text += '"';
}

void append_bpftool_bytes(std::string& text, ByteSpan bytes) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  constexpr std::size_t kEach = 7;  // "0x00",
  const std::size_t start = text.size();
  text.resize(start + 1 + bytes.size() * kEach + (bytes.empty() ? 1 : 0));
  char* to = &text[start];
  *to++ = '[';
  for (const std::byte byte : bytes) {
    const auto value = std::to_integer<unsigned>(byte);
    *to++ = '"';
    *to++ = '0';
    *to++ = 'x';
    *to++ = kDigits[value >> 4];
    *to++ = kDigits[value & 15];
    *to++ = '"';
    *to++ = ',';
  }
  text.back() = ']';  // in place of the last comma
}

}  // namespace guestscope
