#include "introspect/elf_sections.h"

#include <gelf.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "introspect/limits.h"

namespace guestscope {
namespace {

std::string elf_reason() {
  const char* text = elf_errmsg(elf_errno());
  return text == nullptr ? "unknown" : text;
}

}  // namespace

Result<ElfSections> ElfSections::open(const std::string& path) {
  GS_ASSIGN(InputFile file, InputFile::open(path));
  return open(std::move(file));
}

Result<ElfSections> ElfSections::open(InputFile file) {
  const std::string path = file.path();
  const std::uint64_t size = file.size();
  ElfSections sections(std::move(file), {}, path);
  sections.file_size_ = size;
  GS_CHECK(sections.read());
  return sections;
}

Result<ElfSections> ElfSections::parse(Bytes file, const std::string& path) {
  ElfSections sections(std::nullopt, std::move(file), path);
  sections.file_size_ = sections.memory_.size();
  GS_CHECK(sections.read());
  return sections;
}

Result<void> ElfSections::read() {
  GS_CHECK(check_kind());
  GS_CHECK(read_headers());
  GS_CHECK(read_segments());
  return read_sections();
}

Result<void> ElfSections::check_kind() {
  GS_ASSIGN(const Bytes start, read_at(0, std::min<std::size_t>(file_size_, EI_NIDENT)));
  std::array<unsigned char, EI_NIDENT> ident{};
  std::memcpy(ident.data(), start.data(), start.size());
  const std::size_t got = start.size();
  if (got < SELFMAG || std::memcmp(ident.data(), ELFMAG, SELFMAG) != 0)
    return fail(ErrorCode::kInvalidArgument, "kernel file {} is not an ELF file", path_);
  if (got < ident.size()) return fail(ErrorCode::kCorrupt, "kernel file {} is truncated", path_);
  if (ident[EI_CLASS] == ELFCLASS32)
    return fail(ErrorCode::kUnsupported, "kernel file {} is a 32-bit one", path_);
  if (ident[EI_DATA] == ELFDATA2MSB)
    return fail(ErrorCode::kUnsupported, "kernel file {} is big-endian", path_);
  if (ident[EI_CLASS] != ELFCLASS64 || ident[EI_DATA] != ELFDATA2LSB)
    return fail(ErrorCode::kCorrupt, "kernel file {} has a damaged ELF header", path_);
  return {};
}

std::unexpected<Error> ElfSections::damaged() const {
  return fail(ErrorCode::kCorrupt, "kernel file {} is truncated or damaged: {}", path_,
              elf_reason());
}

Result<void> ElfSections::read_headers() {
  elf_version(EV_CURRENT);
  // libelf does not write to what it is given, but cannot say so.
  elf_.reset(file_ ? elf_begin(file_->descriptor(), ELF_C_READ, nullptr)
                   : elf_memory(reinterpret_cast<char*>(memory_.data()), memory_.size()));
  GElf_Ehdr header{};
  if (elf_ == nullptr || elf_kind(elf_.get()) != ELF_K_ELF ||
      gelf_getehdr(elf_.get(), &header) == nullptr)
    return damaged();
  machine_ = header.e_machine;
  type_ = header.e_type;
  // libelf then says that there are none.
  if (header.e_shoff >= file_size_)
    return fail(ErrorCode::kCorrupt,
                "kernel file {} is truncated: its section table lies beyond its end", path_);
  return {};
}

Result<void> ElfSections::read_segments() {
  std::size_t count = 0;
  if (elf_getphdrnum(elf_.get(), &count) != 0) return damaged();
  if (count > kMaxElfSegments)
    return fail(ErrorCode::kCorrupt, "kernel file {} has {} segments", path_, count);
  for (std::size_t i = 0; i < count; ++i) {
    GElf_Phdr segment{};
    if (gelf_getphdr(elf_.get(), static_cast<int>(i), &segment) == nullptr) return damaged();
    if (segment.p_offset > file_size_ || segment.p_filesz > file_size_ - segment.p_offset)
      return fail(ErrorCode::kCorrupt,
                  "kernel file {} is truncated: segment {} lies beyond its end", path_, i);
    segments_.push_back({.type = segment.p_type,
                         .address = segment.p_vaddr,
                         .offset = segment.p_offset,
                         .size = segment.p_filesz});
  }
  return {};
}

Result<void> ElfSections::read_sections() {
  std::size_t count = 0;
  std::size_t names = 0;
  if (elf_getshdrnum(elf_.get(), &count) != 0) return damaged();
  if (count == 0) return {};
  if (elf_getshdrstrndx(elf_.get(), &names) != 0) return damaged();
  if (count > kMaxElfSections)
    return fail(ErrorCode::kCorrupt, "kernel file {} has {} sections", path_, count);
  sections_.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    GElf_Shdr section{};
    Elf_Scn* handle = elf_getscn(elf_.get(), i);
    if (handle == nullptr || gelf_getshdr(handle, &section) == nullptr) return damaged();
    const bool in_file = section.sh_type != SHT_NOBITS && section.sh_type != SHT_NULL;
    if (in_file &&
        (section.sh_offset > file_size_ || section.sh_size > file_size_ - section.sh_offset))
      return fail(ErrorCode::kCorrupt,
                  "kernel file {} is truncated: section {} lies beyond its end", path_, i);
    const char* name = elf_strptr(elf_.get(), names, section.sh_name);
    sections_.push_back({.name = name == nullptr ? "" : name,
                         .type = section.sh_type,
                         .link = section.sh_link,
                         .flags = section.sh_flags,
                         .address = section.sh_addr,
                         .offset = section.sh_offset,
                         .size = section.sh_size});
  }
  return {};
}

