// KernelLocation: where the guest's kernel lies, proven; and PagingRegisterCell, from which every
// attempt to find it takes the registers.
//
// locate_kernel() answers only when all of this holds, so that nothing half-booted is taken for a
// kernel:
// 1. paging is on and the page tables map an image (Processor::find_kernel_images);
// 2. the build id in the image's notes is that of the kernel file, else kMismatch, with both
//    versions;
// 3. the kernel's own note of where it lies (phys_base, kimage_voffset) agrees with where the image
//    was found: it has relocated itself;
// 4. start_kernel() is past setup_arch(), where the direct map's place is chosen for good:
//    init_task has its stack canary (kernels built without canaries: system_state is past
//    SYSTEM_BOOTING);
// 5. the kernel's own root table (on x86-64 init_top_pgt, not the one of the running process) maps
//    the image in the direct map where the kernel's variables say. On its own this
//    would not be enough: x86-64 kernels that can start under Xen or PVH come with such a mapping,
//    for the static value.
//
// Threads: the cell may be stored to by one thread and loaded by others; locations are plain
// values.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "arch/processor.h"
#include "introspect/kernel_memory.h"
#include "introspect/kernel_model.h"

namespace guestscope {

/// The paging registers of the vCPU that is looked at, as last refreshed. They change during boot,
/// so whoever needs them loads them anew; a copy kept from earlier would freeze a root table that
/// is gone.
class PagingRegisterCell {
 public:
  void store(const PagingRegisters& registers);
  /// One consistent set; of no machine before the first store().
  PagingRegisters load() const;

 private:
  std::atomic<std::uint64_t> version_{0};  // odd while a store is under way
  std::atomic<Machine> machine_{Machine::kOther};
  std::array<std::atomic<std::uint64_t>, kMaxPagingRegisters> values_{};
};

struct KernelLocation {
  std::shared_ptr<const PagingRegime> regime;  ///< from the kernel's own root table
  std::vector<LinearRange> linear;             ///< the image and the direct map
  GuestVirt text_base;                         ///< run-time _text
  std::uint64_t slide = 0;  ///< run-time minus link-time address of the image, modulo 2^64
  std::uint64_t image_size = 0;
  /// The kernel's own figure, modulo 2^64. x86-64: phys_base, the image's physical offset; arm64:
  /// memstart_addr, where physical memory begins in the linear map.
  std::uint64_t phys_base = 0;
  GuestPhys root;
  int paging_levels = 0;
  int va_bits = 0;
  std::uint64_t page_size = 0;  ///< bytes
  GuestVirt page_offset;        ///< where the direct map begins
  std::uint64_t canary = 0;     ///< random for each boot; 0 when this kernel has none
  std::string release;          ///< from the guest's own banner

  /// A link-time address of the image (a symbol's value) as it is at run time.
  GuestVirt at(std::uint64_t link_address) const { return GuestVirt(link_address + slide); }

  /// Whether this is the same boot of the same kernel.
  bool same_boot(const KernelLocation& other) const;
};

/// kNotReady: not booted far enough; kMismatch: the guest runs another kernel than the file's, or
/// on another processor.
Result<KernelLocation> locate_kernel(PhysMemory& memory, const KernelModel& model,
                                     const PagingRegisters& registers);

/// Whether the boot that `known` was found in still runs, in one exchange: the page tables in use
/// map the image through the kernel's own entry, and the boot's random number is still in its
/// place. False means that it has to be located again; so does a kernel without such a number.
/// `runs_it`: the vCPU with these registers is known to run that boot; its page tables are not
/// looked at.
bool is_still_there(PhysMemory& memory, const KernelModel& model, const KernelLocation& known,
                    const PagingRegisters& registers, bool runs_it = false);

}  // namespace guestscope
