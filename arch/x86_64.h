// x86-64: how its registers name the page tables, how an entry reads, and where a Linux kernel
// image lies.
//
// What is odd about this machine:
// - Two depths of one tree: four levels (48 bits) or five (57 bits, CR4.LA57). A large page may end
// the walk at level 3
//   (1 GiB) or level 2 (2 MiB); bit 7 says so there, is reserved above, and means something else
//   (PAT) at level 1.
// - CR3 names the tables of the process that happens to run. All share the kernel's half, but under
// page-table
//   isolation CR3 points at the user's copy while user code runs: the second half of an 8 KiB pair,
//   with hardly any of the kernel in it. Bit 12 then tells the halves apart; without isolation bit
//   12 is an address bit like any other, so there are two candidates for the root and the kernel's
//   own marks must decide.
// - The kernel's GS base is the running CPU's per-CPU base; while user code runs it waits in
// MSR_KERNEL_GS_BASE.
// - The low 12 bits of CR3 are flags or a PCID, bit 63 is the no-flush hint; the address is bits
// 51:12.
//
// Source: Intel SDM volume 3, chapter 5 (paging); Documentation/arch/x86/x86_64/mm.rst for the
// kernel's layout.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "arch/kernel_image.h"
#include "arch/paging.h"

namespace guestscope {
class Processor;
}

namespace guestscope::x86_64 {

/// The registers that decide paging, by the names that a stub's target description gives them.
inline constexpr std::array<std::string_view, 4> kPagingRegisterNames = {"cr0", "cr3", "cr4",
                                                                         "efer"};

struct PagingRegisters {
  std::uint64_t cr0 = 0;
  std::uint64_t cr3 = 0;
  std::uint64_t cr4 = 0;
  std::uint64_t efer = 0;

  bool operator==(const PagingRegisters&) const = default;

  bool paging_enabled() const;  ///< CR0.PG
  bool long_mode() const;       ///< EFER.LMA
  bool five_levels() const;     ///< CR4.LA57
  bool no_execute() const;      ///< EFER.NXE

  /// Possible page-table roots, likeliest first: bits 51:12 of CR3 with bit 12 clear, then as they
  /// stand.
  std::vector<GuestPhys> root_candidates() const;
};

class Regime final : public PagingRegime {
 public:
  /// `no_execute`: EFER.NXE; without it bit 63 of an entry is reserved.
  Regime(GuestPhys root, bool five_levels, bool no_execute);

  std::span<const PagingLevel> levels() const override;
  GuestPhys root() const override { return root_; }
  bool covers(GuestVirt address) const override;
  TableEntry decode(std::size_t depth, std::uint64_t raw) const override;
  /// 48 or 57.
  int va_bits() const override { return five_levels_ ? 57 : 48; }
  std::uint64_t page_size() const override { return 4096; }
  std::shared_ptr<const PagingRegime> with_root(GuestPhys root) const override;

 private:
  GuestPhys root_;
  bool five_levels_;
  bool no_execute_;
};

/// The one GiB in which the kernel maps its image, slide included (__START_KERNEL_map,
/// KERNEL_IMAGE_SIZE).
inline constexpr GuestVirt kImageAreaBegin{0xffffffff80000000};
inline constexpr std::uint64_t kImageAreaBytes = std::uint64_t{1} << 30;
/// The image starts on a multiple of this, in virtual and in physical memory (MIN_KERNEL_ALIGN).
inline constexpr std::uint64_t kImageAlign = std::uint64_t{2} << 20;
/// The direct map when CONFIG_DYNAMIC_MEMORY_LAYOUT is off and page_offset_base does not exist.
inline constexpr GuestVirt kStaticPageOffset4{0xffff888000000000};
inline constexpr GuestVirt kStaticPageOffset5{0xff11000000000000};

/// The image in these tables; kNotReady when they map none (the guest has not come that far).
Result<KernelImage> find_kernel_image(const PagingRegime& regime, PhysMemory& memory);

/// The same as a Processor: registers by kPagingRegisterNames and the two GS bases, and at most one
/// image.
const Processor& processor();

}  // namespace guestscope::x86_64
