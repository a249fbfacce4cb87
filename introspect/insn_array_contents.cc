// Instruction arrays: where instructions of a program have ended up after it was verified and
// compiled. All elements are side by side behind the struct; their type is the kernel's own.
// Source of truth: kernel/bpf/bpf_insn_array.c.
#include <algorithm>

#include "introspect/contents_builder.h"
#include "introspect/limits.h"
#include "introspect/read_pages.h"

namespace guestscope {

namespace {

enum Array : std::size_t { kValues };
constexpr FieldNeed kArrayFields[] = {{"values"}};
constexpr StructNeed kArray = {"bpf_insn_array", kArrayFields};

Result<void> list_instructions(MapReadContext& context, const MapInfo& map,
                               ContentsBuilder& builder) {
  GS_ASSIGN(const StructLayout* layout, context.layouts.get(kArray));
  const BoundField& values = (*layout)[kValues];
  const std::size_t stride = values.element_size;
  if (stride == 0 || map.value_size != stride)
    return fail_at(map.address.value(), ErrorCode::kCorrupt,
                   "elements of {} bytes for values of {}", stride, map.value_size);
  builder.set_types(context.layouts.kernel_btf(), 0, layout->pointee(kValues));
  const std::uint64_t first = std::min(builder.part().from.position, map.max_entries);
  builder.set_indexed(first);
  builder.set_strides(0, stride);
  const std::uint64_t end = first + builder.room(map.max_entries - first);
  if (end < map.max_entries) builder.stop_at({.position = end});
  const GuestVirt begin = map.address.wrapping_add(values.offset);
  const std::size_t step = kContentStepBytes / stride;
  for (std::uint64_t at = first; at < end; at += step) {
    const std::uint64_t n = std::min<std::uint64_t>(step, end - at);
    const std::size_t record = builder.count();
    const bool some =
        read_pages(context.memory, begin.wrapping_add(at * stride), builder.append(n),
                   [&](std::size_t offset, std::size_t size, Error error) {
                     builder.problems().add(fmt::format("entries[{}]", at + offset / stride),
                                            std::move(error));
                     for (std::size_t i = offset / stride; i <= (offset + size - 1) / stride; ++i)
                       builder.unreadable(record + i, 0);
                   });
    if (!some) break;  // no real array has a hole of this size
  }
  return {};
}

}  // namespace

std::span<const MapReader> insn_array_readers() {
  static constexpr MapReader kReaders[] = {
      {.type = "insn_array", .list = list_instructions, .find = find_by_index}};
  return kReaders;
}

}  // namespace guestscope
