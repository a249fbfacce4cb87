#include "introspect/text.h"

#include <cstddef>
#include <cstdint>

namespace guestscope {
namespace {

struct Sequence {
  std::size_t length = 0;  // 0: not valid
  std::uint32_t code_point = 0;
};

Sequence decode_at(std::string_view bytes, std::size_t at) {
  const auto byte = [&](std::size_t i) {
    return std::uint32_t{static_cast<unsigned char>(bytes[i])};
  };
  const std::uint32_t lead = byte(at);
  if (lead < 0x80) return {.length = 1, .code_point = lead};
  const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || length > bytes.size() - at) return {};
  std::uint32_t code_point = lead & (0x7fU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xc0) != 0x80) return {};
    code_point = code_point << 6 | (byte(at + i) & 0x3f);
  }
  constexpr std::uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code_point >= 0xd800 && code_point <= 0xdfff;
  if (code_point < kSmallest[length] || surrogate || code_point > 0x10ffff) return {};
  return {.length = length, .code_point = code_point};
}

bool is_control(std::uint32_t code_point) {
  if (code_point == '\t' || code_point == '\n' || code_point == '\r') return false;
  return code_point < 0x20 || (code_point >= 0x7f && code_point <= 0x9f);
}

}  // namespace

bool is_text(std::string_view bytes) {
  for (std::size_t at = 0; at < bytes.size();) {
    const Sequence next = decode_at(bytes, at);
    if (next.length == 0 || is_control(next.code_point)) return false;
    at += next.length;
  }
  return true;
}

}  // namespace guestscope
