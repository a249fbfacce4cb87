#include "introspect/kernel_location.h"

#include <algorithm>

#include "introspect/elf_notes.h"
#include "introspect/image_search.h"
#include "introspect/kernel_proof.h"
#include "introspect/limits.h"

namespace guestscope {

void PagingRegisterCell::store(const PagingRegisters& registers) {
  version_.fetch_add(1, std::memory_order_acq_rel);
  machine_.store(registers.machine, std::memory_order_release);
  for (std::size_t i = 0; i < values_.size(); ++i)
    values_[i].store(registers.values[i], std::memory_order_release);
  version_.fetch_add(1, std::memory_order_release);
}

PagingRegisters PagingRegisterCell::load() const {
  while (true) {
    const std::uint64_t before = version_.load(std::memory_order_acquire);
    PagingRegisters registers{.machine = machine_.load(std::memory_order_acquire)};
    for (std::size_t i = 0; i < values_.size(); ++i)
      registers.values[i] = values_[i].load(std::memory_order_acquire);
    if (before % 2 == 0 && version_.load(std::memory_order_acquire) == before) return registers;
  }
}

bool KernelLocation::same_boot(const KernelLocation& other) const {
  return text_base == other.text_base && phys_base == other.phys_base &&
         page_offset == other.page_offset && root == other.root && canary == other.canary;
}

namespace {

Result<KernelMarks> read_marks(KernelMemory& memory, const BootModel& boot, std::uint64_t slide) {
  const auto at = [&](std::uint64_t link) { return GuestVirt(link + slide); };
  ReadBatch batch;
  const std::size_t banner = batch.add(at(boot.banner), kMaxBannerBytes);
  const bool has_notes = boot.notes_size != 0;
  const std::size_t notes =
      has_notes ? batch.add(at(*boot.notes_begin), boot.notes_size) : std::size_t{0};
  const auto add = [&](const std::optional<std::uint64_t>& link, std::size_t size = 8) {
    return link ? std::optional(batch.add(at(*link), size)) : std::nullopt;
  };
  const auto phys_base = add(boot.phys_base);
  const auto page_offset = add(boot.page_offset);
  const auto vmalloc_begin = add(boot.vmalloc_begin);
  const auto memstart = add(boot.memstart);
  const auto image_voffset = add(boot.image_voffset);
  const auto canary = add(boot.boot_canary);
  const auto system_state = add(boot.system_state, 4);
  batch.read(memory);
  for (std::size_t i = 0; i < batch.size(); ++i) GS_CHECK(batch[i]);

  const auto number = [&](std::optional<std::size_t> index) {
    if (!index) return std::optional<std::uint64_t>();
    const ByteSpan bytes = *batch[*index];
    return std::optional(load_le(bytes.data(), bytes.size()));
  };
  return KernelMarks{.build_id = has_notes ? find_build_id(*batch[notes]) : std::string(),
                     .release = release_in(text_in(*batch[banner])),
                     .phys_base = number(phys_base),
                     .page_offset = number(page_offset),
                     .vmalloc_begin = number(vmalloc_begin),
                     .memstart = number(memstart),
                     .image_voffset = number(image_voffset),
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
    if (auto banner = find_banner(*piece)) return std::move(banner->release);
  }
  return {};
}

/// Why the image that was found is not the kernel file's.
Error not_ours(KernelMemory& memory, const KernelImage& image, const KernelFile& file,
               const Result<KernelMarks>& marks) {
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
          "the guest runs {}{}, but {} is {} (build id {}): pass a file of the guest's kernel, or "
          "none",
          release, guest_id, file.title(), file.release(), file.build_id())};
}

/// By the build id where the image's symbols tell where it stands, else by the release.
bool is_ours(const KernelMarks& marks, const KernelModel& model) {
  const KernelFile& file = *model.file;
  if (!file.build_id().empty() && model.boot->notes_size != 0)
    return marks.build_id == file.build_id();
  return !marks.release.empty() && marks.release == file.release();
}

/// Steps 3 to 5 of the header, and the location that they prove.
Result<KernelLocation> prove(PhysMemory& memory, const PagingRegime& tables,
                             const FoundImage& image, const BootModel& boot, Machine machine,
                             KernelMarks marks) {
  // Where every process has a root of its own, the kernel's. Elsewhere (arm64) the one in use is
  // it; swapper_pg_dir need not be: see arch/aarch64.h.
  const GuestPhys root =
      boot.root_table ? image.text_phys.wrapping_add(*boot.root_table - boot.text) : tables.root();
  const std::shared_ptr<const PagingRegime> regime = tables.with_root(root);
  GS_ASSIGN(const DirectMap direct, machine == Machine::kAarch64
                                        ? prove_aarch64(memory, *regime, image, marks)
                                        : prove_x86_64(memory, *regime, image, marks));
  return KernelLocation{
      .regime = regime,
      .linear = {{.begin = image.text, .size = image.size, .phys = image.text_phys}, direct.range},
      .text_base = image.text,
      .slide = image.text.value() - boot.text,
      .image_size = image.size,
      .phys_base = direct.phys_base,
      .root = root,
      .paging_levels = static_cast<int>(regime->levels().size()),
      .va_bits = regime->va_bits(),
      .page_size = regime->page_size(),
      .page_offset = direct.page_offset,
      .canary = marks.canary.value_or(0),
      .release = std::move(marks.release)};
}

