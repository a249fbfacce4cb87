// jhash: the hash function of the kernel's hash tables (Bob Jenkins' lookup3), over bytes in
// little-endian order. Source of truth: include/linux/jhash.h; its jhash2(), over words, gives the
// same for keys of whole words.
#pragma once

#include <bit>
#include <cstdint>

#include "arch/bytes.h"

namespace guestscope {

inline std::uint32_t jhash(ByteSpan key, std::uint32_t seed) {
  std::uint32_t a = 0xdeadbeef + static_cast<std::uint32_t>(key.size()) + seed;
  std::uint32_t b = a;
  std::uint32_t c = a;
  const auto word = [&](std::size_t at) {
    const std::size_t size = at >= key.size() ? 0 : std::min<std::size_t>(4, key.size() - at);
    return size == 0 ? 0 : static_cast<std::uint32_t>(load_le(key.data() + at, size));
  };
  const auto mix = [](std::uint32_t& x, std::uint32_t& y, std::uint32_t z, int bits) {
    x = (x - z) ^ std::rotl(z, bits);
    z += y;
    return z;
  };
  while (key.size() > 12) {
    a += word(0);
    b += word(4);
    c += word(8);
    c = mix(a, b, c, 4);
    a = mix(b, c, a, 6);
    b = mix(c, a, b, 8);
    c = mix(a, b, c, 16);
    a = mix(b, c, a, 19);
    b = mix(c, a, b, 4);
    key = key.subspan(12);
  }
  if (key.empty()) return c;
  a += word(0);
  b += word(4);
  c += word(8);
  const auto fold = [](std::uint32_t x, std::uint32_t y, int bits) {
    return (x ^ y) - std::rotl(y, bits);
  };
  c = fold(c, b, 14);
  a = fold(a, c, 11);
  b = fold(b, a, 25);
  c = fold(c, b, 16);
  a = fold(a, c, 4);
  b = fold(b, a, 14);
  return fold(c, b, 24);
}

}  // namespace guestscope
