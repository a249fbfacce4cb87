#include "introspect/kernel_discovery.h"

#include <algorithm>
#include <utility>

#include "introspect/elf_notes.h"
#include "introspect/image_search.h"
#include "introspect/limits.h"

namespace guestscope {

namespace {

constexpr std::string_view kOrigin = "the kernel found in guest memory";
// Looking through everything at each slice would be quadratic: only when so much more has come in.
constexpr std::size_t kSearchGrowth = 8;  // an eighth
constexpr std::size_t kSampleBytes = 4096;

/// Nothing can be read there; other errors are the connection's or the clock's.
bool has_no_memory(const Error& error) {
  return error.code == ErrorCode::kNotRam || error.code == ErrorCode::kNotMapped;
}

}  // namespace

Result<KernelImage> find_kernel_image(PhysMemory& memory, const PagingRegisters& registers) {
  const Processor* processor = find_processor(registers.machine);
  if (processor == nullptr || !processor->paging_enabled(registers))
    return fail(ErrorCode::kNotReady, "paging is off: the guest has not entered its kernel yet");
  Error error{.code = ErrorCode::kNotReady, .message = "these page tables map no kernel image"};
  for (const auto& tables : processor->regimes(registers)) {
    auto images = processor->find_kernel_images(*tables, memory);
    if (images && !images->empty()) return images->front();
    if (!images) error = std::move(images).error();
  }
  return std::unexpected(std::move(error));
}

KernelDiscovery::KernelDiscovery(std::shared_ptr<const KernelFile> file) : file_(std::move(file)) {}

Error KernelDiscovery::progress() const {
  const std::string_view what =
      !wants_symbols() ? "types" : (wants_types() ? "symbols and types" : "symbols");
  return {.code = ErrorCode::kNotReady,
          .message = fmt::format("reading the kernel's {} from guest memory: {} KB so far", what,
                                 read_.size() >> 10)};
}

void KernelDiscovery::restart(const KernelImage& image, Machine machine) {
  *this = KernelDiscovery(std::move(file_));
  machine_ = machine;
  image_ = image;
  begin_ = image.data_base;
}

Result<void> KernelDiscovery::read_slice(PhysMemory& memory, const PagingRegisters& registers) {
  const bool was_out_of_sight = std::exchange(out_of_sight_, true);
  GS_ASSIGN(const KernelImage image, find_kernel_image(memory, registers));
  const bool moved = image.text_base != image_.text_base || image.phys != image_.phys;
  if (moved || (was_out_of_sight && !is_unchanged(memory))) restart(image, registers.machine);
  out_of_sight_ = false;
  image_.size = image.size;
  if (stage_ == Stage::kTables) read_tables(memory);
  if (stage_ == Stage::kIdentity) read_pieces(memory);
  return {};
}

/// A page of every slice is as it was. What the kernel itself changes it changes while it boots, so
/// that reading comes to an end however often the image is out of sight.
bool KernelDiscovery::is_unchanged(PhysMemory& memory) const {
  std::vector<PhysRead> reads;
  Bytes now((read_.size() / kDiscoverySliceBytes + 1) * kSampleBytes);
  for (std::size_t at = 0; at < read_.size(); at += kDiscoverySliceBytes)
    reads.push_back(
        {.address = image_.phys.wrapping_add(begin_.value() - image_.text_base.value() + at),
         .into = std::span(now).subspan(reads.size() * kSampleBytes,
                                        std::min(kSampleBytes, read_.size() - at))});
  memory.read(reads);
  for (std::size_t i = 0; i < reads.size(); ++i)
    if (reads[i].error ||
        !std::ranges::equal(
            reads[i].into, ByteSpan(read_).subspan(i * kDiscoverySliceBytes, reads[i].into.size())))
      return false;
  return true;
}

Result<Bytes> KernelDiscovery::read_range(PhysMemory& memory, std::uint64_t begin,
                                          std::size_t size) const {
  // In pieces, between which the memory can look at the clock.
  constexpr std::size_t kPiece = 64 << 10;
  Bytes bytes(size);
  std::vector<PhysRead> reads;
  for (std::size_t at = 0; at < size; at += kPiece)
    reads.push_back({.address = image_.phys.wrapping_add(begin - image_.text_base.value() + at),
                     .into = std::span(bytes).subspan(at, std::min(kPiece, size - at))});
  memory.read(reads);
  for (PhysRead& read : reads)
    if (read.error) return std::unexpected(std::move(*read.error));
  return bytes;
}

void KernelDiscovery::read_tables(PhysMemory& memory) {
  const std::uint64_t from = begin_.value() + read_.size();
  // The image may have become smaller: what the kernel frees is unmapped.
  const std::uint64_t done = std::min(from - image_.text_base.value(), image_.size);
  const std::size_t room = kMaxDiscoveryBytes - std::min(kMaxDiscoveryBytes, read_.size());
  const std::size_t size =
      std::min<std::uint64_t>({image_.size - done, room, kDiscoverySliceBytes});
  if (size == 0) {
    at_end_ = true;
    return;
  }
  const auto slice = read_range(memory, from, size);
  if (slice) read_.insert(read_.end(), slice->begin(), slice->end());
  if (!slice && has_no_memory(slice.error())) at_end_ = true;
}

void KernelDiscovery::look_for_types() {
  auto found = find_types_in_image(read_, "vmlinux");
  // The kernel carries programs of its own, with types of their own.
  if (found && found->find(BtfKind::kStruct, "rq")) types_ = *std::move(found);
}

void KernelDiscovery::look_for_symbols() {
  auto found = find_kallsyms(read_, begin_.value(), machine_);
  if (!found) {
    kallsyms_error_ = std::move(found).error();
    return;
  }
  functions_only_ = !found->has_data;
  symbols_ = SymbolTable::from_kallsyms(*std::move(found), "the symbol table in guest memory");
}

const Btf* KernelDiscovery::types() const {
  if (types_) return &*types_;
  return wants_types() ? nullptr : &file_->btf();
}

void KernelDiscovery::digest() {
  if (image_.size == 0 || done()) return;
  if (stage_ == Stage::kIdentity) return use_pieces();
  if (read_.size() < next_search_ && !at_end_) return;
  next_search_ = read_.size() + read_.size() / kSearchGrowth + 1;
  if (wants_symbols() && !symbols_) look_for_symbols();
  // What recovers symbols lies between the two tables.
  const bool needs_types = wants_types() || functions_only_;
  if (needs_types && !types_) look_for_types();
  const bool complete = (types_ || !needs_types) && (symbols_ || !wants_symbols());
  if (!complete && !at_end_) return;
  stage_ = Stage::kIdentity;
  use_pieces();
}

/// What is left is read by name: the build id's note, the banner, and what recovering symbols asks
/// for. Each round may find that it needs more; the guest is then looked at again.
void KernelDiscovery::use_pieces() {
  wanted_.clear();
  recovered_.clear();
  const auto piece = [&](std::uint64_t address, std::size_t size) -> Result<Bytes> {
    const auto known = pieces_.find(address);
    if (known != pieces_.end()) return known->second;
    wanted_.emplace_back(address, size);
    return fail_at(address, ErrorCode::kNotReady, "not read yet");
  };
  // map_idr stands for all of them: either data symbols are in the table, or they are not.
  if (symbols_ && types() != nullptr && !symbols_->find("map_idr"))
    recovered_ = recover_symbols(
        {.machine = machine_, .address = begin_.value(), .read_only = read_, .read = piece},
        *symbols_, *types());
  if (const auto notes = symbols_ ? symbols_->find("__start_notes") : std::nullopt) {
    if (const auto end = symbols_->find("__stop_notes"); end && end->value > notes->value)
      if (const auto bytes =
              piece(notes->value, std::min<std::size_t>(end->value - notes->value, kMaxNoteBytes)))
        build_id_ = find_build_id(*bytes);
  } else {
    look_for_notes();
  }
  if (const auto banner = symbols_ ? symbols_->find("linux_banner") : std::nullopt) {
    if (const auto bytes = piece(banner->value, kMaxBannerBytes))
      release_ = release_in(text_in(*bytes));
  } else {
    look_for_banner();
  }
  if (!wanted_.empty()) return;
  stage_ = Stage::kDone;
  read_ = {};
}

/// The notes are read-only data, in front of the types (NOTES in asm-generic/vmlinux.lds.h).
void KernelDiscovery::look_for_notes() {
  const auto note = find_build_id_note(read_);
  if (!note) return;
  build_id_ = note->build_id;
  const std::uint64_t at = begin_.value() + note->at;
  recovered_.push_back({.name = "__start_notes", .value = at});
  recovered_.push_back({.name = "__stop_notes", .value = at + note->size});
}

void KernelDiscovery::look_for_banner() {
  auto banner = find_banner(read_);
  if (!banner) return;
  release_ = std::move(banner->release);
  recovered_.push_back({.name = "linux_banner", .value = begin_.value() + banner->at});
}

void KernelDiscovery::read_pieces(PhysMemory& memory) {
  for (const auto& [address, size] : wanted_) {
    auto bytes = read_range(memory, address, size);
    if (!bytes && !has_no_memory(bytes.error())) return;
    pieces_[address] = bytes ? *std::move(bytes) : Bytes();
  }
}

std::shared_ptr<const KernelFile> KernelDiscovery::take() {
  KernelFile::Parts parts;
  parts.origin = kOrigin;
  parts.machine = machine_;
  parts.build_id = build_id_;
  parts.release = release_;
  for (RecoveredSymbol& symbol : recovered_)
    if (symbols_) symbols_->add(std::move(symbol.name), symbol.value);
  // Before 5.11 arm64 maps the image from its header on, which a table of functions does not name.
  const auto stext = symbols_ ? symbols_->find("_stext") : std::nullopt;
  if (stext && !symbols_->find("_text") && image_.text_base.value() < stext->value)
    symbols_->add("_text", image_.text_base.value());
  if (symbols_) {
    parts.symbols = *std::move(symbols_);
    parts.symbols_from = "kallsyms in guest memory";
    if (functions_only_) parts.symbols_from += " (functions only)";
  } else {
    parts.missing_symbols =
        Error{.code = ErrorCode::kUnsupported,
              .message = fmt::format(
                  "no symbols were found in guest memory ({}): pass --vmlinux the kernel's "
                  "vmlinux, or its vmlinuz",
                  kallsyms_error_ ? kallsyms_error_->message : "no kallsyms tables")};
  }
  if (types_) {
    parts.types = *std::move(types_);
    parts.types_from = "BTF in guest memory";
  } else {
    parts.missing_types = Error{
        .code = ErrorCode::kUnsupported,
        .message =
            "the guest's kernel has no BTF (CONFIG_DEBUG_INFO_BTF is off): pass --vmlinux the "
            "vmlinux with DWARF of the kernel's -dbg (debuginfo) package, or of its build"};
  }
  return KernelFile::complete(std::move(file_), std::move(parts));
}

}  // namespace guestscope
