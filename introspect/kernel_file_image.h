// The program in a kernel file as it will lie in memory, for what is searched there: files without
// symbols.
//
// Threads: any. Blocks on disk I/O. Errors: kCorrupt for a file that is damaged.
// Source of truth: the ELF gABI (program headers); for arm64's Image, the PE format.
#pragma once

#include <string>

#include "introspect/elf_sections.h"

namespace guestscope {

/// Bytes of an image, and the address of the first; 0: not told, addresses are offsets.
struct LoadedImage {
  Bytes bytes;
  std::uint64_t address = 0;
};

/// What is loaded, in one piece. Nothing: no program of a kernel's sort. `path` is for errors.
Result<LoadedImage> loaded_image(const ElfSections& elf, const std::string& path);

/// An Image that can be booted by EFI is a PE file, whose sections tell its size.
Result<void> check_image_is_whole(ByteSpan image, const std::string& path);

}  // namespace guestscope
