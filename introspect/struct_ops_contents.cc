// Tables of functions that the kernel calls (BPF_MAP_TYPE_STRUCT_OPS): one value, as user space has
// written it, with program ids in place of functions. The kernel keeps a second copy for itself,
// with pointers to code. As a system call does, the table's state is shown from there, and how
// often it is in use: from there as well, or (since 6.4) from the map's own counts.
#include <algorithm>

#include "introspect/contents_builder.h"
#include "introspect/limits.h"
#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

/// A field of the kernel's copy: its bytes in the value.
std::span<std::byte> place_of(const StructLayout& layout, MapModel::StructOps field,
                              std::span<std::byte> value) {
  const std::size_t offset = layout[field].offset - layout[MapModel::kKernelValue].offset;
  if (offset > value.size() || layout[field].size > value.size() - offset) return {};
  return value.subspan(offset, layout[field].size);
}

std::uint64_t uses(const StructView& map) {
  if (const std::uint64_t counted = map.u64(MapModel::kUses); counted != 0) return counted;
  const std::int64_t others = map.s64(MapModel::kReferences) - map.s64(MapModel::kUserReferences);
  return static_cast<std::uint64_t>(std::max<std::int64_t>(0, others));
}

Result<void> list_struct_ops(MapReadContext& context, const MapInfo& map,
                             ContentsBuilder& builder) {
  constexpr std::uint64_t kUnset = 0;  // BPF_STRUCT_OPS_STATE_INIT
  if (!context.model.struct_ops)
    return fail(ErrorCode::kUnsupported, "the kernel's types have no struct bpf_struct_ops_map");
  const StructLayout& layout = *context.model.struct_ops;
  StructBatch batch(layout);
  batch.add(map.address);
  batch.read(context.memory);
  GS_ASSIGN(const StructView view, batch[0]);
  builder.set_indexed(0);
  if (map.value_size == 0)
    return fail_at(map.address.value(), ErrorCode::kCorrupt, "values of 0 bytes");
  builder.set_strides(0, round_up_8(map.value_size));
  if (!builder.has_room(1)) return {};
  const std::span<std::byte> value = builder.append(1).first(map.value_size);
  const std::span<std::byte> state = place_of(layout, MapModel::kState, value);
  const std::span<std::byte> count = place_of(layout, MapModel::kUses, value);
  if (state.empty() || count.empty())
    return fail_at(map.address.value(), ErrorCode::kCorrupt, "a value of {} bytes has no state",
                   map.value_size);
  if (view.u64(MapModel::kState) == kUnset) return {};
  if (auto read = context.memory.read_one(view.pointer(MapModel::kUserValue), value); !read) {
    builder.unreadable(0, 0);
    builder.problems().add("entries[0]", std::move(read).error());
    return {};
  }
  std::ranges::copy(view.bytes(MapModel::kState), state.begin());
  for (std::size_t i = 0; i < count.size() && i < 8; ++i)
    count[i] = static_cast<std::byte>(uses(view) >> (8 * i) & 0xff);
  return {};
}

}  // namespace

std::span<const MapReader> struct_ops_readers() {
  static constexpr MapReader kReaders[] = {
      {.type = "struct_ops", .list = list_struct_ops, .find = find_by_index}};
  return kReaders;
}

}  // namespace guestscope
