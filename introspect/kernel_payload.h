// Kernel payload: what is inside a file that boots: the wrappings around a kernel are taken off,
// one by one, each told by content.
//
//   a compressed stream   gzip, bzip2, xz, lzma, zstd, lz4
//   x86 bzImage           "HdrS" at 0x202; a compressed ELF file behind the real-mode code
//   EFI zboot             "MZ", "zimg"; a compressed Image
//
// What remains is an ELF file, or a flat arm64 Image ("ARM\x64" at 56).
//
// Threads: any; nothing is shared. Takes as long as decompressing does. Fails with one line that
// names the file.
// Source of truth: Documentation/arch/x86/boot.rst, Documentation/arch/arm64/booting.rst,
// drivers/firmware/efi/libstub/zboot-header.S.
#pragma once

#include <cstdint>
#include <string>

#include "arch/bytes.h"
#include "arch/result.h"

namespace guestscope {

struct KernelPayload {
  enum class Kind : std::uint8_t { kElf, kAarch64Image };
  Kind kind = Kind::kElf;
  Bytes bytes;
};

/// kInvalidArgument: no kernel file of these kinds; kCorrupt: truncated or damaged; kUnsupported:
/// compressed by something else, too large, or wrapped too often.
Result<KernelPayload> unwrap_kernel(Bytes file, const std::string& path);

}  // namespace guestscope
