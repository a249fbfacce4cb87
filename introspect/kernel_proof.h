// What locate_kernel() asks of a machine: the last steps of the proof, which differ because each
// keeps its own variables about where it lies.
//
// Threads: pure functions of what they are given; they read `memory`.
#pragma once

#include <optional>

#include "introspect/kernel_location.h"

namespace guestscope {

/// What the marks in a mapped image say; not yet believed. `word`: BootModel's optional variables,
/// empty where this kernel has none.
struct KernelMarks {
  std::string build_id;
  std::string release;
  std::optional<std::uint64_t> phys_base;
  std::optional<std::uint64_t> page_offset;
  std::optional<std::uint64_t> vmalloc_begin;
  std::optional<std::uint64_t> memstart;
  std::optional<std::uint64_t> image_voffset;
  std::optional<std::uint64_t> canary;
  std::optional<std::uint64_t> system_state;

  /// start_kernel() is past setup_arch(): the direct map will not move any more.
  bool started() const { return canary ? *canary != 0 : system_state.value_or(1) != 0; }
};

/// An image whose build id is the right one, and where its _text lies.
struct FoundImage {
  GuestVirt text;
  GuestPhys text_phys;
  std::uint64_t size = 0;  ///< bytes from _text on, contiguous in physical memory
  KernelImage mapped;      ///< the part that the tables map: begins at or after _text
};

/// Steps 3 to 5 of the proof: where the direct map is. kNotReady while the kernel has not come so
/// far. `regime` has the kernel's own root.
struct DirectMap {
  GuestVirt page_offset;
  LinearRange range;
  std::uint64_t phys_base = 0;  ///< see KernelLocation
};
Result<DirectMap> prove_x86_64(PhysMemory& memory, const PagingRegime& regime,
                               const FoundImage& image, const KernelMarks& marks);
Result<DirectMap> prove_aarch64(PhysMemory& memory, const PagingRegime& regime,
                                const FoundImage& image, const KernelMarks& marks);

}  // namespace guestscope
