#include "introspect/kernel_location.h"

#include <algorithm>

#include "introspect/elf_notes.h"
#include "introspect/limits.h"

namespace guestscope {

void PagingRegisterCell::store(const PagingRegisters& registers) {
  version_.fetch_add(1, std::memory_order_acq_rel);
  cr0_.store(registers.cr0, std::memory_order_release);
  cr3_.store(registers.cr3, std::memory_order_release);
  cr4_.store(registers.cr4, std::memory_order_release);
  efer_.store(registers.efer, std::memory_order_release);
  version_.fetch_add(1, std::memory_order_release);
}

PagingRegisters PagingRegisterCell::load() const {
  while (true) {
    const std::uint64_t before = version_.load(std::memory_order_acquire);
    const PagingRegisters registers{.cr0 = cr0_.load(std::memory_order_acquire),
                                    .cr3 = cr3_.load(std::memory_order_acquire),
                                    .cr4 = cr4_.load(std::memory_order_acquire),
                                    .efer = efer_.load(std::memory_order_acquire)};
    if (before % 2 == 0 && version_.load(std::memory_order_acquire) == before) return registers;
  }
}

bool KernelLocation::same_boot(const KernelLocation& other) const {
  return text_base == other.text_base && phys_base == other.phys_base &&
         page_offset == other.page_offset && root == other.root && canary == other.canary;
}

namespace {

// The direct map's greatest size (mm.rst), for kernels without vmalloc_base: 64 TB, or 32 PB with
// five levels.
constexpr std::uint64_t kDirectMapMax4 = std::uint64_t{64} << 40;
constexpr std::uint64_t kDirectMapMax5 = std::uint64_t{32} << 50;
constexpr std::string_view kBannerStart = "Linux version ";

/// "6.1.0-56-cloud-amd64" from "Linux version 6.1.0-56-cloud-amd64 (…"; empty when it is no banner.
std::string release_in(std::string_view banner) {
  if (!banner.starts_with(kBannerStart)) return {};
  banner.remove_prefix(kBannerStart.size());
  const std::size_t end = banner.find(" (");
  return end == std::string_view::npos ? std::string() : std::string(banner.substr(0, end));
}

/// What the marks in a mapped image say; not yet believed.
struct Marks {
  std::string build_id;
  std::string release;
  std::uint64_t phys_base = 0;
  std::optional<std::uint64_t> page_offset;
  std::optional<std::uint64_t> vmalloc_begin;
  std::optional<std::uint64_t> canary;
  std::optional<std::uint64_t> system_state;

