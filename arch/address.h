// GuestVirt and GuestPhys: addresses inside the guest, which are never pointers of ours.
//
// Construction from an integer is explicit, the two kinds do not mix, and the arithmetic that
// decoders need is checked: guest values are hostile, so `offset()` reports overflow instead of
// wrapping.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <optional>

namespace guestscope {

template <typename Tag>
class GuestAddress {
 public:
  constexpr GuestAddress() = default;
  constexpr explicit GuestAddress(std::uint64_t value) : value_(value) {}

  constexpr std::uint64_t value() const { return value_; }
  constexpr bool is_null() const { return value_ == 0; }

  /// The address `delta` bytes further on; empty on overflow.
  constexpr std::optional<GuestAddress> offset(std::uint64_t delta) const {
    std::uint64_t sum = 0;
    if (__builtin_add_overflow(value_, delta, &sum)) return std::nullopt;
    return GuestAddress(sum);
  }

  /// Modulo 2^64: for the kernel's own arithmetic, where wrapping is what it does too (per-CPU
  /// offsets, slides).
  constexpr GuestAddress wrapping_add(std::uint64_t delta) const {
    return GuestAddress(value_ + delta);
  }

  /// Bytes from here up to the next multiple of `alignment` (a power of two); `alignment` itself
  /// when aligned.
  constexpr std::uint64_t bytes_to_boundary(std::uint64_t alignment) const {
    return alignment - (value_ & (alignment - 1));
  }

  constexpr auto operator<=>(const GuestAddress&) const = default;

 private:
  std::uint64_t value_ = 0;
};

/// A kernel virtual address.
using GuestVirt = GuestAddress<struct GuestVirtTag>;
/// A guest-physical address: an offset into the machine's physical address space, holes and devices
/// included.
using GuestPhys = GuestAddress<struct GuestPhysTag>;

}  // namespace guestscope

template <typename Tag>
struct std::hash<guestscope::GuestAddress<Tag>> {
  std::size_t operator()(guestscope::GuestAddress<Tag> address) const noexcept {
    return std::hash<std::uint64_t>{}(address.value());
  }
};
