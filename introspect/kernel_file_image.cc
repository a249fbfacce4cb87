#include "introspect/kernel_file_image.h"

#include <elf.h>

#include <algorithm>
#include <array>

#include "introspect/limits.h"

namespace guestscope {

Result<LoadedImage> loaded_image(const ElfSections& elf, const std::string& path) {
  constexpr std::uint64_t kKernelHalf = 1ULL << 63;  // before 6.15, x86-64 links per-CPU data at 0
  std::uint64_t begin = UINT64_MAX;
  std::uint64_t end = 0;
  std::uint64_t content = 0;
  const auto is_image = [](const ElfSegment& segment) {
    return segment.type == PT_LOAD && segment.size != 0 && segment.address >= kKernelHalf &&
           segment.size <= UINT64_MAX - segment.address;
  };
  for (const ElfSegment& segment : elf.segments()) {
    if (!is_image(segment)) continue;
    begin = std::min(begin, segment.address);
    end = std::max(end, segment.address + segment.size);
    content += segment.size;
  }
  if (end == 0) return LoadedImage{};
  // Between segments lie .bss and what is aligned to huge pages.
  if (end - begin > kMaxKernelBytes || end - begin > 2 * content + kMaxSegmentGap)
    return fail(ErrorCode::kCorrupt, "kernel file {}: its segments spread over {} MB", path,
                (end - begin) >> 20);
  LoadedImage image{.bytes = Bytes(end - begin), .address = begin};
  for (const ElfSegment& segment : elf.segments()) {
    if (!is_image(segment)) continue;
    GS_ASSIGN(const Bytes bytes, elf.read_at(segment.offset, segment.size));
    std::ranges::copy(bytes, &image.bytes[segment.address - begin]);
  }
  return image;
}

Result<void> check_image_is_whole(ByteSpan image, const std::string& path) {
  struct PeSection {
    std::array<std::byte, 16> not_needed;
    le32 size;
    le32 offset;
    std::array<std::byte, 16> not_needed_either;
  };
  const ByteReader reader(image);
  const std::uint64_t header = reader.number(60, 4).value_or(0);
  if (reader.number(0, 2) != 0x5a4dU || reader.number(header, 4) != 0x4550U) return {};
  const std::uint64_t count = reader.number(header + 6, 2).value_or(0);
  const std::uint64_t first = header + 24 + reader.number(header + 20, 2).value_or(0);
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto section = reader.get<PeSection>(first + i * sizeof(PeSection));
    if (!section || !reader.contains(section->offset, section->size))
      return fail(ErrorCode::kCorrupt, "kernel file {} is truncated", path);
  }
  return {};
}

}  // namespace guestscope
