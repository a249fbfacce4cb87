// Bytes from outside: the little-endian wire integers, and ByteReader, the only two things that
// touch raw bytes.
//
// Both supported architectures are little-endian; a format struct made of le16/le32/le64 is its own
// specification and has no alignment needs. ByteReader never reads past its span: it checks `offset
// <= size`, then `n <= size - offset`.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include "arch/result.h"

namespace guestscope {

using Bytes = std::vector<std::byte>;
using ByteSpan = std::span<const std::byte>;

/// The `size` (1 to 8) bytes at `from` as an unsigned little-endian number. The caller has checked
/// the bounds.
inline std::uint64_t load_le(const std::byte* from, std::size_t size) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < size; ++i)
    value |= std::to_integer<std::uint64_t>(from[i]) << (8 * i);
  return value;
}

template <typename T>
class LittleEndian {
 public:
  LittleEndian() = default;
  // Implicit: a wire field reads as its number.
  operator T() const {
    return static_cast<T>(load_le(bytes_.data(), sizeof(T)));
  }  // NOLINT(google-explicit-constructor)

 private:
  std::array<std::byte, sizeof(T)> bytes_{};
};

using le16 = LittleEndian<std::uint16_t>;
using le32 = LittleEndian<std::uint32_t>;
using le64 = LittleEndian<std::uint64_t>;

/// Bounds-checked view of bytes; does not own them.
class ByteReader {
 public:
  explicit ByteReader(ByteSpan bytes) : bytes_(bytes) {}

  std::size_t size() const { return bytes_.size(); }
  bool contains(std::size_t offset, std::size_t n) const {
    return offset <= size() && n <= size() - offset;
  }

  Result<ByteSpan> bytes(std::size_t offset, std::size_t n) const {
    if (!contains(offset, n))
      return fail(ErrorCode::kCorrupt, "{} bytes at offset {} lie outside {} bytes", n, offset,
                  size());
    return bytes_.subspan(offset, n);
  }

  /// An unsigned little-endian number of `n` (1 to 8) bytes.
  Result<std::uint64_t> number(std::size_t offset, std::size_t n) const {
    if (n == 0 || n > 8) return fail(ErrorCode::kCorrupt, "a number of {} bytes", n);
    GS_ASSIGN(const ByteSpan field, bytes(offset, n));
    return load_le(field.data(), n);
  }

  /// A wire struct (trivially copyable, made of le integers and bytes), copied out.
  template <typename T>
  Result<T> get(std::size_t offset) const {
    static_assert(std::is_trivially_copyable_v<T> && alignof(T) == 1,
                  "wire structs are made of le integers");
    GS_ASSIGN(const ByteSpan field, bytes(offset, sizeof(T)));
    T value;
    std::memcpy(&value, field.data(), sizeof(T));
    return value;
  }

  /// The text at `offset` up to its terminator; an error when no terminator lies within the bytes.
  Result<std::string_view> c_string(std::size_t offset) const {
    if (offset >= size())
      return fail(ErrorCode::kCorrupt, "string at offset {} lies outside {} bytes", offset, size());
    const ByteSpan rest = bytes_.subspan(offset);
    const auto* begin = reinterpret_cast<const char*>(rest.data());
    const void* end = std::memchr(begin, 0, rest.size());
    if (end == nullptr)
      return fail(ErrorCode::kCorrupt, "string at offset {} is not terminated", offset);
    return std::string_view(begin, static_cast<std::size_t>(static_cast<const char*>(end) - begin));
  }

 private:
  ByteSpan bytes_;
};

/// Guest text in a fixed array (a comm, a name): up to its first NUL, or all of it. Not necessarily
/// UTF-8.
inline std::string_view text_in(ByteSpan array) {
  const auto* begin = reinterpret_cast<const char*>(array.data());
  const void* end = array.empty() ? nullptr : std::memchr(begin, 0, array.size());
  return {begin, end == nullptr ? array.size()
                                : static_cast<std::size_t>(static_cast<const char*>(end) - begin)};
}

}  // namespace guestscope