const ElfSection* ElfSections::named(std::string_view name) const {
  for (const ElfSection& section : sections_)
    if (section.name == name) return &section;
  return nullptr;
}

const ElfSection* ElfSections::of_type(std::uint32_t type) const {
  for (const ElfSection& section : sections_)
    if (section.type == type) return &section;
  return nullptr;
}

Result<ByteSpan> ElfSections::content(const ElfSection& section) {
  if (section.type == SHT_NOBITS || section.type == SHT_NULL)
    return fail(ErrorCode::kUnsupported, "kernel file {}: section {} has no content", path_,
                section.name);
  if ((section.flags & SHF_COMPRESSED) != 0)
    return fail(ErrorCode::kUnsupported, "kernel file {}: section {} is compressed", path_,
                section.name);
  if (section.size == 0) return ByteSpan{};
  Elf_Scn* handle = elf_getscn(elf_.get(), static_cast<std::size_t>(&section - sections_.data()));
  const Elf_Data* data = handle == nullptr ? nullptr : elf_rawdata(handle, nullptr);
  if (data == nullptr || data->d_buf == nullptr)
    return fail(ErrorCode::kCorrupt, "kernel file {}: section {} cannot be read: {}", path_,
                section.name, elf_reason());
  return ByteSpan(static_cast<const std::byte*>(data->d_buf), data->d_size);
}

Result<Bytes> ElfSections::read_at(std::uint64_t offset, std::size_t size) const {
  if (file_) return file_->read_at(offset, size);
  if (offset > file_size_ || size > file_size_ - offset)
    return fail(ErrorCode::kCorrupt, "kernel file {}: {} bytes at {} lie beyond its end", path_,
                size, offset);
  const ByteSpan bytes = ByteSpan(memory_).subspan(offset, size);
  return Bytes(bytes.begin(), bytes.end());
}

Result<Bytes> ElfSections::bytes_at(std::uint64_t link_address, std::size_t n) const {
  for (const ElfSection& section : sections_) {
    if ((section.flags & SHF_ALLOC) == 0 || link_address < section.address) continue;
    const std::uint64_t into = link_address - section.address;
    if (into >= section.size || n > section.size - into) continue;
    if (section.type == SHT_NOBITS)
      return fail_at(link_address, ErrorCode::kUnsupported, "kernel file {}: section {} is empty",
                     path_, section.name);
    return read_at(section.offset + into, n);
  }
  return fail_at(link_address, ErrorCode::kNotFound, "kernel file {}: no section holds {} bytes",
                 path_, n);
}

}  // namespace guestscope
