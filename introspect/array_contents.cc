// Arrays: all elements side by side behind the struct, or (per-CPU) a table of per-CPU pointers in
// the same place. Source of truth: kernel/bpf/arraymap.c.
#include <algorithm>

#include "introspect/contents_builder.h"
#include "introspect/limits.h"
#include "introspect/read_pages.h"
#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

/// Where the elements are, and which of them are wanted.
struct Elements {
  GuestVirt begin;
  std::uint64_t first = 0;
  std::uint64_t end = 0;
  std::size_t stride = 0;
};

/// False when it ends in a hole so large that nothing can follow: no real array has one.
bool read_elements(KernelMemory& memory, const Elements& all, ContentsBuilder& builder) {
  const std::size_t step = std::max<std::size_t>(1, kContentStepBytes / all.stride);
  for (std::uint64_t first = all.first; first < all.end; first += step) {
    const std::uint64_t n = std::min<std::uint64_t>(step, all.end - first);
    const std::size_t record = builder.count();
    const bool some = read_pages(
        memory, all.begin.wrapping_add(first * all.stride), builder.append(n),
        [&](std::size_t offset, std::size_t size, Error error) {
          const std::size_t from = offset / all.stride;
          const std::size_t to = (offset + size - 1) / all.stride;
          builder.problems().add(fmt::format("entries[{}]", first + from), std::move(error));
          for (std::size_t element = from; element <= to; ++element)
            builder.unreadable(record + element, 0);
        });
    if (!some) return false;
  }
  return true;
}

bool read_per_cpu_elements(MapReadContext& context, const Elements& all, ContentsBuilder& builder) {
  const std::size_t step = std::max<std::size_t>(
      1, kContentStepBytes / std::max<std::size_t>(8, builder.record_bytes()));
  for (std::uint64_t first = all.first; first < all.end; first += step) {
    const std::uint64_t n = std::min<std::uint64_t>(step, all.end - first);
    Bytes raw(n * 8);
    const bool some = read_pages(
        context.memory, all.begin.wrapping_add(first * 8), raw,
        [&](std::size_t offset, std::size_t, Error error) {
          builder.problems().add(fmt::format("entries[{}]", first + offset / 8), std::move(error));
        });
    if (!some) return false;
    std::vector<GuestVirt> pointers(n);
    for (std::size_t i = 0; i < n; ++i) pointers[i] = GuestVirt(load_le(raw.data() + i * 8, 8));
    const std::size_t record = builder.count();
    builder.append(n);
    read_per_cpu_values(
        context, record, pointers, all.stride,
        [&](std::size_t i) { return fmt::format("entries[{}]", first + i); }, builder);
  }
  return true;
}

Result<void> read_array(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder,
                        bool per_cpu) {
  const StructLayout& layout = context.model.array;
  StructBatch batch(layout);
  batch.add(map.address);
  batch.read(context.memory);
  GS_ASSIGN(const StructView view, batch[0]);
  const std::uint64_t stride = view.u64(MapModel::kElemSize);
  if (map.value_size == 0 || stride != round_up_8(map.value_size))
    return fail_at(map.address.value(), ErrorCode::kCorrupt,
                   "elements of {} bytes for values of {}", stride, map.value_size);
  const std::uint64_t first = std::min(builder.part().from.position, map.max_entries);
  builder.set_indexed(first);
  builder.set_strides(0, stride);
  const Elements wanted{.begin = map.address.wrapping_add(layout[MapModel::kValues].offset),
                        .first = first,
                        .end = first + builder.room(map.max_entries - first),
                        .stride = stride};
  const bool some = per_cpu ? read_per_cpu_elements(context, wanted, builder)
                            : read_elements(context.memory, wanted, builder);
  if (some && wanted.end < map.max_entries) builder.stop_at({.position = wanted.end});
  return {};
}

Result<void> list_array(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder) {
  return read_array(context, map, builder, false);
}

Result<void> list_per_cpu_array(MapReadContext& context, const MapInfo& map,
                                ContentsBuilder& builder) {
  return read_array(context, map, builder, true);
}

}  // namespace

std::span<const MapReader> array_readers() {
  static constexpr MapReader kReaders[] = {
      {.type = "array", .list = list_array, .find = find_by_index},
      {.type = "percpu_array", .list = list_per_cpu_array, .find = find_by_index, .per_cpu = true}};
  return kReaders;
}

}  // namespace guestscope
