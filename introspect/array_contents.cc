// Arrays: all elements side by side behind the struct, or (per-CPU) a table of per-CPU pointers in
// the same place.
#include <algorithm>

#include "introspect/contents_builder.h"
#include "introspect/limits.h"
#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

constexpr std::size_t kPageBytes = 4096;

/// Reads `into` from `at` page by page, so that one missing page costs only what lies in it; calls
/// `failed` with the range of each part that is missing. False when nothing at all could be read.
template <typename Failed>
bool read_pages(KernelMemory& memory, GuestVirt at, std::span<std::byte> into, Failed failed) {
  std::vector<VirtRead> reads;
  for (std::size_t done = 0; done < into.size();) {
    const GuestVirt address = at.wrapping_add(done);
    const std::size_t size =
        std::min<std::size_t>(address.bytes_to_boundary(kPageBytes), into.size() - done);
    reads.push_back({.address = address, .into = into.subspan(done, size)});
    done += size;
  }
  memory.read(reads);
  std::size_t failures = 0;
  for (VirtRead& read : reads) {
    if (!read.error) continue;
    ++failures;
    failed(static_cast<std::size_t>(read.into.data() - into.data()), read.into.size(),
           std::move(*read.error));
  }
  return failures < reads.size();
}

void read_elements(KernelMemory& memory, GuestVirt values, std::size_t count, std::size_t stride,
                   ContentsBuilder& builder) {
  const std::size_t step = std::max<std::size_t>(1, kContentStepBytes / stride);
  for (std::size_t first = 0; first < count; first += step) {
    const std::size_t n = std::min(step, count - first);
    if (!builder.has_room(n)) return;
    const bool some =
        read_pages(memory, values.wrapping_add(first * stride), builder.append(n),
                   [&](std::size_t offset, std::size_t size, Error error) {
                     const std::size_t from = first + offset / stride;
                     const std::size_t to = first + (offset + size - 1) / stride;
                     builder.problems().add(fmt::format("entries[{}]", from), std::move(error));
                     for (std::size_t element = from; element <= to; ++element)
                       builder.unreadable(element, 0);
                   });
    if (!some)
      return;  // the problems say from where on; a real array does not end in a hole of this size
  }
}

void read_per_cpu_elements(MapReadContext& context, GuestVirt table, std::size_t count,
                           std::size_t stride, ContentsBuilder& builder) {
  const std::size_t step = std::max<std::size_t>(
      1, kContentStepBytes / std::max<std::size_t>(8, builder.record_bytes()));
  for (std::size_t first = 0; first < count; first += step) {
    const std::size_t n = std::min(step, count - first);
    if (!builder.has_room(n)) return;
    Bytes raw(n * 8);
    const bool some = read_pages(
        context.memory, table.wrapping_add(first * 8), raw,
        [&](std::size_t offset, std::size_t, Error error) {
          builder.problems().add(fmt::format("entries[{}]", first + offset / 8), std::move(error));
        });
    if (!some) return;
    std::vector<GuestVirt> pointers(n);
    for (std::size_t i = 0; i < n; ++i) pointers[i] = GuestVirt(load_le(raw.data() + i * 8, 8));
    builder.append(n);
    read_per_cpu_values(
        context, first, pointers, stride,
        [&](std::size_t i) { return fmt::format("entries[{}]", first + i); }, builder);
  }
}

}  // namespace

Result<void> read_array(MapReadContext& context, const MapInfo& map, bool per_cpu,
                        ContentsBuilder& builder) {
  const StructLayout& layout = context.model.array;
  StructBatch batch(layout);
  batch.add(map.address);
  batch.read(context.memory);
  GS_ASSIGN(const StructView view, batch[0]);
  const std::uint64_t stride = view.u64(MapModel::kElemSize);
  if (stride != round_up_8(map.value_size))
    return fail_at(map.address.value(), ErrorCode::kCorrupt,
                   "elements of {} bytes for values of {}", stride, map.value_size);
  builder.set_indexed();
  builder.set_strides(0, stride);
  const GuestVirt values = map.address.wrapping_add(layout[MapModel::kValues].offset);
  if (per_cpu)
    read_per_cpu_elements(context, values, map.max_entries, stride, builder);
  else
    read_elements(context.memory, values, map.max_entries, stride, builder);
  return {};
}

}  // namespace guestscope
