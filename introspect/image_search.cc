#include "introspect/image_search.h"

#include <elf.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <utility>
#include <vector>

#include "introspect/elf_notes.h"
#include "introspect/limits.h"

namespace guestscope {
namespace {

constexpr std::string_view kBtfStart("\x9f\xeb\x01\0", 4);  // magic, version, no flags
constexpr std::string_view kBanner = "Linux version ";
// Name size and type of a note that holds a build id, and its name. The size of the id is between.
constexpr std::string_view kNoteName("\x03\0\0\0GNU\0", 8);
constexpr std::size_t kBeforeNoteName = 8;
constexpr std::string_view kElfStart(
    "\x7f"
    "ELF",
    4);

// Calls `visit(offset)` for every place of `what`, until it returns false.
template <typename Visit>
void for_each_place(ByteSpan image, std::string_view what, Visit visit) {
  for (std::size_t from = 0; from < image.size();) {
    const void* found = ::memmem(&image[from], image.size() - from, what.data(), what.size());
    if (found == nullptr) return;
    const auto at = static_cast<std::size_t>(static_cast<const std::byte*>(found) - image.data());
    if (!visit(at)) return;
    from = at + 1;
  }
}

// Size of the BTF whose header is at `at`; 0 when it is none.
std::size_t btf_size(ByteSpan image, std::size_t at) {
  struct Header {
    std::array<std::byte, 4> start;
    le32 header_size, types_offset, types_size, strings_offset, strings_size;
  };
  const auto header = ByteReader(image).get<Header>(at);
  if (!header || header->header_size < sizeof(Header) || header->types_size == 0) return 0;
  const std::uint64_t types = std::uint64_t{header->types_offset} + header->types_size;
  const std::uint64_t strings = std::uint64_t{header->strings_offset} + header->strings_size;
  const std::uint64_t size = header->header_size + std::max(types, strings);
  return size <= std::min(image.size() - at, kMaxBtfBytes) ? size : 0;
}

// The end of the ELF file that begins at `at`, by its section table, which is its last part.
std::size_t elf_end_at(ByteSpan image, std::size_t at) {
  const ByteReader reader(image);
  const auto wide = reader.number(at + EI_CLASS, 1);
  if (!wide || (*wide != ELFCLASS32 && *wide != ELFCLASS64)) return at;
  const bool is_64 = *wide == ELFCLASS64;
  const auto sections = reader.number(
      at + (is_64 ? offsetof(Elf64_Ehdr, e_shoff) : offsetof(Elf32_Ehdr, e_shoff)), is_64 ? 8 : 4);
  if (!sections || *sections > image.size() - at) return at;
  return at + *sections;
}

}  // namespace

std::optional<Btf> find_types_in_image(ByteSpan image, const std::string& name) {
  struct Candidate {
    std::size_t size, at;
  };
  std::vector<Candidate> candidates;
  const auto larger = [](const Candidate& a, const Candidate& b) { return a.size > b.size; };
  for_each_place(image, kBtfStart, [&](std::size_t at) {
    if (const std::size_t size = btf_size(image, at); size != 0) candidates.push_back({size, at});
    if (candidates.size() > 2 * kMaxBtfCandidates) {
      std::ranges::sort(candidates, larger);
      candidates.resize(kMaxBtfCandidates);
    }
    return true;
  });
  std::ranges::sort(candidates, larger);
  if (candidates.size() > kMaxBtfCandidates) candidates.resize(kMaxBtfCandidates);
  // Pieces of an image do not overlap; what is made to is not parsed over and over.
  std::size_t left = kMaxBtfOverlap * image.size();
  for (const Candidate& candidate : candidates) {
    if (candidate.size > left) continue;
    left -= candidate.size;
    const ByteSpan bytes = image.subspan(candidate.at, candidate.size);
    // Borrowed at first: most of what looks like BTF is none, and need not be copied.
    const auto tried = Btf::parse(bytes, name);
    if (!tried || !tried->find(BtfKind::kStruct, "task_struct")) continue;
    if (auto types = Btf::parse(Bytes(bytes.begin(), bytes.end()), name)) return std::move(*types);
  }
  return std::nullopt;
}

std::optional<BuildIdNote> find_build_id_note(ByteSpan image) {
  std::vector<std::pair<std::size_t, std::size_t>> inner;  // ELF files: where they begin and end
  for_each_place(image, kElfStart, [&](std::size_t at) {
    if (const std::size_t end = elf_end_at(image, at); end > at) inner.emplace_back(at, end);
    return inner.size() < kMaxInnerElfFiles;
  });
  std::optional<BuildIdNote> found;
  bool ambiguous = false;
  for_each_place(image, kNoteName, [&](std::size_t name_at) {
    if (name_at < kBeforeNoteName) return true;
    const std::size_t at = name_at - kBeforeNoteName;
    const auto covers = [at](const auto& file) { return file.first < at && at < file.second; };
    if (std::ranges::any_of(inner, covers)) return true;
    const ByteSpan note = image.subspan(at, std::min(image.size() - at, kMaxBuildIdNoteBytes));
    const std::string id = find_build_id(note);
    ambiguous = found && !id.empty() && id != found->build_id;
    if (!id.empty() && !found)
      found = {
          .at = at, .size = kBeforeNoteName + kNoteName.size() + id.size() / 2, .build_id = id};
    return !ambiguous;
  });
  return ambiguous ? std::nullopt : found;
}

std::string find_build_id_in_image(ByteSpan image) {
  const auto note = find_build_id_note(image);
  return note ? note->build_id : std::string();
}

std::string release_in(std::string_view banner) {
  if (!banner.starts_with(kBanner)) return {};
  banner.remove_prefix(kBanner.size());
  return std::string(banner.substr(0, banner.find_first_of(" \n")));
}

std::optional<Banner> find_banner(ByteSpan image) {
  std::optional<Banner> found;
  for_each_place(image, kBanner, [&](std::size_t at) {
    const ByteSpan rest = image.subspan(at, std::min(image.size() - at, kMaxBannerBytes));
    const std::string_view banner = text_in(rest);
    const bool number = banner.size() > kBanner.size() && banner[kBanner.size()] >= '0' &&
                        banner[kBanner.size()] <= '9';
    if (number) found = {.at = at, .release = release_in(banner)};
    return !number;
  });
  return found;
}

}  // namespace guestscope
