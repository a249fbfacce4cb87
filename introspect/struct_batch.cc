#include "introspect/struct_batch.h"

#include <algorithm>

#include "introspect/limits.h"

namespace guestscope {

namespace {

// Fields that lie at most this far apart are read as one part.
constexpr std::uint32_t kJoinGap = 256;

}  // namespace

StructBatch::StructBatch(const StructLayout& layout) : layout_(&layout) {
  for (std::size_t i = 0; i < layout.field_count(); ++i) {
    const BoundField& field = layout[i];
    if (field.present && field.size != 0)
      parts_.push_back({.offset = field.offset, .size = field.size});
  }
  std::ranges::sort(parts_, {}, &Part::offset);
  std::vector<Part> joined;
  for (const Part& part : parts_) {
    if (joined.empty() || part.offset > joined.back().offset + joined.back().size + kJoinGap) {
      joined.push_back(part);
      continue;
    }
    Part& last = joined.back();
    last.size = std::max(last.offset + last.size, part.offset + part.size) - last.offset;
  }
  parts_ = std::move(joined);
}

std::size_t StructBatch::add(GuestVirt address) {
  addresses_.push_back(address);
  return addresses_.size() - 1;
}

void StructBatch::read(KernelMemory& memory) { read_together(memory, *this); }

void StructBatch::announce(std::vector<VirtRead>& reads) {
  const std::size_t stride = layout_->extent();
  bytes_.assign(stride * addresses_.size(), std::byte{0});
  errors_.assign(addresses_.size(), std::nullopt);
  for (std::size_t i = 0; i < addresses_.size(); ++i) {
    if (addresses_[i].is_null()) {
      errors_[i] =
          Error{.code = ErrorCode::kNotMapped, .message = "null pointer", .path = {}, .address = 0};
      continue;
    }
    for (const Part& part : parts_)
      reads.push_back({.address = addresses_[i].wrapping_add(part.offset),
                       .into = std::span(bytes_).subspan(i * stride + part.offset, part.size)});
  }
}

void StructBatch::take(std::span<VirtRead>& reads) {
  for (std::size_t i = 0; i < addresses_.size(); ++i) {
    if (addresses_[i].is_null()) continue;
    for (VirtRead& read : reads.first(parts_.size()))
      if (read.error && !errors_[i]) errors_[i] = std::move(*read.error).within(layout_->name());
    reads = reads.subspan(parts_.size());
  }
}

Result<StructView> StructBatch::operator[](std::size_t index) const {
  if (errors_[index]) return std::unexpected(*errors_[index]);
  return StructView::over(*layout_,
                          ByteSpan(bytes_).subspan(index * layout_->extent(), layout_->extent()));
}

void read_structs(KernelMemory& memory, const StructLayout& layout,
                  std::span<const GuestVirt> addresses,
                  const std::function<void(std::size_t, const Result<StructView>&)>& use) {
  const std::size_t step =
      std::max<std::size_t>(1, kStructStepBytes / std::max<std::size_t>(1, layout.extent()));
  for (std::size_t first = 0; first < addresses.size(); first += step) {
    const auto some = addresses.subspan(first, std::min(step, addresses.size() - first));
    StructBatch batch(layout);
    for (const GuestVirt address : some) batch.add(address);
    batch.read(memory);
    for (std::size_t i = 0; i < some.size(); ++i) use(first + i, batch[i]);
  }
}

}  // namespace guestscope
