// ELF notes as bytes, from a kernel file or from guest memory.
#pragma once

#include <string>

#include "arch/bytes.h"

namespace guestscope {

/// The GNU build id among the notes, in lower-case hex; empty when there is none or the notes are
/// damaged. Source of truth: the ELF gABI (note sections), NT_GNU_BUILD_ID in elf.h.
std::string find_build_id(ByteSpan notes);

}  // namespace guestscope
