// Aarch64Tables: builds arm64 page tables inside a FakeMemory, for every granule and address
// format.
#pragma once

#include <cstdint>
#include <map>
#include <utility>

#include "tests/support/fake_memory.h"

namespace guestscope::test {

/// How a configuration is written into TCR and into entries.
struct Aarch64Format {
  int granule_bits = 12;  ///< 12, 14, 16
  int va_bits = 48;
  bool lpa = false;   ///< 52-bit physical addresses with 64 KiB pages
  bool lpa2 = false;  ///< TCR.DS: the same with 4 and 16 KiB pages

  std::uint64_t page() const { return std::uint64_t{1} << granule_bits; }
  /// Bytes that one entry of a level (-1 to 3) covers.
  std::uint64_t span(int level) const {
    return std::uint64_t{1} << (granule_bits + (3 - level) * (granule_bits - 3));
  }
  /// The root's level: the one whose table covers all of the address space.
  int start() const {
    int level = 3;
    while (va_bits > granule_bits + (4 - level) * (granule_bits - 3)) --level;
    return level;
  }
  std::uint64_t root_entries() const { return (std::uint64_t{1} << va_bits) / span(start()); }
  std::uint64_t first_address() const { return ~std::uint64_t{0} << va_bits; }

  std::uint64_t tcr() const {
    const std::uint64_t tg1 = granule_bits == 12 ? 2 : granule_bits == 14 ? 1 : 3;
    const std::uint64_t ips = lpa || lpa2 ? 6 : 5;
    const auto t1sz = static_cast<std::uint64_t>(64 - va_bits);
    return tg1 << 30 | ips << 32 | t1sz << 16 | std::uint64_t{lpa2} << 59;
  }
  std::uint64_t encode(std::uint64_t phys) const {
    if (lpa2) return (phys & 0x3ffff'ffff'ffff) | ((phys >> 50) & 3) << 8;
    if (lpa) return (phys & 0xffff'ffff'ffff) | ((phys >> 48) & 15) << 12;
    return phys;
  }
};

class Aarch64Tables {
 public:
  static constexpr std::uint64_t kNoExecute = std::uint64_t{1} << 53;  // PXN
  static constexpr std::uint64_t kReadOnly = 1 << 7;                   // AP[2]
  static constexpr std::uint64_t kContiguous = std::uint64_t{1} << 52;
  static constexpr std::uint64_t kTableNoExecute = std::uint64_t{1} << 59;  // PXNTable
  static constexpr std::uint64_t kTableReadOnly = std::uint64_t{1} << 62;   // APTable[1]
  static constexpr std::uint64_t kAccessed = 1 << 10;

  /// Tables are taken from `next_table` upwards.
  Aarch64Tables(FakeMemory& memory, Aarch64Format format, std::uint64_t root,
                std::uint64_t next_table)
      : memory_(memory), format_(format), root_(root), next_table_(next_table) {}

  /// A block (level below 3) or a page (3).
  void map(std::uint64_t virt, std::uint64_t phys, int level, std::uint64_t flags = 0) {
    memory_.write_u64(entry_address(virt, level),
                      format_.encode(phys) | flags | kAccessed | (level == 3 ? 3 : 1));
  }
  /// `size` bytes in pages of the smallest size.
  void map_pages(std::uint64_t virt, std::uint64_t phys, std::uint64_t size, std::uint64_t flags) {
    for (std::uint64_t at = 0; at < size; at += format_.page()) map(virt + at, phys + at, 3, flags);
  }
  /// Physical address of the entry for `virt` at a level, its parent tables made on the way.
  std::uint64_t entry_address(std::uint64_t virt, int level) {
    std::uint64_t entry =
        root_ + (virt / format_.span(format_.start()) % format_.root_entries()) * 8;
    for (int at = format_.start(); at < level; ++at)
      entry = table_below(entry) + (virt / format_.span(at + 1) % (format_.page() / 8)) * 8;
    return entry;
  }
  void set_bits(std::uint64_t entry, std::uint64_t bits) {
    Bytes raw(8);
    if (memory_.read_one(GuestPhys(entry), raw))
      memory_.write_u64(entry, load_le(raw.data(), 8) | bits);
  }

 private:
  std::uint64_t table_below(std::uint64_t entry) {
    if (const auto found = tables_.find(entry); found != tables_.end()) return found->second;
    const std::uint64_t table = std::exchange(next_table_, next_table_ + format_.page());
    memory_.write_u64(entry, format_.encode(table) | 3);
    tables_[entry] = table;
    return table;
  }

  FakeMemory& memory_;
  Aarch64Format format_;
  std::uint64_t root_;
  std::uint64_t next_table_;
  std::map<std::uint64_t, std::uint64_t> tables_;
};

}  // namespace guestscope::test
