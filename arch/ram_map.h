// RamMap: where the machine's RAM lies in the guest-physical address space.
//
// The guard of every physical read: an address outside the map is never sent to the guest, since
// reading a device has side effects. RAM has holes (the PCI hole below 4 GiB) and several blocks.
//
// Threads: an immutable value. Never blocks.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "arch/address.h"

namespace guestscope {

/// `size` bytes from `begin` on; begin + size does not exceed 2^64 - 1.
struct RamBlock {
  GuestPhys begin;
  std::uint64_t size = 0;

  constexpr bool operator==(const RamBlock&) const = default;
};

class RamMap {
 public:
  RamMap() = default;
  /// Sorts the blocks and joins those that touch or overlap; drops empty ones, and cuts one that
  /// would reach past the end of the address space.
  explicit RamMap(std::vector<RamBlock> blocks);

  /// True when all `size` bytes at `address` are RAM. No bytes are RAM wherever a first one would
  /// be.
  bool contains(GuestPhys address, std::uint64_t size) const;

  /// Sorted by address, disjoint, not touching.
  std::span<const RamBlock> blocks() const { return blocks_; }
  std::uint64_t total() const { return total_; }
  bool empty() const { return blocks_.empty(); }

 private:
  std::vector<RamBlock> blocks_;
  std::uint64_t total_ = 0;
};

}  // namespace guestscope
