// NameIndex: from a name to the entries (symbols, types) that bear it.
//
// Chained buckets of 32-bit numbers, 8 bytes for each entry and no name copied: the caller compares
// names. Not open addressing: arm64 kernels have tens of thousands of symbols called "$x" and "$d",
// and equal names would make its construction quadratic. Adding is O(1) whatever the names are.
//
// Threads: immutable once filled. Nothing fails.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

namespace guestscope {

class NameIndex {
 public:
  NameIndex() = default;
  /// For entries numbered 0 to `entries` - 1.
  explicit NameIndex(std::size_t entries)
      : heads_(std::bit_ceil(entries + 1), kEnd), next_(entries, kEnd) {}

  /// Each entry at most once. Added in descending order, entries are visited in ascending order.
  void add(std::string_view name, std::uint32_t entry) {
    std::uint32_t& head = heads_[bucket(name)];
    next_[entry] = head;
    head = entry;
  }

  /// Calls `visit(entry)` for every entry that may bear `name`, until it returns false.
  template <typename Visit>
  void for_each_candidate(std::string_view name, Visit visit) const {
    if (heads_.empty()) return;
    for (std::uint32_t entry = heads_[bucket(name)]; entry != kEnd; entry = next_[entry])
      if (!visit(entry)) return;
  }

  std::size_t memory_bytes() const {
    return (heads_.capacity() + next_.capacity()) * sizeof(std::uint32_t);
  }

 private:
  static constexpr std::uint32_t kEnd = UINT32_MAX;

  std::size_t bucket(std::string_view name) const {
    return std::hash<std::string_view>{}(name) & (heads_.size() - 1);
  }

  std::vector<std::uint32_t> heads_;
  std::vector<std::uint32_t> next_;
};

}  // namespace guestscope
