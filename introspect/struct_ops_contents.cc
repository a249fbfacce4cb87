// Tables of functions that the kernel calls (BPF_MAP_TYPE_STRUCT_OPS): one value, as user space has
// written it, with program ids in place of functions. The kernel keeps a second copy for itself,
// with pointers to code and with the table's state; the state is shown from there.
#include <algorithm>

#include "introspect/contents_builder.h"
#include "introspect/limits.h"
#include "introspect/struct_batch.h"

namespace guestscope {

Result<void> read_struct_ops(MapReadContext& context, const MapInfo& map, bool /*per_cpu*/,
                             ContentsBuilder& builder) {
  constexpr std::uint64_t kUnset = 0;  // BPF_STRUCT_OPS_STATE_INIT
  if (!context.model.struct_ops)
    return fail(ErrorCode::kUnsupported, "the kernel's types have no struct bpf_struct_ops_map");
  const StructLayout& layout = *context.model.struct_ops;
  const std::uint32_t kernel_value = layout[MapModel::kKernelValue].offset;
  const std::uint32_t state_offset = layout[MapModel::kState].offset - kernel_value;
  const std::size_t state_size = layout[MapModel::kState].size;
  if (layout[MapModel::kState].offset < kernel_value || map.value_size < state_size ||
      state_offset > map.value_size - state_size)
    return fail_at(map.address.value(), ErrorCode::kCorrupt, "a value of {} bytes has no state",
                   map.value_size);
  StructBatch batch(layout);
  batch.add(map.address);
  batch.read(context.memory);
  GS_ASSIGN(const StructView view, batch[0]);
  builder.set_indexed();
  builder.set_strides(0, round_up_8(map.value_size));
  if (!builder.has_room(1)) return {};
  const std::span<std::byte> value = builder.append(1).first(map.value_size);
  if (view.u64(MapModel::kState) == kUnset) return {};
  if (auto read = context.memory.read_one(view.pointer(MapModel::kUserValue), value); !read) {
    builder.unreadable(0, 0);
    builder.problems().add("entries[0]", std::move(read).error());
    return {};
  }
  std::ranges::copy(view.bytes(MapModel::kState), value.subspan(state_offset).begin());
  return {};
}

}  // namespace guestscope
