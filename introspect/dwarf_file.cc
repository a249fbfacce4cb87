#include "introspect/dwarf_file.h"

#include <fcntl.h>
#include <gelf.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "introspect/limits.h"

namespace guestscope {
namespace {

struct Unit {
  std::uint64_t abbreviations = 0;
};

// The headers of all units of .debug_info, or of .debug_types. libdw follows their lengths; that
// each begins behind the one before is checked here.
Result<void> read_headers(Dwarf* dwarf, bool type_units, const std::string& path,
                          std::vector<Unit>& units, std::uint64_t& bytes) {
  std::uint64_t signature = 0;
  for (Dwarf_Off at = 0;;) {
    Dwarf_Off next = 0;
    std::size_t header = 0;
    Unit unit;
    Dwarf_Off type = 0;
    const int status =
        dwarf_next_unit(dwarf, at, &next, &header, nullptr, &unit.abbreviations, nullptr, nullptr,
                        type_units ? &signature : nullptr, type_units ? &type : nullptr);
    if (status > 0) return {};
    if (status < 0 || next <= at) {
      // No .debug_types at all is an error to libdw.
      if (type_units && at == 0) return {};
      return fail(ErrorCode::kCorrupt, "kernel file {}: DWARF unit at {:#x}: {}", path, at,
                  dwarf_errmsg(-1));
    }
    units.push_back(unit);
    bytes += next - at;
    at = next;
  }
}

// Of the old way of compressing: "ZLIB", and the size as a big-endian number.
std::uint64_t old_uncompressed_size(Elf_Scn* section, const GElf_Shdr& header) {
  constexpr std::size_t kPrefix = 12;
  const Elf_Data* data = elf_rawdata(section, nullptr);
  if (data == nullptr || data->d_buf == nullptr || data->d_size < kPrefix) return header.sh_size;
  std::uint64_t size = 0;
  for (std::size_t i = 4; i < kPrefix; ++i)
    size = size << 8 | static_cast<const std::uint8_t*>(data->d_buf)[i];
  return size;
}

std::uint64_t uncompressed_size(Elf_Scn* section, const GElf_Shdr& header, std::string_view name) {
  GElf_Chdr compressed{};
  if (name.starts_with(".zdebug_")) return old_uncompressed_size(section, header);
  if ((header.sh_flags & SHF_COMPRESSED) == 0) return header.sh_size;
  return gelf_getchdr(section, &compressed) == nullptr ? header.sh_size : compressed.ch_size;
}

}  // namespace

const ElfSection* debug_info_of(const ElfSections& sections) {
  for (const char* name : {".debug_info", ".zdebug_info"}) {
    const ElfSection* section = sections.named(name);
    if (section != nullptr && section->type != SHT_NOBITS && section->size != 0) return section;
  }
  return nullptr;
}

void DwarfFile::CloseFile::operator()(const int* fd) const {
  ::close(*fd);
  delete fd;
}

Result<DwarfFile> DwarfFile::open(const std::string& path) {
  DwarfFile file;
  file.path_ = path;
  bool is_shared = false;
  {
    // Its checks: a regular 64-bit little-endian file that holds the sections it names.
    GS_ASSIGN(const ElfSections sections, ElfSections::open(path));
    if (debug_info_of(sections) == nullptr)
      return fail(ErrorCode::kUnsupported, "kernel file {} has no DWARF debug information", path);
    is_shared = sections.named(".gnu_debugaltlink") != nullptr;
    if (sections.named(".debug_sup") != nullptr)
      return fail(ErrorCode::kUnsupported,
                  "kernel file {}: its DWARF shares a supplementary file in the way of DWARF 5, "
                  "which is not read",
                  path);
  }
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0)
    return fail(ErrorCode::kSystem, "cannot open kernel file {}: {}", path,
                std::generic_category().message(errno));
  file.fd_.reset(new int(fd));
  file.elf_.reset(elf_begin(fd, ELF_C_READ, nullptr));
  if (file.elf_ == nullptr)
    return fail(ErrorCode::kCorrupt, "kernel file {}: {}", path, elf_errmsg(-1));
  GS_ASSIGN(const std::uint64_t abbreviation_bytes, file.check_sizes(file.elf_.get()));
  file.dwarf_.reset(dwarf_begin_elf(file.elf_.get(), DWARF_C_READ, nullptr));
  if (file.dwarf_ == nullptr)
    return fail(ErrorCode::kCorrupt, "kernel file {}: DWARF: {}", path, dwarf_errmsg(-1));
  GS_CHECK(file.check_strings(file.elf_.get()));
  GS_CHECK(file.check_units(file.get(), abbreviation_bytes));
  if (is_shared) GS_CHECK(file.open_shared());
  return file;
}

// Without it, many types would have no names.
Result<void> DwarfFile::open_shared() {
  shared_ = dwarf_getalt(get());
  if (shared_ == nullptr)
    return fail(ErrorCode::kUnsupported,
                "kernel file {}: the file that its .gnu_debugaltlink names, with a part of its "
                "DWARF, is not there",
                path_);
  GS_ASSIGN(const std::uint64_t abbreviation_bytes, check_sizes(dwarf_getelf(shared_)));
  GS_CHECK(check_strings(dwarf_getelf(shared_)));
  return check_units(shared_, abbreviation_bytes);
}