/// The image, if its first mapped byte is what the symbol at `link` names.
FoundImage image_at(const KernelImage& mapped, std::uint64_t link, const BootModel& boot) {
  const std::uint64_t before = link - boot.text;  // bytes of the image in front of what is mapped
  return {.text = GuestVirt(mapped.text_base.value() - before),
          .text_phys = GuestPhys(mapped.phys.value() - before),
          .size = boot.end ? *boot.end - boot.text : mapped.size + before,
          .mapped = mapped};
}

/// Contiguous in physical memory as the file lays it out, also where the freed init part is
/// unmapped.
LinearRange linear_range(const FoundImage& image) {
  return {.begin = image.text, .size = image.size, .phys = image.text_phys};
}

/// An image that was found and is not the file's kernel, as far as its marks can be read there.
struct Stranger {
  FoundImage image;
  std::shared_ptr<const PagingRegime> tables;
  Result<KernelMarks> marks;
};

Error describe_stranger(const Stranger& stranger, PhysMemory& memory, const KernelFile& file) {
  const LinearRange linear = linear_range(stranger.image);
  KernelMemory reader(memory, *stranger.tables, {&linear, 1});
  return not_ours(reader, stranger.image.mapped, file, stranger.marks);
}

/// Every place where the tables may map the image.
Result<KernelLocation> locate_in(const std::vector<std::shared_ptr<const PagingRegime>>& trees,
                                 const Processor& processor, PhysMemory& memory,
                                 const KernelModel& model) {
  std::optional<Error> error;
  std::optional<Error> not_proven;  // of our kernel: whatever else was seen does not matter
  std::optional<Stranger> stranger;
  for (const auto& tables : trees) {
    const auto images = processor.find_kernel_images(*tables, memory);
    if (!images) {
      if (!error || images.error().code == ErrorCode::kUnreachable) error = images.error();
      continue;
    }
    for (const KernelImage& mapped : *images) {
      for (const std::uint64_t link : model.boot->image_begins) {
        const FoundImage image = image_at(mapped, link, *model.boot);
        const LinearRange linear = linear_range(image);
        KernelMemory reader(memory, *tables, {&linear, 1});
        auto marks = read_marks(reader, *model.boot, image.text.value() - model.boot->text);
        if (!marks && marks.error().code == ErrorCode::kUnreachable)
          return std::unexpected(marks.error());
        if (marks && is_ours(*marks, model)) {
          auto location =
              prove(memory, *tables, image, *model.boot, model.file->machine(), *std::move(marks));
          if (location) return location;
          not_proven = std::move(location).error();
        } else if (!stranger) {
          stranger = {.image = image, .tables = tables, .marks = std::move(marks)};
        }
      }
    }
  }
  if (not_proven) return std::unexpected(std::move(*not_proven));
  if (stranger) return std::unexpected(describe_stranger(*stranger, memory, *model.file));
  if (error) return std::unexpected(std::move(*error));
  return fail(ErrorCode::kNotReady, "paging is on, but not as a Linux kernel sets it up");
}

}  // namespace

Result<KernelLocation> locate_kernel(PhysMemory& memory, const KernelModel& model,
                                     const PagingRegisters& registers) {
  const Processor* processor = find_processor(registers.machine);
  if (processor == nullptr)
    return fail(ErrorCode::kNotReady, "the guest's registers have not been read yet");
  if (registers.machine != model.file->machine())
    return fail(ErrorCode::kMismatch, "the guest is {}, but {} is for {}",
                to_string(registers.machine), model.file->title(),
                to_string(model.file->machine()));
  if (!model.boot) return std::unexpected(model.boot.error());
  if (!processor->paging_enabled(registers))
    return fail(ErrorCode::kNotReady, "paging is off: the guest has not entered its kernel yet");
  return locate_in(processor->regimes(registers), *processor, memory, model);
}

bool is_still_there(PhysMemory& memory, const KernelModel& model, const KernelLocation& known,
                    const PagingRegisters& registers, bool runs_it) {
  const Processor* processor = find_processor(registers.machine);
  if (processor == nullptr || known.canary == 0 || !processor->paging_enabled(registers))
    return false;
  const PagingLevel top = known.regime->levels().front();
  const std::uint64_t entry_offset =
      (known.text_base.value() >> top.shift & ((std::uint64_t{1} << top.index_bits) - 1)) * 8;
  const std::uint64_t canary_offset = *model.boot->boot_canary - model.boot->text;
  std::vector<std::uint64_t> addresses = {known.root.value() + entry_offset,
                                          known.linear.front().phys.value() + canary_offset};
  if (!runs_it)
    for (const auto& tables : processor->regimes(registers))
      addresses.push_back(tables->root().value() + entry_offset);

  std::vector<std::array<std::byte, 8>> words(addresses.size());
  std::vector<PhysRead> reads;
  for (std::size_t i = 0; i < addresses.size(); ++i)
    reads.push_back({.address = GuestPhys(addresses[i]), .into = words[i]});
  memory.read(reads);
  const auto word = [&](std::size_t i) { return load_le(words[i].data(), 8); };
  if (reads[0].error || reads[1].error || word(1) != known.canary) return false;
  const auto entry = [&](std::size_t i) { return known.regime->decode(0, word(i)); };
  const bool mapped =
      entry(0).kind == TableEntry::Kind::kTable || entry(0).kind == TableEntry::Kind::kLeaf;
  if (runs_it) return mapped;
  for (std::size_t i = 2; mapped && i < reads.size(); ++i)
    if (!reads[i].error && entry(i).kind == entry(0).kind && entry(i).target == entry(0).target)
      return true;
  return false;
}

}  // namespace guestscope
