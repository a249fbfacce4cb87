// Which of arm64's registers rule, and the Processor made of them.
#include "arch/aarch64.h"
#include "arch/processor.h"

namespace guestscope::aarch64 {

namespace {

// Names as QEMU's system-registers.xml has them. The register of EL1 that turns paging on is called
// SCTLR there up to 10.1 and SCTLR_EL1 later; the registers of EL2 are there when the processor has
// EL2.
enum Register : std::size_t {
  kTcrEl1,
  kTtbr1El1,
  kSctlr,
  kSctlrEl1,
  kHcrEl2,
  kTcrEl2,
  kTtbr1El2,
  kSctlrEl2,
  kRegisterCount
};
constexpr std::array<RegisterNeed, kRegisterCount> kRegisters = {{{"TCR_EL1"},
                                                                  {"TTBR1_EL1"},
                                                                  {"SCTLR", true},
                                                                  {"SCTLR_EL1", true},
                                                                  {"HCR_EL2", true},
                                                                  {"TCR_EL2", true},
                                                                  {"TTBR1_EL2", true},
                                                                  {"SCTLR_EL2", true}}};
static_assert(kRegisterCount <= kMaxPagingRegisters);

constexpr std::uint64_t kSctlrMmu = 1;                           // M
constexpr std::uint64_t kHcrHostAtEl2 = std::uint64_t{1} << 34;  // E2H

struct Ruling {
  Geometry geometry;
  std::uint64_t ttbr = 0;
};

std::optional<Ruling> ruling_at(std::uint64_t sctlr, std::uint64_t tcr, std::uint64_t ttbr) {
  if ((sctlr & kSctlrMmu) == 0) return std::nullopt;
  const auto geometry = geometry_of(tcr);
  if (!geometry) return std::nullopt;
  return Ruling{.geometry = *geometry, .ttbr = ttbr};
}

std::optional<Ruling> ruling(const PagingRegisters& registers) {
  const auto& values = registers.values;
  if (registers.machine != Machine::kAarch64) return std::nullopt;
  if ((values[kHcrEl2] & kHcrHostAtEl2) != 0)
    if (auto found = ruling_at(values[kSctlrEl2], values[kTcrEl2], values[kTtbr1El2])) return found;
  return ruling_at(values[kSctlr] | values[kSctlrEl1], values[kTcrEl1], values[kTtbr1El1]);
}

class Aarch64 final : public Processor {
 public:
  Machine machine() const override { return Machine::kAarch64; }
  std::span<const RegisterNeed> registers() const override { return kRegisters; }
  bool paging_enabled(const PagingRegisters& registers) const override {
    return ruling(registers).has_value();
  }

  std::vector<std::shared_ptr<const PagingRegime>> regimes(
      const PagingRegisters& registers) const override {
    const auto found = ruling(registers);
    if (!found) return {};
    // swapper_pg_dir itself, or from reserved_pg_dir, or from tramp_pg_dir.
    const auto regime =
        std::make_shared<const Regime>(found->geometry, root_of(found->geometry, found->ttbr));
    const std::uint64_t page = regime->page_size();
    return {regime, regime->with_root(regime->root().wrapping_add(page)),
            regime->with_root(regime->root().wrapping_add(2 * page))};
  }

  Result<std::vector<KernelImage>> find_kernel_images(const PagingRegime& regime,
                                                      PhysMemory& memory) const override {
    return aarch64::find_kernel_images(regime, memory);
  }
};

}  // namespace

const Processor& processor() {
  static const Aarch64 kInstance;
  return kInstance;
}

}  // namespace guestscope::aarch64
