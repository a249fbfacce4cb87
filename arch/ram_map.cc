#include "arch/ram_map.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace guestscope {
namespace {

// One past the last address that fits: keeps begin + size representable.
constexpr std::uint64_t kEndOfSpace = std::numeric_limits<std::uint64_t>::max();

std::uint64_t end_of(const RamBlock& block) { return block.begin.value() + block.size; }

}  // namespace

RamMap::RamMap(std::vector<RamBlock> blocks) {
  for (RamBlock& block : blocks)
    block.size = std::min(block.size, kEndOfSpace - block.begin.value());
  std::erase_if(blocks, [](const RamBlock& block) { return block.size == 0; });
  std::ranges::sort(blocks, {}, [](const RamBlock& block) { return block.begin; });
  for (const RamBlock& block : blocks) {
    if (blocks_.empty() || end_of(blocks_.back()) < block.begin.value()) {
      blocks_.push_back(block);
      continue;
    }
    RamBlock& last = blocks_.back();
    last.size = std::max(end_of(last), end_of(block)) - last.begin.value();
  }
  for (const RamBlock& block : blocks_) total_ += block.size;
}

bool RamMap::contains(GuestPhys address, std::uint64_t size) const {
  // The last block that begins at or below the address is the only one that can hold it.
  const auto after = std::ranges::upper_bound(blocks_, address, {},
                                              [](const RamBlock& block) { return block.begin; });
  if (after == blocks_.begin()) return false;
  const RamBlock& block = *std::prev(after);
  const std::uint64_t offset = address.value() - block.begin.value();
  // A first byte must be there even for a read of none, so `offset < size`, not `<=`.
  return offset < block.size && size <= block.size - offset;
}

}  // namespace guestscope
