// What all kinds of map share: the records, per-CPU values, and which reader serves which type.
#include <algorithm>
#include <array>
#include <string_view>

#include "introspect/contents_builder.h"
#include "introspect/limits.h"

namespace guestscope {

ByteSpan MapContents::key(std::size_t record) const {
  const std::size_t record_bytes = key_stride_ + value_stride_ * cells();
  return ByteSpan(records_).subspan(place(record) * record_bytes, indexed ? 0 : key_size);
}

std::optional<ByteSpan> MapContents::value(std::size_t record, std::size_t cell) const {
  const std::size_t index = place(record) * cells() + cell;
  if (index < unreadable_.size() && unreadable_[index]) return std::nullopt;
  const std::size_t record_bytes = key_stride_ + value_stride_ * cells();
  return ByteSpan(records_).subspan(
      place(record) * record_bytes + key_stride_ + cell * value_stride_, value_size);
}

bool ContentsBuilder::has_room(std::size_t more) {
  if (more <= budget_ / std::max<std::size_t>(1, record_bytes())) return true;
  problems().add("entries",
                 {.code = ErrorCode::kUnsupported,
                  .message = fmt::format("more than {} MB in one answer: the rest is left out",
                                         kMaxContentBytes >> 20)});
  return false;
}

std::span<std::byte> ContentsBuilder::append(std::size_t n) {
  const std::size_t before = contents_.records_.size();
  contents_.records_.resize(before + n * record_bytes());
  budget_ -= std::min(budget_, n * record_bytes());
  contents_.count_ += n;
  return std::span(contents_.records_).subspan(before);
}

std::span<std::byte> ContentsBuilder::key_of(std::size_t record) {
  return std::span(contents_.records_).subspan(record * record_bytes(), contents_.key_stride_);
}

std::span<std::byte> ContentsBuilder::value_of(std::size_t record, std::size_t cell) {
  return std::span(contents_.records_)
      .subspan(record * record_bytes() + contents_.key_stride_ + cell * contents_.value_stride_,
               contents_.value_stride_);
}

void read_per_cpu_values(MapReadContext& context, std::size_t first_record,
                         std::span<const GuestVirt> pointers, std::size_t value_size,
                         const std::function<std::string(std::size_t)>& where,
                         ContentsBuilder& builder) {
  const std::vector<unsigned> cpus = context.per_cpu->possible_cpus();
  std::vector<VirtRead> reads;
  std::vector<std::pair<std::size_t, std::size_t>> owners;
  for (std::size_t i = 0; i < pointers.size(); ++i) {
    for (std::size_t cell = 0; cell < cpus.size(); ++cell) {
      if (pointers[i].is_null()) {
        builder.unreadable(first_record + i, cell);
        continue;
      }
      reads.push_back({.address = context.per_cpu->on_cpu(pointers[i], cpus[cell]),
                       .into = builder.value_of(first_record + i, cell).first(value_size)});
      owners.emplace_back(first_record + i, cell);
    }
  }
  context.memory.read(reads);
  for (std::size_t i = 0; i < reads.size(); ++i) {
    if (!reads[i].error) continue;
    builder.unreadable(owners[i].first, owners[i].second);
    builder.problems().add(
        fmt::format("{}.values[{}]", where(owners[i].first - first_record), owners[i].second),
        std::move(*reads[i].error));
  }
}

namespace {

struct Kind {
  std::string_view type;
  Result<void> (*read)(MapReadContext&, const MapInfo&, bool, ContentsBuilder&);
  bool per_cpu;
};

constexpr std::array<Kind, 7> kKinds = {{{"array", read_array, false},
                                         {"percpu_array", read_array, true},
                                         {"hash", read_hash, false},
                                         {"lru_hash", read_hash, false},
                                         {"percpu_hash", read_hash, true},
                                         {"lru_percpu_hash", read_hash, true},
                                         {"struct_ops", read_struct_ops, false}}};

Result<void> check_sizes(const MapInfo& map) {
  if (map.key_size == 0 || map.key_size > kMaxKeyBytes)
    return fail_at(map.address.value(), ErrorCode::kCorrupt, "keys of {} bytes", map.key_size);
  if (map.value_size == 0 || map.value_size > kMaxValueBytes)
    return fail_at(map.address.value(), ErrorCode::kCorrupt, "values of {} bytes", map.value_size);
  return {};
}

/// The `struct btf` that btf_vmlinux_value_type_id counts in: the one that a struct_ops map names
/// itself (since 6.9: a module's, or the kernel's own), else the kernel's own.
Result<GuestVirt> find_kernel_types(MapReadContext& context, const MapInfo& map) {
  const auto& layout = context.model.struct_ops;
  if (layout && (*layout)[MapModel::kValueBtf].present && map.type == "struct_ops") {
    const std::uint32_t offset = (*layout)[MapModel::kValueBtf].offset;
    GS_ASSIGN(const std::uint64_t object,
              context.memory.read_number(map.address.wrapping_add(offset), 8));
    if (object != 0) return GuestVirt(object);
  }
  if (context.kernel_btf.is_null())
    return fail(ErrorCode::kUnsupported, "the kernel's symbols do not tell where its own BTF is");
  GS_ASSIGN(const std::uint64_t object, context.memory.read_number(context.kernel_btf, 8));
  return GuestVirt(object);
}

Result<std::shared_ptr<const Btf>> types_of(MapReadContext& context, const MapInfo& map) {
  GuestVirt object = map.btf_object;
  if (map.btf_vmlinux_value_type_id != 0) {
    GS_ASSIGN(object, find_kernel_types(context, map));
  }
  return context.types.get(context.memory, context.model.btf, object);
}

void find_types(MapReadContext& context, const MapInfo& map, MapContents& contents) {
  const bool kernel_value = map.btf_vmlinux_value_type_id != 0;
  if (map.btf_object.is_null() && !kernel_value) return;
  auto btf = types_of(context, map);
  if (!btf) {
    contents.problems.add(kernel_value ? "btf_vmlinux_value_type_id" : "btf_id",
                          std::move(btf).error());
    return;
  }
  contents.btf = *std::move(btf);
  // The kernel accepts one of its own types for a value only when there are no types of a program.
  contents.key_type = kernel_value ? 0 : map.btf_key_type_id;
  contents.value_type = kernel_value ? map.btf_vmlinux_value_type_id : map.btf_value_type_id;
}

}  // namespace

Result<MapContents> read_map_contents(MapReadContext& context, const MapInfo& map) {
  const auto kind = std::ranges::find(kKinds, std::string_view(map.type), &Kind::type);
  if (kind == kKinds.end())
    return fail(ErrorCode::kUnsupported, "the contents of {} maps cannot be read", map.type);
  GS_CHECK(check_sizes(map));
  if (kind->per_cpu && context.per_cpu == nullptr)
    return fail(ErrorCode::kNotReady, "the per-CPU offsets are not ready");
  ContentsBuilder builder(map, context.budget);
  if (kind->per_cpu) builder.set_cpus(context.per_cpu->possible_cpus());
  GS_CHECK(kind->read(context, map, kind->per_cpu, builder));
  MapContents contents = builder.finish();
  find_types(context, map, contents);
  return contents;
}

}  // namespace guestscope
