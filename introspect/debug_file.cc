#include "introspect/debug_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>

#include "arch/bytes.h"
#include "introspect/elf_notes.h"
#include "introspect/elf_sections.h"
#include "introspect/limits.h"

namespace guestscope {
namespace {

namespace fs = std::filesystem;

struct DebugLink {
  std::string name;
  std::uint32_t crc = 0;
};

// A file name, padded to a multiple of 4, and a checksum.
std::optional<DebugLink> debug_link(ElfSections& sections) {
  const ElfSection* section = sections.named(".gnu_debuglink");
  if (section == nullptr || section->size > kMaxNoteBytes) return std::nullopt;
  const auto content = sections.content(*section);
  if (!content) return std::nullopt;
  const ByteReader reader(*content);
  const auto name = reader.c_string(0);
  if (!name || name->empty()) return std::nullopt;
  const auto crc = reader.number((name->size() + 4) & ~std::size_t{3}, 4);
  // A name with folders in it could point anywhere.
  if (!crc || name->find('/') != std::string_view::npos) return std::nullopt;
  return DebugLink{.name = std::string(*name), .crc = static_cast<std::uint32_t>(*crc)};
}

std::string build_id_of(ElfSections& sections) {
  for (const ElfSection& section : sections.all()) {
    if (section.type != SHT_NOTE || section.size > kMaxNoteBytes) continue;
    const auto notes = sections.content(section);
    if (!notes) continue;
    if (std::string id = find_build_id(*notes); !id.empty()) return id;
  }
  return {};
}

using CrcTable = std::array<std::array<std::uint32_t, 256>, 8>;

// CRC-32 of zlib, eight bytes at a time: 500 MB would otherwise take longer than reading them.
constexpr CrcTable make_crc_table() {
  CrcTable table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xedb88320U : 0U);
    table[0][i] = crc;
  }
  for (std::size_t step = 1; step < 8; ++step)
    for (std::size_t i = 0; i < 256; ++i)
      table[step][i] = table[step - 1][i] >> 8 ^ table[0][table[step - 1][i] & 0xff];
  return table;
}

std::uint32_t add_to_crc(std::uint32_t crc, ByteSpan bytes) {
  static constexpr CrcTable kTable = make_crc_table();
  for (; bytes.size() >= 8; bytes = bytes.subspan(8)) {
    const std::uint64_t eight = load_le(bytes.data(), 8) ^ crc;
    crc = 0;
    for (std::size_t i = 0; i < 8; ++i) crc ^= kTable[7 - i][eight >> (8 * i) & 0xff];
  }
  for (const std::byte byte : bytes)
    crc = crc >> 8 ^ kTable[0][(crc ^ std::to_integer<std::uint32_t>(byte)) & 0xff];
  return crc;
}

std::optional<std::uint32_t> crc_of(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return std::nullopt;
  std::uint32_t crc = ~0U;
  Bytes buffer(1U << 20);
  ssize_t got = 0;
  // Of an ELF file, so it is a regular one and ends.
  while ((got = ::read(fd, buffer.data(), buffer.size())) > 0 || (got < 0 && errno == EINTR))
    if (got > 0) crc = add_to_crc(crc, ByteSpan(buffer).first(static_cast<std::size_t>(got)));
  ::close(fd);
  return got < 0 ? std::nullopt : std::optional(~crc);
}

class Search {
 public:
  Search(fs::path file, std::string_view build_id) : file_(std::move(file)), build_id_(build_id) {}

  bool is_right(const fs::path& candidate, const std::optional<std::uint32_t>& crc) const {
    std::error_code error;
    if (!fs::exists(candidate, error) || fs::equivalent(candidate, file_, error)) return false;
    auto sections = ElfSections::open(candidate);
    if (!sections) return false;
    const std::string id = build_id_of(*sections);
    // Without a checksum, only the build id says that they belong together.
    if (!crc) return !id.empty() && id == build_id_;
    if (!id.empty() && !build_id_.empty() && id != build_id_) return false;
    return crc_of(candidate) == crc;
  }

 private:
  fs::path file_;
  std::string build_id_;
};

}  // namespace

std::vector<std::string> default_debug_folders() { return {"/usr/lib/debug"}; }

Result<std::optional<std::string>> find_debug_file(const std::string& path,
                                                   std::string_view build_id,
                                                   const std::vector<std::string>& folders) {
  GS_ASSIGN(ElfSections sections, ElfSections::open(path));
  std::error_code error;
  const fs::path real = fs::weakly_canonical(path, error);
  const Search search(real, build_id);
  if (build_id.size() > 2 && build_id.find('/') == std::string_view::npos)
    for (const fs::path folder : folders) {
      const fs::path candidate = folder / ".build-id" / build_id.substr(0, 2) /
                                 (std::string(build_id.substr(2)) + ".debug");
      if (search.is_right(candidate, std::nullopt)) return candidate.string();
    }
  const auto link = debug_link(sections);
  if (!link) return std::nullopt;
  const fs::path here = real.parent_path();
  std::vector<fs::path> candidates{here / link->name, here / ".debug" / link->name};
  for (const fs::path folder : folders)
    candidates.push_back(folder / here.relative_path() / link->name);
  for (const fs::path& candidate : candidates)
    if (search.is_right(candidate, link->crc)) return candidate.string();
  return std::nullopt;
}

}  // namespace guestscope