  /// start_kernel() is past setup_arch(): page_offset_base will not change any more.
  bool started() const { return canary ? *canary != 0 : system_state.value_or(1) != 0; }
};

Result<Marks> read_marks(KernelMemory& memory, const BootModel& boot, std::uint64_t slide) {
  const auto at = [&](std::uint64_t link) { return GuestVirt(link + slide); };
  ReadBatch batch;
  const std::size_t notes =
      batch.add(at(boot.notes_begin),
                std::min<std::size_t>(boot.notes_end - boot.notes_begin, kMaxNoteBytes));
  const std::size_t banner = batch.add(at(boot.banner), kMaxBannerBytes);
  const std::size_t phys_base = batch.add(at(boot.phys_base), 8);
  const auto add = [&](const std::optional<std::uint64_t>& link, std::size_t size = 8) {
    return link ? std::optional(batch.add(at(*link), size)) : std::nullopt;
  };
  const auto page_offset = add(boot.page_offset);
  const auto vmalloc_begin = add(boot.vmalloc_begin);
  const auto canary = add(boot.boot_canary);
  const auto system_state = add(boot.system_state, 4);
  batch.read(memory);
  for (std::size_t i = 0; i < batch.size(); ++i) GS_CHECK(batch[i]);

  const auto number = [&](std::optional<std::size_t> index) {
    if (!index) return std::optional<std::uint64_t>();
    const ByteSpan bytes = *batch[*index];
    return std::optional(load_le(bytes.data(), bytes.size()));
  };
  return Marks{.build_id = find_build_id(*batch[notes]),
               .release = release_in(text_in(*batch[banner])),
               .phys_base = *number(phys_base),
               .page_offset = number(page_offset),
               .vmalloc_begin = number(vmalloc_begin),
               .canary = number(canary),
               .system_state = number(system_state)};
}

/// The release that another kernel's banner names; empty when none is found. Only a kernel that has
/// booted makes its data non-executable, so a half-booted one is not searched again and again.
std::string find_release(KernelMemory& memory, const KernelImage& image) {
  if (image.data_base == image.text_base) return {};
  const GuestVirt end = image.text_base.wrapping_add(image.size);
  const std::uint64_t bytes =
      std::min<std::uint64_t>(end.value() - image.data_base.value(), kMaxBannerSearchBytes);
  for (std::uint64_t at = 0; at < bytes; at += kBannerSearchStep) {
    const GuestVirt from = image.data_base.wrapping_add(at);
    const auto piece = memory.read_bytes(
        from,
        std::min<std::uint64_t>(kBannerSearchStep + kMaxBannerBytes, end.value() - from.value()));
    if (!piece) return {};
    const std::string_view text(reinterpret_cast<const char*>(piece->data()), piece->size());
    for (std::size_t hit = text.find(kBannerStart); hit != text.npos;
         hit = text.find(kBannerStart, hit + 1))
      if (std::string release = release_in(text.substr(hit, kMaxBannerBytes)); !release.empty())
        return release;
  }
  return {};
}

/// Why the image that was found is not the kernel file's.
Error not_ours(KernelMemory& memory, const KernelImage& image, const KernelFile& file,
               const Result<Marks>& marks) {
  const std::string release =
      marks && !marks->release.empty() ? marks->release : find_release(memory, image);
  if (release.empty())
    return {.code = ErrorCode::kNotReady,
            .message = "the image mapped there does not (yet) carry the kernel file's build id",
            .path = {},
            .address = image.text_base.value()};
  const std::string guest_id = marks && !marks->build_id.empty()
                                   ? fmt::format(" (build id {})", marks->build_id)
                                   : std::string();
  return {
      .code = ErrorCode::kMismatch,
      .message = fmt::format(
          "the guest runs {}{}, but kernel file {} is {} (build id {}): pass the vmlinux of the "
          "guest's kernel",
          release, guest_id, file.path(), file.release(), file.build_id())};
}

bool is_ours(const Marks& marks, const KernelFile& file) {
  if (!file.build_id().empty()) return marks.build_id == file.build_id();
  return !marks.release.empty() && marks.release == file.release();
}

/// Checks 3 to 5 of the header, and the location that they prove.
Result<KernelLocation> prove(PhysMemory& memory, const PagingRegisters& registers,
                             const KernelImage& image, const BootModel& boot, Marks marks) {
  const bool five = registers.five_levels();
  const std::uint64_t offset_in_area = image.text_base.value() - x86_64::kImageAreaBegin.value();
  if (marks.phys_base + offset_in_area != image.phys.value())
    return fail_at(image.text_base.value(), ErrorCode::kNotReady,
                   "phys_base is {:#x}, but the image lies at physical {:#x}", marks.phys_base,
                   image.phys.value());
  if (!marks.started())
    return fail_at(image.text_base.value(), ErrorCode::kNotReady,
                   "the kernel is in its first steps (start_kernel)");
  const GuestPhys root = image.phys.wrapping_add(boot.root_table - boot.text);
  const auto regime = std::make_shared<const x86_64::Regime>(root, five, registers.no_execute());
  const GuestVirt page_offset =
      marks.page_offset ? GuestVirt(*marks.page_offset)
                        : (five ? x86_64::kStaticPageOffset5 : x86_64::kStaticPageOffset4);

  PageWalker walker(*regime, memory);
  const GuestVirt alias = page_offset.wrapping_add(image.phys.value());
  GS_ASSIGN(const Translation translation, walker.translate(alias));
  const Mapping* mapping = std::get_if<Mapping>(&translation);
  if (mapping == nullptr || mapping->phys != image.phys)
    return fail_at(
        alias.value(), ErrorCode::kNotReady,
        "the direct map does not reach the kernel image yet: {}",
        mapping == nullptr ? describe(std::get<Hole>(translation)) : "maps another page");

  std::uint64_t direct_map = five ? kDirectMapMax5 : kDirectMapMax4;
  if (marks.vmalloc_begin && *marks.vmalloc_begin > page_offset.value())
    direct_map = std::min(direct_map, *marks.vmalloc_begin - page_offset.value());
  return KernelLocation{
      .regime = regime,
      .linear = {{.begin = image.text_base, .size = boot.end - boot.text, .phys = image.phys},
                 {.begin = page_offset, .size = direct_map, .phys = GuestPhys(0)}},
      .text_base = image.text_base,
      .slide = image.text_base.value() - boot.text,
      .image_size = boot.end - boot.text,
      .phys_base = marks.phys_base,
      .root = root,
      .paging_levels = five ? 5 : 4,
      .va_bits = regime->va_bits(),
      .page_offset = page_offset,
      .canary = marks.canary.value_or(0),
      .release = std::move(marks.release)};
}

Result<KernelLocation> locate_under(GuestPhys root, PhysMemory& memory, const KernelModel& model,
                                    const PagingRegisters& registers) {
  const BootModel& boot = *model.boot;
  const x86_64::Regime regime(root, registers.five_levels(), registers.no_execute());
  GS_ASSIGN(const KernelImage image, x86_64::find_kernel_image(regime, memory));
  // Contiguous in physical memory as the file lays it out, also where the freed init part is
  // unmapped.
  const LinearRange linear{
      .begin = image.text_base, .size = boot.end - boot.text, .phys = image.phys};
  KernelMemory image_memory(memory, regime, {&linear, 1});
  auto marks = read_marks(image_memory, boot, image.text_base.value() - boot.text);
  if (!marks && marks.error().code == ErrorCode::kUnreachable)
    return std::unexpected(marks.error());
  if (!marks || !is_ours(*marks, *model.file))
    return std::unexpected(not_ours(image_memory, image, *model.file, marks));
  return prove(memory, registers, image, boot, *std::move(marks));
}

}  // namespace

Result<KernelLocation> locate_kernel(PhysMemory& memory, const KernelModel& model,
                                     const PagingRegisters& registers) {
  if (!model.boot) return std::unexpected(model.boot.error());
  if (!registers.paging_enabled() || !registers.long_mode())
    return fail(ErrorCode::kNotReady, "paging is off: the guest has not entered its kernel yet");
  std::optional<Error> error;
  for (const GuestPhys root : registers.root_candidates()) {
    auto location = locate_under(root, memory, model, registers);
    if (location) return location;
    if (!error || location.error().code == ErrorCode::kMismatch)
      error = std::move(location).error();
  }
  return std::unexpected(std::move(*error));
}

bool is_still_there(PhysMemory& memory, const KernelModel& model, const KernelLocation& known,
                    const PagingRegisters& registers) {
  if (!registers.paging_enabled() || !registers.long_mode() || known.canary == 0) return false;
  const PagingLevel top = known.regime->levels().front();
  const std::uint64_t entry_offset =
      (known.text_base.value() >> top.shift & ((std::uint64_t{1} << top.index_bits) - 1)) * 8;
  const std::uint64_t canary_offset = *model.boot->boot_canary - model.boot->text;
  std::vector<std::uint64_t> addresses = {known.root.value() + entry_offset,
                                          known.linear.front().phys.value() + canary_offset};
  for (const GuestPhys root : registers.root_candidates())
    addresses.push_back(root.value() + entry_offset);

  std::vector<std::array<std::byte, 8>> words(addresses.size());
  std::vector<PhysRead> reads;
  for (std::size_t i = 0; i < addresses.size(); ++i)
    reads.push_back({.address = GuestPhys(addresses[i]), .into = words[i]});
  memory.read(reads);
  const auto word = [&](std::size_t i) { return load_le(words[i].data(), 8); };
  if (reads[0].error || reads[1].error || word(1) != known.canary) return false;
  const TableEntry own = known.regime->decode(0, word(0));
  for (std::size_t i = 2; i < reads.size(); ++i)
    if (!reads[i].error && own.kind == TableEntry::Kind::kTable &&
        known.regime->decode(0, word(i)).kind == own.kind &&
        known.regime->decode(0, word(i)).target == own.target)
      return true;
  return false;
}

}  // namespace guestscope
