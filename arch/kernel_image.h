// KernelImage: where the page tables map a kernel image, before anything is known about which
// kernel it is.
#pragma once

#include <cstdint>

#include "arch/address.h"

namespace guestscope {

struct KernelImage {
  GuestVirt text_base{};  ///< first mapped address of the image: the run-time _text
  GuestPhys phys{};       ///< the physical address behind it
  std::uint64_t size =
      0;  ///< bytes mapped without a gap from there, in whole slots of the image's alignment
  GuestVirt
      data_base{};  ///< first slot that is not executable (read-only data); text_base when all are
};

}  // namespace guestscope
