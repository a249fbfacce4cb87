#include "introspect/kernel_file.h"

#include <utility>

#include "introspect/elf_sections.h"
#include "introspect/kernel_file_parts.h"

namespace guestscope {

KernelFile::KernelFile(Parts parts, std::unique_ptr<ElfSections> elf)
    : parts_(std::move(parts)), elf_(std::move(elf)) {}
KernelFile::~KernelFile() = default;

Result<std::shared_ptr<const KernelFile>> KernelFile::open(const std::string& path,
                                                           const KernelFileOptions& options) {
  GS_ASSIGN(KernelFileParts read, read_kernel_file(path, options));
  std::shared_ptr<KernelFile> file(new KernelFile(std::move(read.parts), std::move(read.elf)));
  file->is_file_ = true;
  return file;
}

std::shared_ptr<const KernelFile> KernelFile::assemble(Parts parts) {
  return std::shared_ptr<const KernelFile>(new KernelFile(std::move(parts), nullptr));
}

std::shared_ptr<const KernelFile> KernelFile::complete(std::shared_ptr<const KernelFile> file,
                                                       Parts found) {
  if (!file) return assemble(std::move(found));
  const Parts& own = file->parts_;
  const bool lends_symbols = !own.missing_symbols;
  const bool lends_types = !own.missing_types;
  found.origin = own.origin;
  found.machine = own.machine;
  if (!own.build_id.empty()) found.build_id = own.build_id;
  if (!own.release.empty()) found.release = own.release;
  if (lends_symbols) {
    found.symbols = {};
    found.symbols_from = own.symbols_from;
    found.has_link_addresses = own.has_link_addresses;
    found.missing_symbols.reset();
  }
  if (lends_types) {
    found.types = {};
    found.types_from = own.types_from;
    found.missing_types.reset();
  }
  std::shared_ptr<KernelFile> whole(new KernelFile(std::move(found), nullptr));
  whole->lends_symbols_ = lends_symbols;
  whole->lends_types_ = lends_types;
  whole->is_file_ = file->is_file_;
  whole->file_ = std::move(file);
  return whole;
}

Result<Bytes> KernelFile::bytes_at(std::uint64_t link_address, std::size_t n) const {
  if (!elf_)
    return fail_at(link_address, ErrorCode::kUnsupported, "kernel file {}: its content is not kept",
                   path());
  return elf_->bytes_at(link_address, n);
}

}  // namespace guestscope
