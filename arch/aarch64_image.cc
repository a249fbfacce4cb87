// The search for a kernel image in arm64 page tables, without knowing which kernel it is.
//
// The image may be anywhere behind the linear map: KASLR moves it within the vmalloc area, where
// modules, BPF programs and everything from vmalloc() lie as well. What tells it from these is that
// its text has megabytes of executable pages, physically contiguous. How kernels map it:
// - up to 5.10 [_text, _etext), from 5.11 on [_stext, _etext) executable, then read-only data, init
//   text (executable, until it is freed) and init data, then data: map_kernel() and
//   map_kernel_segment() of arch/arm64/mm/mmu.c; since 6.9 arch/arm64/kernel/pi/map_kernel.c. Since
//   6.18, and in the stable releases of that time, [_text, _stext) is mapped again, as data.
// - before these tables are made, and up to 6.8, init_pg_dir maps all of it executable
//   (__create_page_tables, create_kernel_mapping in arch/arm64/kernel/head.S).
// - from 6.9 on there is a moment, while the image relocates itself, in which all of it is data:
// the
//   image is then not there yet.
#include <algorithm>

#include "arch/aarch64.h"
#include "arch/table_scan.h"

namespace guestscope::aarch64 {

namespace {

struct Candidate {
  KernelImage image;
  std::uint64_t text_size = 0;
};

/// The runs [from, to) meet each other, and neighbours are not alike. Nothing when no text in them
/// is large enough.
std::optional<Candidate> image_in(std::span<const MappedRun> runs) {
  const auto text = std::ranges::find_if(
      runs, [](const MappedRun& run) { return run.executable && run.size >= kMinImageTextBytes; });
  if (text == runs.end()) return std::nullopt;
  Candidate found{.image = {.text_base = text->begin,
                            .phys = text->phys,
                            .size = 0,
                            .data_base = text->begin.wrapping_add(text->size)},
                  .text_size = text->size};
  for (auto run = text; run != runs.end(); ++run) found.image.size += run->size;
  if (found.image.size == text->size) found.image.data_base = found.image.text_base;
  return found;
}

std::vector<Candidate> images_in(std::span<const MappedRun> runs) {
  std::vector<Candidate> found;
  while (!runs.empty()) {
    std::size_t end = 1;
    while (end < runs.size() && runs[end - 1].meets(runs[end])) ++end;
    if (const auto candidate = image_in(runs.first(end))) found.push_back(*candidate);
    runs = runs.subspan(end);
  }
  return found;
}

}  // namespace

GuestVirt end_of_linear_map(int va_bits, std::uint64_t page_size) {
  // VA_BITS_MIN: what a kernel for 52 bits falls back to on a processor that has fewer, and what
  // its layout is made for in any case.
  const int fallback = page_size == 16384 ? 47 : 48;
  const int bits = va_bits > 48 ? fallback : va_bits;
  return GuestVirt(~std::uint64_t{0} << (bits - 1));
}

Result<std::vector<KernelImage>> find_kernel_images(const PagingRegime& regime,
                                                    PhysMemory& memory) {
  GS_ASSIGN(const TableScan scan,
            scan_tables(regime, memory, end_of_linear_map(regime.va_bits(), regime.page_size())));
  std::vector<Candidate> candidates = images_in(scan.runs);
  if (candidates.empty() && !scan.complete)
    return fail_at(regime.root().value(), ErrorCode::kCorrupt,
                   "these page tables map too much to find a kernel image in them");
  if (candidates.empty())
    return fail_at(regime.root().value(), ErrorCode::kNotReady,
                   "these page tables map no kernel image");
  std::ranges::stable_sort(candidates, std::greater(), &Candidate::text_size);
  candidates.resize(std::min(candidates.size(), kMaxImages));
  std::vector<KernelImage> images;
  images.reserve(candidates.size());
  for (const Candidate& candidate : candidates) images.push_back(candidate.image);
  return images;
}

}  // namespace guestscope::aarch64
