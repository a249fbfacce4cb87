// Hexadecimal, as the protocol writes everything. Table-driven: a snapshot decodes megabytes while
// the guest stands still.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace guestscope::gdb {

namespace internal {

inline constexpr std::uint8_t kNotHex = 0x80;

// Digit -> value, anything else -> kNotHex, so that one OR over many digits finds a bad one.
inline constexpr std::array<std::uint8_t, 256> kHexValue = [] {
  std::array<std::uint8_t, 256> table{};
  table.fill(kNotHex);
  for (std::uint8_t i = 0; i < 10; ++i) table[static_cast<std::size_t>('0' + i)] = i;
  for (std::uint8_t i = 0; i < 6; ++i) {
    table[static_cast<std::size_t>('a' + i)] = static_cast<std::uint8_t>(10 + i);
    table[static_cast<std::size_t>('A' + i)] = static_cast<std::uint8_t>(10 + i);
  }
  return table;
}();

}  // namespace internal

inline std::uint8_t hex_value(char digit) {
  return internal::kHexValue[static_cast<std::uint8_t>(digit)];
}

inline bool is_hex(char digit) { return hex_value(digit) != internal::kNotHex; }

/// Fills `into` from exactly 2 * into.size() digits; false when the count or a digit is wrong.
inline bool decode_hex(std::string_view digits, std::span<std::byte> into) {
  if (digits.size() % 2 != 0 || digits.size() / 2 != into.size()) return false;
  const char* from = digits.data();
  unsigned bad = 0;
  for (std::byte& byte : into) {
    const unsigned high = hex_value(from[0]);
    const unsigned low = hex_value(from[1]);
    bad |= high | low;
    byte = static_cast<std::byte>(high << 4 | low);
    from += 2;
  }
  return (bad & internal::kNotHex) == 0;
}

/// Bytes as text; empty when the digits are wrong.
inline std::optional<std::string> hex_to_text(std::string_view digits) {
  std::string text(digits.size() / 2, '\0');
  if (!decode_hex(digits, std::as_writable_bytes(std::span(text)))) return std::nullopt;
  return text;
}

inline std::string text_to_hex(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string digits;
  digits.reserve(text.size() * 2);
  for (const char c : text) {
    digits += kDigits[static_cast<std::uint8_t>(c) >> 4];
    digits += kDigits[static_cast<std::uint8_t>(c) & 15];
  }
  return digits;
}

/// A whole hexadecimal number of 1 to 16 digits, without prefix or sign.
inline std::optional<std::uint64_t> parse_hex(std::string_view digits) {
  if (digits.empty() || digits.size() > 16) return std::nullopt;
  std::uint64_t value = 0;
  for (const char digit : digits) {
    if (!is_hex(digit)) return std::nullopt;
    value = value << 4 | hex_value(digit);
  }
  return value;
}

}  // namespace guestscope::gdb
