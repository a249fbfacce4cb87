// OffsetMap: 64-bit numbers by 64-bit key, open addressing, for the many small lookups of reading
// DWARF.
//
// Two cache lines for a lookup and no allocation for an entry: with std::unordered_map, reading a
// kernel's DWARF would take half as long again. Key 0 is not allowed. Keys come from offsets in a
// file; they are mixed, so that no file can make all of them meet.
//
// Threads: none. Nothing fails.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace guestscope {

class OffsetMap {
 public:
  /// Empties it and makes room for so many entries; it grows when there are more.
  void reset(std::size_t expected) {
    entries_.assign(std::bit_ceil(std::max<std::size_t>(expected, 8) * 2), Entry{});
    used_ = 0;
  }

  const std::uint64_t* find(std::uint64_t key) const {
    if (entries_.empty()) return nullptr;
    const Entry& entry = entries_[slot(key)];
    return entry.key == key ? &entry.value : nullptr;
  }

  void set(std::uint64_t key, std::uint64_t value) {
    if (used_ * 2 >= entries_.size()) grow();
    Entry& entry = entries_[slot(key)];
    if (entry.key == 0) ++used_;
    entry = {.key = key, .value = value};
  }

 private:
  struct Entry {
    std::uint64_t key = 0;
    std::uint64_t value = 0;
  };

  /// Of the entry with that key, or of the empty one where it would be.
  std::size_t slot(std::uint64_t key) const {
    const std::size_t mask = entries_.size() - 1;
    std::uint64_t mixed = key * 0x9e3779b97f4a7c15;
    std::size_t at = (mixed ^ mixed >> 32) & mask;
    while (entries_[at].key != 0 && entries_[at].key != key) at = (at + 1) & mask;
    return at;
  }

  void grow() {
    std::vector<Entry> old = std::move(entries_);
    reset(std::max<std::size_t>(old.size(), 8));
    for (const Entry& entry : old)
      if (entry.key != 0) {
        entries_[slot(entry.key)] = entry;
        ++used_;
      }
  }

  std::vector<Entry> entries_;
  std::size_t used_ = 0;
};

}  // namespace guestscope
