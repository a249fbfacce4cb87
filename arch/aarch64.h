// arm64: how its registers name the kernel's page tables, how an entry reads, and where a Linux
// kernel image may lie.
//
// What is odd about this machine:
// - Two trees: TTBR0 translates addresses with bit 55 clear (user), TTBR1 those with bit 55 set
// (the
//   kernel's). Only the second is looked at here.
// - Three granules: pages, and tables, of 4, 16 or 64 KiB. TCR.TG1 writes them otherwise than
//   TCR.TG0 does. The architecture numbers levels from the root, -1 or 0 to 3, where 3 holds the
//   pages; the root's level and its size follow from the address size (TCR.T1SZ), so a root may
//   have two entries and lie on any multiple of its size.
// - Physical addresses above 48 bits hide in low bits that were free: bits 51:48 in 15:12 of an
//   entry with 64 KiB pages (FEAT_LPA, TCR.IPS = 6), bits 51:50 in 9:8 with the others (FEAT_LPA2,
//   TCR.DS), and bits 51:48 in 5:2 of TTBR1 with either. Both also make large pages one level
//   further up.
// - Table entries may forbid writing and executing for all below them, unless TCR.HPD1 says that
//   these bits mean nothing. A tag in the top byte of an address is ignored under TCR.TBI1.
// - A kernel that runs at EL2 (HCR_EL2.E2H, as KVM hosts do) has its tables in TTBR1_EL2, and the
//   registers of EL1 belong to its guests. KVM's own code may also run at EL2 with E2H set below a
//   kernel at EL1 (hVHE); it then keeps TTBR1_EL2 off by TCR_EL2.EPD1.
// - While user code runs, TTBR1 may point at a table with hardly anything in it: under page-table
//   isolation at tramp_pg_dir, and briefly at the empty reserved_pg_dir. Both lie directly before
//   swapper_pg_dir (arch/arm64/kernel/vmlinux.lds.S: tramp, reserved, swapper, a page each; before
//   5.11 the reserved one only with CONFIG_ARM64_SW_TTBR0_PAN), so that there are three candidates.
// - 64 KiB kernels built for 52 bits that run on a processor with 48 let TTBR1 point into the
//   middle of swapper_pg_dir (offset_ttbr1 in asm/assembler.h): the symbol is not the root.
//
// Source: Arm Architecture Reference Manual for A-profile (DDI 0487), chapter D8; for the kernel's
// layout Documentation/arch/arm64/memory.rst and arch/arm64/include/asm/memory.h.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "arch/kernel_image.h"
#include "arch/paging.h"

namespace guestscope {
class Processor;
}

namespace guestscope::aarch64 {

/// What TCR says of the upper half.
struct Geometry {
  int granule_bits = 12;  ///< log2 of the size of a page and of a table: 12, 14 or 16
  int va_bits = 48;
  int pa_bits = 48;
  bool lpa2 = false;              ///< TCR.DS, with pages of 4 or 16 KiB
  bool hierarchical = true;       ///< table entries restrict what lies below: TCR.HPD1 is clear
  bool top_byte_ignored = false;  ///< TCR.TBI1

  /// 52-bit physical addresses with pages of 64 KiB.
  bool lpa() const { return granule_bits == 16 && pa_bits > 48; }

  bool operator==(const Geometry&) const = default;
};

/// Empty when the upper half is off (EPD1), or its sizes are reserved ones.
std::optional<Geometry> geometry_of(std::uint64_t tcr);

/// The address in TTBR1, without ASID and flags.
GuestPhys root_of(const Geometry& geometry, std::uint64_t ttbr);

class Regime final : public PagingRegime {
 public:
  Regime(const Geometry& geometry, GuestPhys root);

  std::span<const PagingLevel> levels() const override;
  GuestPhys root() const override { return root_; }
  bool covers(GuestVirt address) const override;
  TableEntry decode(std::size_t depth, std::uint64_t raw) const override;
  int va_bits() const override { return geometry_.va_bits; }
  std::uint64_t page_size() const override { return std::uint64_t{1} << geometry_.granule_bits; }
  std::shared_ptr<const PagingRegime> with_root(GuestPhys root) const override;
  GuestVirt canonical(GuestVirt address) const override;

 private:
  std::uint64_t address_in(std::uint64_t raw) const;
  bool may_be_block(int level) const;

  static constexpr std::size_t kMaxLevels = 5;

  Geometry geometry_;
  GuestPhys root_;
  std::array<PagingLevel, kMaxLevels> levels_{};
  std::size_t level_count_ = 0;
};

/// The kernel's text has megabytes; what else is executable (modules, BPF programs, trampolines)
/// hardly ever has so much in one physical piece.
inline constexpr std::uint64_t kMinImageTextBytes = std::uint64_t{1} << 20;
/// How many candidates are worth a look.
inline constexpr std::size_t kMaxImages = 16;

/// Where the linear map ends at the latest and everything else begins: PAGE_END of asm/memory.h, in
/// a kernel with the registers' address size. Since 5.4 the linear map comes first.
GuestVirt end_of_linear_map(int va_bits, std::uint64_t page_size);

/// Runs behind the linear map that begin with at least kMinImageTextBytes of executable pages,
/// virtually and physically contiguous, the largest text first. kNotReady when there is none.
Result<std::vector<KernelImage>> find_kernel_images(const PagingRegime& regime, PhysMemory& memory);

const Processor& processor();

}  // namespace guestscope::aarch64
