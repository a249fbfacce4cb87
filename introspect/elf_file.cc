#include "introspect/elf_file.h"

#include <elf.h>

#include <algorithm>
#include <utility>

#include "introspect/elf_notes.h"
#include "introspect/elf_sections.h"
#include "introspect/limits.h"

namespace guestscope {

struct KernelFile::Parts {
  Parts(std::string file, ElfSections elf) : path(std::move(file)), sections(std::move(elf)) {}

  std::string path;
  ElfSections sections;
  SymbolTable symbols;
  Btf btf;
  std::string build_id;
  std::string release;
};

namespace {

Machine machine_of(std::uint16_t machine) {
  if (machine == EM_X86_64) return Machine::kX86_64;
  return machine == EM_AARCH64 ? Machine::kAarch64 : Machine::kOther;
}

Result<SymbolTable> read_symbols(ElfSections& sections, const std::string& path) {
  const ElfSection* table = sections.of_type(SHT_SYMTAB);
  if (table == nullptr || table->size == 0)
    return fail(ErrorCode::kUnsupported,
                "kernel file {} is stripped: it has no symbols; pass the vmlinux of the kernel's "
                "-dbg (debuginfo) package, or of its build",
                path);
  if (table->link >= sections.all().size())
    return fail(ErrorCode::kCorrupt, "kernel file {}: its symbols have no names", path);
  GS_ASSIGN(const ByteSpan symtab, sections.content(*table));
  GS_ASSIGN(const ByteSpan strtab, sections.content(sections.all()[table->link]));
  std::vector<std::string_view> names;
  for (const ElfSection& section : sections.all()) names.push_back(section.name);
  return SymbolTable::parse(symtab, strtab, std::move(names), path);
}

Result<Btf> read_btf(ElfSections& sections, const std::string& path) {
  const ElfSection* section = sections.named(".BTF");
  if (section == nullptr || section->type == SHT_NOBITS || section->size == 0)
    return fail(ErrorCode::kUnsupported,
                "kernel file {} has no BTF: the kernel must be built with CONFIG_DEBUG_INFO_BTF=y",
                path);
  GS_ASSIGN(const ByteSpan bytes, sections.content(*section));
  return Btf::parse(bytes, path);
}

std::string read_build_id(ElfSections& sections) {
  for (const ElfSection& section : sections.all()) {
    if (section.type != SHT_NOTE || section.size > kMaxNoteBytes) continue;
    const auto notes = sections.content(section);
    if (!notes) continue;
    if (std::string id = find_build_id(*notes); !id.empty()) return id;
  }
  return {};
}

// "Linux version 6.1.0-56-cloud-amd64 (debian-kernel@…" -> the third word.
std::string release_in(std::string_view banner) {
  constexpr std::string_view kPrefix = "Linux version ";
  if (!banner.starts_with(kPrefix)) return {};
  banner.remove_prefix(kPrefix.size());
  return std::string(banner.substr(0, banner.find_first_of(" \n")));
}

}  // namespace

KernelFile::KernelFile(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
KernelFile::~KernelFile() = default;

Result<std::shared_ptr<const KernelFile>> KernelFile::open(const std::string& path) {
  GS_ASSIGN(ElfSections sections, ElfSections::open(path));
  auto parts = std::make_unique<Parts>(path, std::move(sections));
  GS_ASSIGN(parts->symbols, read_symbols(parts->sections, path));
  GS_ASSIGN(parts->btf, read_btf(parts->sections, path));
  parts->build_id = read_build_id(parts->sections);
  std::shared_ptr<KernelFile> file(new KernelFile(std::move(parts)));
  if (const auto banner = file->symbols().find("linux_banner")) {
    const auto text = file->bytes_at(banner->value, std::min(banner->size, kMaxBannerBytes));
    if (text) file->parts_->release = release_in(text_in(*text));
  }
  return file;
}

const std::string& KernelFile::path() const { return parts_->path; }
Machine KernelFile::machine() const { return machine_of(parts_->sections.machine()); }
const SymbolTable& KernelFile::symbols() const { return parts_->symbols; }
const Btf& KernelFile::btf() const { return parts_->btf; }
const std::string& KernelFile::build_id() const { return parts_->build_id; }
const std::string& KernelFile::release() const { return parts_->release; }

Result<Bytes> KernelFile::bytes_at(std::uint64_t link_address, std::size_t n) const {
  for (const ElfSection& section : parts_->sections.all()) {
    if ((section.flags & SHF_ALLOC) == 0 || link_address < section.address) continue;
    const std::uint64_t into = link_address - section.address;
    if (into >= section.size || n > section.size - into) continue;
    if (section.type == SHT_NOBITS)
      return fail_at(link_address, ErrorCode::kUnsupported, "kernel file {}: section {} is empty",
                     parts_->path, section.name);
    return parts_->sections.read_at(section.offset + into, n);
  }
  return fail_at(link_address, ErrorCode::kNotFound, "kernel file {}: no section holds {} bytes",
                 parts_->path, n);
}

}  // namespace guestscope
