#include "introspect/kernel_proof.h"

#include <algorithm>

#include "arch/aarch64.h"
#include "arch/x86_64.h"

namespace guestscope {

namespace {

// The direct map's greatest size (mm.rst), for kernels without vmalloc_base: 64 TB, or 32 PB with
// five levels.
constexpr std::uint64_t kDirectMapMax4 = std::uint64_t{64} << 40;
constexpr std::uint64_t kDirectMapMax5 = std::uint64_t{32} << 50;

// CONFIG_ARM64_VA_BITS as kernels can be built; the largest first. The processor may translate
// fewer bits (a kernel for 52 bits on a processor with 48), so the registers do not tell.
constexpr int kArm64VaBits[] = {52, 48, 47, 42, 39, 36};

Result<void> require_started(const FoundImage& image, const KernelMarks& marks) {
  if (marks.started()) return {};
  return fail_at(image.text.value(), ErrorCode::kNotReady,
                 "the kernel is in its first steps (start_kernel)");
}

std::string what_is_there(const Translation& translation) {
  const Hole* hole = std::get_if<Hole>(&translation);
  return hole != nullptr ? describe(*hole) : "maps another page";
}

bool maps_to(const Translation& translation, GuestPhys phys) {
  const Mapping* mapping = std::get_if<Mapping>(&translation);
  return mapping != nullptr && mapping->phys == phys;
}

}  // namespace

Result<DirectMap> prove_x86_64(PhysMemory& memory, const PagingRegime& regime,
                               const FoundImage& image, const KernelMarks& marks) {
  const std::uint64_t offset_in_area = image.text.value() - x86_64::kImageAreaBegin.value();
  if (*marks.phys_base + offset_in_area != image.text_phys.value())
    return fail_at(image.text.value(), ErrorCode::kNotReady,
                   "phys_base is {:#x}, but the image lies at physical {:#x}", *marks.phys_base,
                   image.text_phys.value());
  GS_CHECK(require_started(image, marks));
  const bool five = regime.levels().size() == 5;
  const GuestVirt page_offset =
      marks.page_offset ? GuestVirt(*marks.page_offset)
                        : (five ? x86_64::kStaticPageOffset5 : x86_64::kStaticPageOffset4);

  PageWalker walker(regime, memory);
  const GuestVirt alias = page_offset.wrapping_add(image.text_phys.value());
  GS_ASSIGN(const Translation translation, walker.translate(alias));
  if (!maps_to(translation, image.text_phys))
    return fail_at(alias.value(), ErrorCode::kNotReady,
                   "the direct map does not reach the kernel image yet: {}",
                   what_is_there(translation));

  std::uint64_t size = five ? kDirectMapMax5 : kDirectMapMax4;
  if (marks.vmalloc_begin && *marks.vmalloc_begin > page_offset.value())
    size = std::min(size, *marks.vmalloc_begin - page_offset.value());
  return DirectMap{.page_offset = page_offset,
                   .range = {.begin = page_offset, .size = size, .phys = GuestPhys(0)},
                   .phys_base = *marks.phys_base};
}

// The linear map of arm64 (arch/arm64/include/asm/memory.h): virtual = physical - memstart_addr +
// PAGE_OFFSET, PAGE_OFFSET = -(1 << VA_BITS). VA_BITS is the kernel's configuration: the one whose
// alias of the image is really there is the right one.
Result<DirectMap> prove_aarch64(PhysMemory& memory, const PagingRegime& regime,
                                const FoundImage& image, const KernelMarks& marks) {
  constexpr std::uint64_t kUnset = ~std::uint64_t{0};  // as memstart_addr is linked
  const std::uint64_t voffset = image.text.value() - image.text_phys.value();
  if (marks.image_voffset && *marks.image_voffset != voffset)
    return fail_at(image.text.value(), ErrorCode::kNotReady,
                   "kimage_voffset is {:#x}, but the image lies at physical {:#x}",
                   *marks.image_voffset, image.text_phys.value());
  GS_CHECK(require_started(image, marks));
  if (*marks.memstart == kUnset)
    return fail_at(image.text.value(), ErrorCode::kNotReady, "memstart_addr is not set yet");

  std::vector<GuestVirt> aliases;
  std::vector<GuestVirt> page_offsets;
  for (const int bits : kArm64VaBits) {
    const GuestVirt page_offset(std::uint64_t{0} - (std::uint64_t{1} << bits));
    page_offsets.push_back(page_offset);
    aliases.push_back(page_offset.wrapping_add(image.mapped.phys.value() - *marks.memstart));
  }
  PageWalker walker(regime, memory);
  const auto translations = walker.translate(aliases);
  for (std::size_t i = 0; i < aliases.size(); ++i) {
    if (!translations[i]) return std::unexpected(translations[i].error());
    if (!maps_to(*translations[i], image.mapped.phys)) continue;
    const int bits = regime.va_bits();
    const GuestVirt begin(std::uint64_t{0} - (std::uint64_t{1} << bits));
    const GuestVirt end = aarch64::end_of_linear_map(bits, regime.page_size());
    const std::uint64_t phys = begin.value() - page_offsets[i].value() + *marks.memstart;
    return DirectMap{
        .page_offset = page_offsets[i],
        .range = {.begin = begin, .size = end.value() - begin.value(), .phys = GuestPhys(phys)},
        .phys_base = *marks.memstart};
  }
  return fail_at(image.mapped.phys.value(), ErrorCode::kNotReady,
                 "the linear map does not reach the kernel image yet (memstart_addr {:#x})",
                 *marks.memstart);
}

}  // namespace guestscope
