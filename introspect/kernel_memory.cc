#include "introspect/kernel_memory.h"

#include <algorithm>

#include "introspect/limits.h"

namespace guestscope {

namespace {

// Pieces outside the linear ranges end at borders of the smallest page of any supported processor.
constexpr std::uint64_t kSmallestPage = 4096;
// So that whoever holds the guest meanwhile can look at the clock inside a long read, too.
constexpr std::uint64_t kMaxPiece = 64 << 10;

Error unmapped(GuestVirt address, const Hole& hole) {
  return {.code = ErrorCode::kNotMapped,
          .message = describe(hole),
          .path = {},
          .address = address.value()};
}

}  // namespace

/// Part of a read that is contiguous in physical memory.
struct KernelMemory::Piece {
  VirtRead* owner;
  GuestVirt address;
  std::span<std::byte> into;
  std::optional<GuestPhys> phys;  // empty until walked
};

KernelMemory::KernelMemory(PhysMemory& memory, const PagingRegime& regime,
                           std::span<const LinearRange> linear)
    : memory_(&memory), regime_(&regime), walker_(regime, memory), linear_(linear) {}

std::optional<LinearRange> KernelMemory::linear_at(GuestVirt pointer) const {
  const GuestVirt address = regime_->canonical(pointer);
  for (const LinearRange& range : linear_) {
    if (address < range.begin) continue;
    const std::uint64_t offset = address.value() - range.begin.value();
    if (offset < range.size)
      return LinearRange{
          .begin = address, .size = range.size - offset, .phys = range.phys.wrapping_add(offset)};
  }
  return std::nullopt;
}

std::vector<KernelMemory::Piece> KernelMemory::split(std::span<VirtRead> reads) const {
  std::vector<Piece> pieces;
  pieces.reserve(reads.size());
  for (VirtRead& request : reads) {
    request.error.reset();
    if (!request.into.empty() && !request.address.offset(request.into.size() - 1)) {
      request.error = unmapped(request.address, {.level = 0, .reason = HoleReason::kNonCanonical});
      continue;
    }
    for (std::size_t done = 0; done < request.into.size();) {
      const GuestVirt at = request.address.wrapping_add(done);
      const auto linear = linear_at(at);
      const std::uint64_t run =
          linear ? std::min(linear->size, kMaxPiece) : at.bytes_to_boundary(kSmallestPage);
      const std::size_t size = std::min<std::uint64_t>(run, request.into.size() - done);
      pieces.push_back({.owner = &request,
                        .address = at,
                        .into = request.into.subspan(done, size),
                        .phys = linear ? std::optional(linear->phys) : std::nullopt});
      done += size;
    }
  }
  return pieces;
}

void KernelMemory::walk(std::span<Piece> pieces) {
  std::vector<GuestVirt> addresses;
  for (const Piece& piece : pieces)
    if (!piece.phys) addresses.push_back(piece.address);
  if (addresses.empty()) return;
  auto translations = walker_.translate(addresses);
  auto next = translations.begin();
  for (Piece& piece : pieces) {
    if (piece.phys) continue;
    Result<Translation>& translation = *next++;
    if (!translation)
      piece.owner->error = std::move(translation).error();
    else if (const Hole* hole = std::get_if<Hole>(&*translation))
      piece.owner->error = unmapped(piece.address, *hole);
    else
      piece.phys = std::get<Mapping>(*translation).phys;
  }
}

void KernelMemory::read_while(std::span<VirtRead> reads, const std::function<void()>& work) {
  std::vector<Piece> pieces = split(reads);
  walk(pieces);
  std::vector<PhysRead> physical;
  std::vector<const Piece*> sources;
  physical.reserve(pieces.size());
  sources.reserve(pieces.size());
  for (const Piece& piece : pieces) {
    if (piece.owner->error) continue;
    physical.push_back({.address = *piece.phys, .into = piece.into});
    sources.push_back(&piece);
  }
  if (physical.empty())
    work();
  else
    memory_->read_while(physical, work);
  for (std::size_t i = 0; i < physical.size(); ++i) {
    if (!physical[i].error) continue;
    Error error = std::move(*physical[i].error);
    if (error.code == ErrorCode::kNotRam)
      error.message =
          fmt::format("physical address {:#x} behind it is not RAM", physical[i].address.value());
    error.address = sources[i]->address.value();
    sources[i]->owner->error = std::move(error);
  }
}

Result<void> KernelMemory::read_one(GuestVirt address, std::span<std::byte> into) {
  VirtRead request{.address = address, .into = into};
  read({&request, 1});
  if (request.error) return std::unexpected(std::move(*request.error));
  return {};
}

Result<Bytes> KernelMemory::read_bytes(GuestVirt address, std::size_t size) {
  Bytes bytes(size);
  GS_CHECK(read_one(address, bytes));
  return bytes;
}

Result<std::uint64_t> KernelMemory::read_number(GuestVirt address, std::size_t size) {
  std::array<std::byte, 8> bytes{};
  GS_CHECK(read_one(address, std::span(bytes).first(std::min<std::size_t>(size, bytes.size()))));
  return load_le(bytes.data(), size);
}

Result<Bytes> read_in_steps(KernelMemory& memory, GuestVirt at, std::size_t size) {
  Bytes bytes;
  while (bytes.size() < size) {
    const std::size_t step = std::min(kContentStepBytes, size - bytes.size());
    GS_ASSIGN(const Bytes piece, memory.read_bytes(at.wrapping_add(bytes.size()), step));
    bytes.insert(bytes.end(), piece.begin(), piece.end());
  }
  return bytes;
}

std::size_t ReadBatch::add(GuestVirt address, std::size_t size) {
  const std::size_t offset = ranges_.empty() ? 0 : ranges_.back().offset + ranges_.back().size;
  ranges_.push_back({.address = address, .offset = offset, .size = size});
  return ranges_.size() - 1;
}

void ReadBatch::read(KernelMemory& memory) { read_together(memory, *this); }

void ReadBatch::announce(std::vector<VirtRead>& reads) {
  if (ranges_.empty()) return;
  bytes_.resize(ranges_.back().offset + ranges_.back().size);
  reads.reserve(reads.size() + ranges_.size());
  for (Range& range : ranges_) {
    range.error.reset();
    if (range.address.is_null())
      range.error =
          Error{.code = ErrorCode::kNotMapped, .message = "null pointer", .path = {}, .address = 0};
    else
      reads.push_back(
          {.address = range.address, .into = std::span(bytes_).subspan(range.offset, range.size)});
  }
}

void ReadBatch::take(std::span<VirtRead>& reads) {
  for (Range& range : ranges_) {
    if (range.address.is_null()) continue;
    range.error = std::move(reads.front().error);
    reads = reads.subspan(1);
  }
}

Result<ByteSpan> ReadBatch::operator[](std::size_t index) const {
  const Range& range = ranges_[index];
  if (range.error) return std::unexpected(*range.error);
  return ByteSpan(bytes_).subspan(range.offset, range.size);
}

}  // namespace guestscope
