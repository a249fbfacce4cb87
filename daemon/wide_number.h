// Numbers of up to 128 bits from text: "-5", "0xffff888000001000".
//
// Threads: pure functions.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace guestscope {

struct WideNumber {
  __extension__ using Magnitude = unsigned __int128;
  bool negative = false;
  Magnitude magnitude = 0;

  bool fits_unsigned(std::size_t bits) const;
  bool fits_signed(std::size_t bits) const;
};

/// Decimal, or hex with 0x in front; a sign is allowed. Nothing when the text is anything else, or
/// too large.
std::optional<WideNumber> parse_wide_number(std::string_view text);

}  // namespace guestscope