// libdw 0.188 checks where a string begins, and leaves it to chance where it ends.
Result<void> DwarfFile::check_strings(Elf* elf) const {
  std::size_t names = 0;
  if (elf_getshdrstrndx(elf, &names) != 0) return {};
  for (Elf_Scn* section = nullptr; (section = elf_nextscn(elf, section)) != nullptr;) {
    GElf_Shdr header{};
    if (gelf_getshdr(section, &header) == nullptr || header.sh_type == SHT_NOBITS) continue;
    const char* found = elf_strptr(elf, names, header.sh_name);
    const std::string_view name = found == nullptr ? "" : found;
    if (!name.ends_with("debug_str") && !name.ends_with("debug_line_str")) continue;
    // What libdw has read and, if need be, uncompressed.
    const Elf_Data* data = elf_rawdata(section, nullptr);
    if (data == nullptr || data->d_buf == nullptr || data->d_size == 0) continue;
    if (static_cast<const char*>(data->d_buf)[data->d_size - 1] != '\0')
      return fail(ErrorCode::kCorrupt, "kernel file {}: section {} is not terminated", path_, name);
  }
  return {};
}

Result<std::uint64_t> DwarfFile::check_sizes(Elf* elf) const {
  std::size_t names = 0;
  std::uint64_t abbreviation_bytes = 0;
  if (elf_getshdrstrndx(elf, &names) != 0)
    return fail(ErrorCode::kCorrupt, "kernel file {}: {}", path_, elf_errmsg(-1));
  std::uint64_t total = 0;
  for (Elf_Scn* section = nullptr; (section = elf_nextscn(elf, section)) != nullptr;) {
    GElf_Shdr header{};
    if (gelf_getshdr(section, &header) == nullptr || header.sh_type == SHT_NOBITS) continue;
    const char* found = elf_strptr(elf, names, header.sh_name);
    const std::string_view name = found == nullptr ? "" : found;
    if (!name.starts_with(".debug_") && !name.starts_with(".zdebug_")) continue;
    const std::uint64_t size = uncompressed_size(section, header, name);
    total += std::min(size, kMaxDebugBytes + 1);
    if (total > kMaxDebugBytes)
      return fail(ErrorCode::kCorrupt, "kernel file {}: more than {} bytes of debug information",
                  path_, kMaxDebugBytes);
    if (name.ends_with("debug_abbrev")) abbreviation_bytes = std::max(abbreviation_bytes, size);
  }
  return abbreviation_bytes;
}

namespace {

// The cost of an entry is that of its abbreviation's attributes, and some of them take no bytes in
// it: without a limit, a megabyte of entries could name 10^11 of them.
Result<void> check_abbreviations(Dwarf_Die& unit, const std::string& path) {
  for (Dwarf_Off at = 0;;) {
    std::size_t length = 0;
    Dwarf_Abbrev* const each = dwarf_getabbrev(&unit, at, &length);
    if (each == DWARF_END_ABBREV) return {};
    std::size_t attributes = 0;
    if (each == nullptr || length == 0 || dwarf_getattrcnt(each, &attributes) != 0)
      return fail(ErrorCode::kCorrupt, "kernel file {}: DWARF abbreviations: {}", path,
                  dwarf_errmsg(-1));
    if (attributes > kMaxDieAttributes)
      return fail(ErrorCode::kCorrupt, "kernel file {}: DWARF: entries of {} attributes", path,
                  attributes);
    at += length;
  }
}

}  // namespace

// libdw parses a unit's abbreviation table when it is first needed, and keeps one for each unit.
// Units that share a table are legal, and a file in which thousands share a huge one would cost
// gigabytes; so what they come to is added up first.
Result<void> DwarfFile::check_units(Dwarf* dwarf, std::uint64_t abbreviation_bytes) {
  std::vector<Unit> units;
  GS_CHECK(read_headers(dwarf, false, path_, units, unit_bytes_));
  GS_CHECK(read_headers(dwarf, true, path_, units, unit_bytes_));
  std::vector<std::uint64_t> tables;
  tables.reserve(units.size());
  for (const Unit& unit : units) tables.push_back(unit.abbreviations);
  std::ranges::sort(tables);
  std::uint64_t cost = 0;
  std::uint64_t end = abbreviation_bytes;
  for (std::size_t i = tables.size(); i-- > 0;) {
    if (i + 1 < tables.size() && tables[i + 1] != tables[i]) end = tables[i + 1];
    if (tables[i] < end) cost += end - tables[i];
  }
  if (cost > kMaxAbbreviationBytes + kMaxAbbreviationReuse * abbreviation_bytes)
    return fail(ErrorCode::kCorrupt, "kernel file {}: {} DWARF units share too large tables", path_,
                tables.size());
  Dwarf_CU* unit = nullptr;
  Dwarf_Die top{};
  int status = 0;
  while ((status = dwarf_get_units(dwarf, unit, &unit, nullptr, nullptr, &top, nullptr)) == 0)
    if (top.cu != nullptr) GS_CHECK(check_abbreviations(top, path_));
  if (status > 0) return {};
  return fail(ErrorCode::kCorrupt, "kernel file {}: DWARF: {}", path_, dwarf_errmsg(-1));
}

}  // namespace guestscope
