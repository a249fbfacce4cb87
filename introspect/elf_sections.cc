#include "introspect/elf_sections.h"

#include <fcntl.h>
#include <gelf.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "introspect/limits.h"

namespace guestscope {
namespace {

std::string reason(int error) { return std::generic_category().message(error); }

std::string elf_reason() {
  const char* text = elf_errmsg(elf_errno());
  return text == nullptr ? "unknown" : text;
}

}  // namespace

ElfSections::File::~File() {
  if (fd_ >= 0) ::close(fd_);
}

Result<ElfSections> ElfSections::open(const std::string& path) {
  // Non-blocking: a FIFO would otherwise wait for a writer before it could be refused.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0)
    return fail(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kSystem,
                "cannot open kernel file {}: {}", path, reason(errno));
  ElfSections sections{File(fd), path};
  struct stat info{};
  if (::fstat(fd, &info) != 0)
    return fail(ErrorCode::kSystem, "cannot read kernel file {}: {}", path, reason(errno));
  if (!S_ISREG(info.st_mode))
    return fail(ErrorCode::kInvalidArgument, "kernel file {} is {}", path,
                S_ISDIR(info.st_mode) ? "a directory" : "not a regular file");
  sections.file_size_ = static_cast<std::uint64_t>(info.st_size);
  GS_CHECK(sections.check_kind());
  GS_CHECK(sections.read_headers());
  return sections;
}

Result<void> ElfSections::check_kind() {
  if (file_size_ == 0) return fail(ErrorCode::kInvalidArgument, "kernel file {} is empty", path_);
  std::array<unsigned char, EI_NIDENT> ident{};
  const ssize_t got = ::pread(file_.get(), ident.data(), ident.size(), 0);
  if (got < 0)
    return fail(ErrorCode::kSystem, "cannot read kernel file {}: {}", path_, reason(errno));
  if (got < SELFMAG || std::memcmp(ident.data(), ELFMAG, SELFMAG) != 0)
    return fail(ErrorCode::kInvalidArgument, "kernel file {} is not an ELF file", path_);
  if (static_cast<std::size_t>(got) < ident.size())
    return fail(ErrorCode::kCorrupt, "kernel file {} is truncated", path_);
  if (ident[EI_CLASS] == ELFCLASS32)
    return fail(ErrorCode::kUnsupported, "kernel file {} is a 32-bit one", path_);
  if (ident[EI_DATA] == ELFDATA2MSB)
    return fail(ErrorCode::kUnsupported, "kernel file {} is big-endian", path_);
  if (ident[EI_CLASS] != ELFCLASS64 || ident[EI_DATA] != ELFDATA2LSB)
    return fail(ErrorCode::kCorrupt, "kernel file {} has a damaged ELF header", path_);
  return {};
}

Result<void> ElfSections::read_headers() {
  const auto damaged = [this] {
    return fail(ErrorCode::kCorrupt, "kernel file {} is truncated or damaged: {}", path_,
                elf_reason());
  };
  elf_version(EV_CURRENT);
  elf_.reset(elf_begin(file_.get(), ELF_C_READ, nullptr));
  GElf_Ehdr header{};
  std::size_t count = 0;
  std::size_t names = 0;
  if (elf_ == nullptr || elf_kind(elf_.get()) != ELF_K_ELF ||
      gelf_getehdr(elf_.get(), &header) == nullptr || elf_getshdrnum(elf_.get(), &count) != 0 ||
      elf_getshdrstrndx(elf_.get(), &names) != 0)
    return damaged();
  machine_ = header.e_machine;
  // libelf then says that there are none.
  if (header.e_shoff >= file_size_)
    return fail(ErrorCode::kCorrupt,
                "kernel file {} is truncated: its section table lies beyond its end", path_);
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
  if (offset > file_size_ || size > file_size_ - offset)
    return fail(ErrorCode::kCorrupt, "kernel file {}: {} bytes at {} lie beyond its end", path_,
                size, offset);
  Bytes bytes(size);
  for (std::size_t done = 0; done < size;) {
    const ssize_t got =
        ::pread(file_.get(), &bytes[done], size - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      return fail(ErrorCode::kSystem, "cannot read kernel file {}: {}", path_, reason(errno));
    if (got == 0) return fail(ErrorCode::kCorrupt, "kernel file {} has become shorter", path_);
    done += static_cast<std::size_t>(got);
  }
  return bytes;
}

}  // namespace guestscope
