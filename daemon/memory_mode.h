// MemoryMode: how guest memory is to be read, as the user chose it.
#pragma once

#include <cstdint>

namespace guestscope {

enum class MemoryMode : std::uint8_t {
  kAuto,     ///< from QEMU's process where that can be, else through the stub
  kStub,     ///< through the stub
  kProcess,  ///< from QEMU's process; a guest where that cannot be is not served
};

}  // namespace guestscope
