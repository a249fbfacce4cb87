// Reading a kernel file: the half of KernelFile::open() that knows files.
//
// Threads: any. Blocks on disk I/O.
#pragma once

#include <memory>
#include <string>

#include "introspect/elf_sections.h"
#include "introspect/kernel_file.h"

namespace guestscope {

struct KernelFileParts {
  KernelFile::Parts parts;
  std::unique_ptr<ElfSections> elf;  ///< what `parts` borrows from; null: nothing
};

/// Errors: see KernelFile::open().
Result<KernelFileParts> read_kernel_file(const std::string& path, const KernelFileOptions& options);

}  // namespace guestscope
