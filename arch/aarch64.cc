#include "arch/aarch64.h"

#include <algorithm>

#include "arch/processor.h"

namespace guestscope::aarch64 {

namespace {

constexpr std::uint64_t bit(int n) { return std::uint64_t{1} << n; }

constexpr std::uint64_t field(std::uint64_t value, int low, int bits) {
  return (value >> low) & (bit(bits) - 1);
}

/// Bits `high` - 1 to `low`, where they are.
constexpr std::uint64_t in_place(std::uint64_t value, int low, int high) {
  return value & (bit(high) - 1) & ~(bit(low) - 1);
}

// TCR_EL1, and TCR_EL2 under HCR_EL2.E2H.
constexpr int kTcrT1sz = 16;
constexpr std::uint64_t kTcrEpd1 = bit(23);
constexpr int kTcrTg1 = 30;
constexpr int kTcrIps = 32;
constexpr std::uint64_t kTcrTbi1 = bit(38);
constexpr std::uint64_t kTcrHpd1 = bit(42);
constexpr std::uint64_t kTcrDs = bit(59);

constexpr std::uint64_t kEntryValid = bit(0);
constexpr std::uint64_t kEntryTableOrPage = bit(1);
constexpr std::uint64_t kLeafReadOnly = bit(7);  // AP[2]
// Under permission indirection (TCR2_EL1.PIE) this bit is part of an index into PIR_EL1; Linux
// chooses the registers' content so that it keeps its meaning (asm/pgtable-prot.h, PIE_E1).
constexpr std::uint64_t kLeafNoExecute = bit(53);   // PXN
constexpr std::uint64_t kTableNoExecute = bit(59);  // PXNTable
constexpr std::uint64_t kTableReadOnly = bit(62);   // APTable[1]

constexpr int kMinVaBits = 25;  // the largest T1SZ without FEAT_TTST

/// TG1 = 1, 2, 3; 0 is reserved. TG0 has another order.
constexpr std::array<int, 4> kGranuleBits = {0, 14, 12, 16};
/// 7 is reserved, for 56 bits in a format that Linux does not use.
constexpr std::array<int, 8> kPaBits = {32, 36, 40, 42, 44, 48, 52, 52};

int entries_bits(const Geometry& geometry) { return geometry.granule_bits - 3; }

int count_levels(const Geometry& geometry) {
  const int stride = entries_bits(geometry);
  return (geometry.va_bits - geometry.granule_bits + stride - 1) / stride;
}

int root_index_bits(const Geometry& geometry) {
  const int stride = entries_bits(geometry);
  return geometry.va_bits - geometry.granule_bits - (count_levels(geometry) - 1) * stride;
}

}  // namespace

std::optional<Geometry> geometry_of(std::uint64_t tcr) {
  if ((tcr & kTcrEpd1) != 0) return std::nullopt;
  Geometry geometry{.granule_bits = kGranuleBits[field(tcr, kTcrTg1, 2)],
                    .va_bits = 64 - static_cast<int>(field(tcr, kTcrT1sz, 6)),
                    .pa_bits = kPaBits[field(tcr, kTcrIps, 3)],
                    .lpa2 = false,
                    .hierarchical = (tcr & kTcrHpd1) == 0,
                    .top_byte_ignored = (tcr & kTcrTbi1) != 0};
  if (geometry.granule_bits == 0) return std::nullopt;
  const bool pages_64k = geometry.granule_bits == 16;
  geometry.lpa2 = (tcr & kTcrDs) != 0 && !pages_64k;
  if (!pages_64k && !geometry.lpa2) geometry.pa_bits = std::min(geometry.pa_bits, 48);
  const int most = pages_64k || geometry.lpa2 ? 52 : 48;
  if (geometry.va_bits < kMinVaBits || geometry.va_bits > most) return std::nullopt;
  return geometry;
}

GuestPhys root_of(const Geometry& geometry, std::uint64_t ttbr) {
  const int table_bits = root_index_bits(geometry) + 3;
  if (!geometry.lpa() && !geometry.lpa2) return GuestPhys(in_place(ttbr, table_bits, 48));
  // The top of the address takes the place of low bits, so that the table is aligned to 64 bytes.
  return GuestPhys(in_place(ttbr, std::max(table_bits, 6), 48) | (field(ttbr, 2, 4) << 48));
}

Regime::Regime(const Geometry& geometry, GuestPhys root) : geometry_(geometry), root_(root) {
  const int stride = entries_bits(geometry);
  const int count = std::clamp(count_levels(geometry), 1, static_cast<int>(kMaxLevels));
  level_count_ = static_cast<std::size_t>(count);
  for (int depth = 0; depth < count; ++depth)
    levels_[static_cast<std::size_t>(depth)] = {
        .shift = static_cast<std::uint8_t>(geometry.granule_bits + (count - 1 - depth) * stride),
        .index_bits = static_cast<std::uint8_t>(depth == 0 ? root_index_bits(geometry) : stride)};
}

std::span<const PagingLevel> Regime::levels() const {
  return std::span(levels_).first(level_count_);
}

GuestVirt Regime::canonical(GuestVirt address) const {
  const bool upper_half = (address.value() & bit(55)) != 0;
  if (!geometry_.top_byte_ignored || !upper_half) return address;
  return GuestVirt(address.value() | (std::uint64_t{0xff} << 56));
}

bool Regime::covers(GuestVirt address) const {
  return static_cast<std::int64_t>(address.value()) >> geometry_.va_bits == -1;
}

std::shared_ptr<const PagingRegime> Regime::with_root(GuestPhys root) const {
  return std::make_shared<const Regime>(geometry_, root);
}

std::uint64_t Regime::address_in(std::uint64_t raw) const {
  if (geometry_.lpa2) return in_place(raw, geometry_.granule_bits, 50) | (field(raw, 8, 2) << 50);
  const std::uint64_t address = in_place(raw, geometry_.granule_bits, 48);
  return geometry_.lpa() ? address | (field(raw, 12, 4) << 48) : address;
}

bool Regime::may_be_block(int level) const {
  if (level == 2) return true;
  if (geometry_.granule_bits == 12) return level == 1 || (level == 0 && geometry_.lpa2);
  return level == 1 && (geometry_.lpa() || geometry_.lpa2);
}

TableEntry Regime::decode(std::size_t depth, std::uint64_t raw) const {
  using Kind = TableEntry::Kind;
  if ((raw & kEntryValid) == 0) return {.kind = Kind::kNotPresent};
  const int level = 4 - static_cast<int>(level_count_ - depth);
  const std::uint64_t address = address_in(raw);
  if (address >> geometry_.pa_bits != 0) return {.kind = Kind::kReserved};
  const bool table_or_page = (raw & kEntryTableOrPage) != 0;
  if (table_or_page && level < 3)
    return {.kind = Kind::kTable,
            .target = GuestPhys(address),
            .writable = !geometry_.hierarchical || (raw & kTableReadOnly) == 0,
            .executable = !geometry_.hierarchical || (raw & kTableNoExecute) == 0};
  if (!table_or_page && !may_be_block(level)) return {.kind = Kind::kReserved};
  // Bits below a large page are attributes and not checked by processors (nT, for one).
  const std::uint64_t below_page = bit(levels_[depth].shift) - 1;
  return {.kind = Kind::kLeaf,
          .target = GuestPhys(address & ~below_page),
          .writable = (raw & kLeafReadOnly) == 0,
          .executable = (raw & kLeafNoExecute) == 0};
}

}  // namespace guestscope::aarch64
