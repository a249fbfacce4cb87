// Numbers of any width at any bit: bit fields and 128-bit integers.
#pragma once

#include <cstdint>

#include "arch/bytes.h"

namespace guestscope {

struct Wide {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
};

/// The `bits` (1 to 128) bits from bit `first` (0 to 7) of `bytes`, little-endian, as both
/// supported architectures number them. Bits beyond the bytes read as zero.
inline Wide load_bits(ByteSpan bytes, unsigned first, unsigned bits) {
  const auto word = [&](std::size_t at) -> std::uint64_t {
    if (at >= bytes.size()) return 0;
    return load_le(&bytes[at], bytes.size() - at < 8 ? bytes.size() - at : 8);
  };
  const auto shifted = [&](std::size_t at) {
    const std::uint64_t low = word(at) >> first;
    return first == 0 ? low : low | word(at + 8) << (64 - first);
  };
  const auto masked = [](std::uint64_t value, unsigned keep) {
    return keep >= 64 ? value : value & ((std::uint64_t{1} << keep) - 1);
  };
  return {.high = bits > 64 ? masked(shifted(8), bits - 64) : 0, .low = masked(shifted(0), bits)};
}

/// The low `bits` (1 to 64) bits with their sign extended.
inline std::int64_t sign_extend(std::uint64_t value, unsigned bits) {
  const unsigned unused = 64 - bits;
  return static_cast<std::int64_t>(value << unused) >> unused;
}

}  // namespace guestscope
