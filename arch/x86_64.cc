#include "arch/x86_64.h"

#include "arch/processor.h"

namespace guestscope::x86_64 {

namespace {

constexpr std::uint64_t kAddressMask = 0x000f'ffff'ffff'f000;  // bits 51:12
constexpr std::uint64_t kIsolationBit = 1 << 12;

constexpr std::uint64_t kCr0Paging = std::uint64_t{1} << 31;
constexpr std::uint64_t kCr4FiveLevels = std::uint64_t{1} << 12;
constexpr std::uint64_t kEferLongModeActive = std::uint64_t{1} << 10;
constexpr std::uint64_t kEferNoExecute = std::uint64_t{1} << 11;

constexpr std::uint64_t kEntryPresent = 1 << 0;
constexpr std::uint64_t kEntryWritable = 1 << 1;
constexpr std::uint64_t kEntryLarge = 1 << 7;
constexpr std::uint64_t kEntryLargePat = 1 << 12;
constexpr std::uint64_t kEntryNoExecute = std::uint64_t{1} << 63;

constexpr std::array<PagingLevel, 5> kLevels = {{{48, 9}, {39, 9}, {30, 9}, {21, 9}, {12, 9}}};

}  // namespace

bool PagingRegisters::paging_enabled() const { return (cr0 & kCr0Paging) != 0; }
bool PagingRegisters::long_mode() const { return (efer & kEferLongModeActive) != 0; }
bool PagingRegisters::five_levels() const { return (cr4 & kCr4FiveLevels) != 0; }
bool PagingRegisters::no_execute() const { return (efer & kEferNoExecute) != 0; }

std::vector<GuestPhys> PagingRegisters::root_candidates() const {
  const std::uint64_t root = cr3 & kAddressMask;
  if ((root & kIsolationBit) == 0) return {GuestPhys(root)};
  return {GuestPhys(root & ~kIsolationBit), GuestPhys(root)};
}

Regime::Regime(GuestPhys root, bool five_levels, bool no_execute)
    : root_(root), five_levels_(five_levels), no_execute_(no_execute) {}

std::span<const PagingLevel> Regime::levels() const {
  return std::span(kLevels).subspan(five_levels_ ? 0 : 1);
}

std::shared_ptr<const PagingRegime> Regime::with_root(GuestPhys root) const {
  return std::make_shared<const Regime>(root, five_levels_, no_execute_);
}

bool Regime::covers(GuestVirt address) const {
  // Canonical: all bits from the top translated one upwards are equal.
  const std::int64_t upper = static_cast<std::int64_t>(address.value()) >> (va_bits() - 1);
  return upper == 0 || upper == -1;
}

TableEntry Regime::decode(std::size_t depth, std::uint64_t raw) const {
  using Kind = TableEntry::Kind;
  if ((raw & kEntryPresent) == 0) return {.kind = Kind::kNotPresent};
  if ((raw & kEntryNoExecute) != 0 && !no_execute_) return {.kind = Kind::kReserved};
  const PagingLevel level = levels()[depth];
  TableEntry entry{.kind = Kind::kTable,
                   .target = GuestPhys(raw & kAddressMask),
                   .writable = (raw & kEntryWritable) != 0,
                   .executable = (raw & kEntryNoExecute) == 0};
  if (level.shift == 12) {
    entry.kind = Kind::kLeaf;
  } else if ((raw & kEntryLarge) != 0) {
    if (level.shift > 30) return {.kind = Kind::kReserved};
    const std::uint64_t below_page = (std::uint64_t{1} << level.shift) - 1;
    if ((raw & kAddressMask & below_page & ~kEntryLargePat) != 0) return {.kind = Kind::kReserved};
    entry.kind = Kind::kLeaf;
    entry.target = GuestPhys(raw & kAddressMask & ~below_page);
  }
  return entry;
}

Result<KernelImage> find_kernel_image(const PagingRegime& regime, PhysMemory& memory) {
  std::vector<GuestVirt> slots;
  for (std::uint64_t at = 0; at < kImageAreaBytes; at += kImageAlign)
    slots.push_back(kImageAreaBegin.wrapping_add(at));
  PageWalker walker(regime, memory);
  const auto translations = walker.translate(slots);

  KernelImage image;
  for (std::size_t i = 0; i < slots.size(); ++i) {
    if (!translations[i]) return std::unexpected(translations[i].error());
    const Mapping* mapping = std::get_if<Mapping>(&*translations[i]);
    if (mapping == nullptr) {
      if (image.size != 0) break;
      continue;
    }
    if (image.size == 0)
      image = {.text_base = slots[i], .phys = mapping->phys, .size = 0, .data_base = slots[i]};
    if (!mapping->executable && image.data_base == image.text_base) image.data_base = slots[i];
    image.size += kImageAlign;
  }
  if (image.size == 0)
    return fail_at(regime.root().value(), ErrorCode::kNotReady,
                   "these page tables map no kernel image");
  return image;
}

namespace {

constexpr std::size_t kGsBase = kPagingRegisterNames.size();
constexpr std::size_t kKernelGsBase = kGsBase + 1;
constexpr std::array<RegisterNeed, kKernelGsBase + 1> kRegisters = {{{kPagingRegisterNames[0]},
                                                                     {kPagingRegisterNames[1]},
                                                                     {kPagingRegisterNames[2]},
                                                                     {kPagingRegisterNames[3]},
                                                                     {"gs_base", true},
                                                                     {"k_gs_base", true}}};

PagingRegisters named(const guestscope::PagingRegisters& registers) {
  if (registers.machine != Machine::kX86_64) return {};
  const auto& values = registers.values;
  return {.cr0 = values[0], .cr3 = values[1], .cr4 = values[2], .efer = values[3]};
}

class X86Processor final : public Processor {
 public:
  Machine machine() const override { return Machine::kX86_64; }
  std::span<const RegisterNeed> registers() const override { return kRegisters; }

  bool paging_enabled(const guestscope::PagingRegisters& registers) const override {
    const PagingRegisters by_name = named(registers);
    return by_name.paging_enabled() && by_name.long_mode();
  }

  std::vector<std::shared_ptr<const PagingRegime>> regimes(
      const guestscope::PagingRegisters& registers) const override {
    std::vector<std::shared_ptr<const PagingRegime>> found;
    if (!paging_enabled(registers)) return found;
    const PagingRegisters by_name = named(registers);
    for (const GuestPhys root : by_name.root_candidates())
      found.push_back(
          std::make_shared<const Regime>(root, by_name.five_levels(), by_name.no_execute()));
    return found;
  }

  std::vector<std::uint64_t> per_cpu_bases(const guestscope::PagingRegisters& registers,
                                           GuestVirt page_offset) const override {
    // Per-CPU memory is taken from the direct map's end: without KASLR there (with KASAN, say)
    // every boot has it at the same place.
    if (page_offset == kStaticPageOffset4 || page_offset == kStaticPageOffset5) return {};
    return {registers.values[kGsBase], registers.values[kKernelGsBase]};
  }

  Result<std::vector<KernelImage>> find_kernel_images(const PagingRegime& regime,
                                                      PhysMemory& memory) const override {
    GS_ASSIGN(const KernelImage image, find_kernel_image(regime, memory));
    return std::vector{image};
  }
};

}  // namespace

const Processor& processor() {
  static const X86Processor kInstance;
  return kInstance;
}

}  // namespace guestscope::x86_64
