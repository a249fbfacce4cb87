// FakeMemory: physical memory made by a test, which records every access so that tests can count
// exchanges and reads.
#pragma once

#include <algorithm>
#include <cstring>
#include <map>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "arch/phys_memory.h"

namespace guestscope::test {

class FakeMemory final : public PhysMemory {
 public:
  static constexpr std::uint64_t kPage = 4096;

  /// Everything below is RAM; the rest fails with kNotRam, as a real RAM map makes it.
  explicit FakeMemory(std::uint64_t ram_bytes) : ram_bytes_(ram_bytes) {}

  void write(std::uint64_t address, ByteSpan bytes) {
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      const std::uint64_t at = address + i;
      page(at / kPage)[at % kPage] = bytes[i];
    }
  }
  void write_u64(std::uint64_t address, std::uint64_t value) {
    write(address, std::as_bytes(std::span(&value, 1)));
  }
  void write_text(std::uint64_t address, std::string_view text) {
    write(address, std::as_bytes(std::span(text)));
  }
  void clear() { pages_.clear(); }

  void read(std::span<PhysRead> reads) override {
    ++exchanges;
    for (PhysRead& request : reads) {
      ++read_count;
      bytes_read += request.into.size();
      read_one_range(request);
    }
  }

  /// When set, every read fails with it: the connection is gone.
  std::optional<Error> broken;
  std::size_t exchanges = 0;
  std::size_t read_count = 0;
  std::size_t bytes_read = 0;

 private:
  Bytes& page(std::uint64_t number) {
    Bytes& bytes = pages_[number];
    bytes.resize(kPage);
    return bytes;
  }

  void read_one_range(PhysRead& request) {
    request.error = broken;
    if (broken) return;
    const std::uint64_t begin = request.address.value();
    if (begin > ram_bytes_ || request.into.size() > ram_bytes_ - begin) {
      request.error =
          Error{.code = ErrorCode::kNotRam, .message = "not RAM", .path = {}, .address = begin};
      return;
    }
    for (std::span<std::byte> rest = request.into; !rest.empty();) {
      const std::uint64_t at = begin + (request.into.size() - rest.size());
      const std::size_t n = std::min<std::size_t>(rest.size(), kPage - at % kPage);
      const auto found = pages_.find(at / kPage);
      if (found == pages_.end())
        std::memset(rest.data(), 0, n);
      else
        std::memcpy(rest.data(), found->second.data() + at % kPage, n);
      rest = rest.subspan(n);
    }
  }

  std::uint64_t ram_bytes_;
  std::map<std::uint64_t, Bytes> pages_;
};

/// Builds x86-64 page tables inside a FakeMemory, taking pages for tables from `next_table`
/// upwards.
class TableBuilder {
 public:
  TableBuilder(FakeMemory& memory, std::uint64_t root, bool five_levels)
      : memory_(memory),
        root_(root),
        next_table_(root + FakeMemory::kPage),
        five_levels_(five_levels) {}

  static constexpr std::uint64_t kPresent = 1, kWritable = 2, kLarge = 1 << 7;
  static constexpr std::uint64_t kNoExecute = std::uint64_t{1} << 63;

  /// Maps one page of 4 KiB (level 1), 2 MiB (level 2) or 1 GiB (level 3).
  void map(std::uint64_t virt, std::uint64_t phys, int level, std::uint64_t flags = kWritable) {
    const std::uint64_t entry = entry_address(virt, level);
    memory_.write_u64(entry, phys | flags | kPresent | (level > 1 ? kLarge : 0));
  }

  /// Physical address of the entry for `virt` at a level, its parent tables made on the way.
  std::uint64_t entry_address(std::uint64_t virt, int level) {
    std::uint64_t table = root_;
    for (int at = five_levels_ ? 5 : 4; at > level; --at)
      table = table_below(entry_in(table, virt, at));
    return entry_in(table, virt, level);
  }

  void set_next_table(std::uint64_t address) { next_table_ = address; }

 private:
  static std::uint64_t entry_in(std::uint64_t table, std::uint64_t virt, int level) {
    return table + ((virt >> (12 + 9 * (level - 1))) & 511) * 8;
  }

  std::uint64_t table_below(std::uint64_t entry) {
    if (const auto found = tables_.find(entry); found != tables_.end()) return found->second;
    const std::uint64_t table = std::exchange(next_table_, next_table_ + FakeMemory::kPage);
    memory_.write_u64(entry, table | kPresent | kWritable);
    tables_[entry] = table;
    return table;
  }

  FakeMemory& memory_;
  std::uint64_t root_;
  std::uint64_t next_table_;
  bool five_levels_;
  std::map<std::uint64_t, std::uint64_t> tables_;
};

}  // namespace guestscope::test
