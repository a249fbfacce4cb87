// Page tables as data: what a processor's paging mode looks like, and one walker for all of them.
//
// A PagingRegime says how many levels there are, which bits index each, and how an entry reads; the
// PageWalker follows any regime over PhysMemory. It walks many addresses at once, level by level,
// so a batch costs as many exchanges as the tables are deep, not as there are addresses;
// neighbouring entries come in one 64-byte line and are remembered until clear(). "Not mapped" is a
// value (a Hole with its level and reason), not an error: an Error means that memory could not be
// read.
//
// Threads: a PageWalker belongs to one thread; regimes are immutable.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "arch/address.h"
#include "arch/phys_memory.h"
#include "arch/result.h"

namespace guestscope {

/// One level of a table tree: `index_bits` bits of the address from bit `shift` up choose the
/// entry.
struct PagingLevel {
  std::uint8_t shift = 0;
  std::uint8_t index_bits = 0;
};

/// What one table entry says.
struct TableEntry {
  enum class Kind : std::uint8_t { kNotPresent, kTable, kLeaf, kReserved };
  Kind kind = Kind::kNotPresent;
  GuestPhys target{};  ///< next table, or first byte of the page
  bool writable = false;
  bool executable = false;
};

class PagingRegime {
 public:
  virtual ~PagingRegime() = default;

  /// From the root to the smallest page. The number of a level, as errors name it, counts from the
  /// smallest page = 1.
  virtual std::span<const PagingLevel> levels() const = 0;
  virtual GuestPhys root() const = 0;
  /// Whether the regime can translate the address at all (inside the configured size), as
  /// canonical() gives it.
  virtual bool covers(GuestVirt address) const = 0;
  /// `depth` counts from the root, 0 first.
  virtual TableEntry decode(std::size_t depth, std::uint64_t raw) const = 0;

  /// Bits of a virtual address that are translated.
  virtual int va_bits() const = 0;
  /// Bytes of the smallest page.
  virtual std::uint64_t page_size() const = 0;
  /// The same regime from another root.
  virtual std::shared_ptr<const PagingRegime> with_root(GuestPhys root) const = 0;
  /// The address without a tag that the processor ignores; the address itself where it ignores
  /// none.
  virtual GuestVirt canonical(GuestVirt address) const { return address; }
};

enum class HoleReason : std::uint8_t {
  kNotPresent,
  kNonCanonical,
  kReservedBits,
  kTableOutsideRam
};

/// A range without pages behind it.
struct Hole {
  int level = 0;  ///< level of the entry that ends the walk, 1 = smallest page; 0 when no table was
                  ///< consulted
  HoleReason reason = HoleReason::kNotPresent;
  std::uint64_t length =
      0;  ///< bytes from the address to the end of the hole that this entry makes; 0 = unknown
};

/// A mapped address: valid up to the end of its page.
struct Mapping {
  GuestPhys phys{};
  std::uint64_t length = 0;     ///< bytes from the address to the end of the page
  std::uint64_t page_size = 0;  ///< bytes
  bool writable = false;        ///< as the conjunction of all levels
  bool executable = false;
};

using Translation = std::variant<Mapping, Hole>;

/// "page not present (level 2)".
std::string describe(const Hole& hole);

class PageWalker {
 public:
  PageWalker(const PagingRegime& regime, PhysMemory& memory) : regime_(&regime), memory_(&memory) {}

  /// One translation for each address, in order. An Error stands for a table that could not be read
  /// for another reason than lying outside RAM.
  std::vector<Result<Translation>> translate(std::span<const GuestVirt> addresses);
  Result<Translation> translate(GuestVirt address) {
    return std::move(translate({&address, 1}).front());
  }

  /// Forgets every remembered entry: the guest has run.
  void clear() { lines_.clear(); }

 private:
  static constexpr std::size_t kLineBytes = 64;
  using Line = std::array<std::byte, kLineBytes>;
  struct Step;

  void fetch_lines(std::span<const Step> steps);
  void advance(Step& step, std::size_t depth) const;

  const PagingRegime* regime_;
  PhysMemory* memory_;
  std::unordered_map<std::uint64_t, Result<Line>> lines_;  // by physical address of the line
};

}  // namespace guestscope
