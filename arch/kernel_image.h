// KernelImage: where the page tables map a kernel image, before anything is known about which
// kernel it is.
#pragma once

#include <cstdint>

#include "arch/address.h"

namespace guestscope {

struct KernelImage {
  /// Where the image begins: on x86-64 the run-time _text. On arm64 the first executable page,
  /// which is _text before 5.11 and early in boot, and _stext otherwise: what lies between them is
  /// not mapped any more, or not executable.
  GuestVirt text_base{};
  GuestPhys phys{};        ///< the physical address behind it
  std::uint64_t size = 0;  ///< bytes mapped without a gap from there: on x86-64 whole slots of the
                           ///< image's alignment, on arm64 pages that are physically contiguous too
  GuestVirt data_base{};  ///< first address that is not executable (read-only data); text_base when
                          ///< all are

  constexpr bool operator==(const KernelImage&) const = default;
};

}  // namespace guestscope
