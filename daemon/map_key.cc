#include "daemon/map_key.h"

#include <charconv>

namespace guestscope {

Result<Bytes> parse_hex_key(const MapContents& shape, std::string_view text) {
  Bytes key(shape.key_size);
  bool good = text.size() == key.size() * 2;
  for (std::size_t i = 0; good && i < key.size(); ++i) {
    unsigned byte = 0;
    const char* at = text.data() + 2 * i;
    const auto [end, error] = std::from_chars(at, at + 2, byte, 16);
    good = error == std::errc{} && end == at + 2;
    key[i] = static_cast<std::byte>(byte);
  }
  if (!good)
    return fail(ErrorCode::kInvalidArgument, "key '{}': {} hexadecimal digits are expected", text,
                key.size() * 2);
  return key;
}

Result<Bytes> make_key(const MapContents& shape, std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return parse_hex_key(shape, text);
  Bytes key(shape.key_size);
  for (std::size_t i = 0; i < key.size() && i < 8; ++i)
    key[i] = static_cast<std::byte>(number >> (8 * i) & 0xff);
  return key;
}

}  // namespace guestscope
