#include "daemon/wide_number.h"

#include <charconv>

namespace guestscope {

using Magnitude = WideNumber::Magnitude;

bool WideNumber::fits_unsigned(std::size_t bits) const {
  if (negative && magnitude != 0) return false;
  return bits >= 128 || magnitude >> bits == 0;
}

bool WideNumber::fits_signed(std::size_t bits) const {
  if (bits == 0 || bits > 128) return false;
  const Magnitude limit = Magnitude{1} << (bits - 1);
  return negative ? magnitude <= limit : magnitude < limit;
}

std::optional<WideNumber> parse_wide_number(std::string_view text) {
  WideNumber number;
  if (text.starts_with('-') || text.starts_with('+')) {
    number.negative = text.front() == '-';
    text.remove_prefix(1);
  }
  const bool hex = text.starts_with("0x") || text.starts_with("0X");
  if (hex) text.remove_prefix(2);
  const unsigned base = hex ? 16 : 10;
  if (text.empty()) return std::nullopt;
  for (const char c : text) {
    unsigned digit = base;
    std::from_chars(&c, &c + 1, digit, static_cast<int>(base));
    if (digit >= base) return std::nullopt;
    if (__builtin_mul_overflow(number.magnitude, Magnitude{base}, &number.magnitude) ||
        __builtin_add_overflow(number.magnitude, Magnitude{digit}, &number.magnitude))
      return std::nullopt;
  }
  return number;
}

}  // namespace guestscope
