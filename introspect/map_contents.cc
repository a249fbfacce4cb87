// What all types of map share: the records, per-CPU values, and which reader serves which type.
#include <algorithm>
#include <array>
#include <bit>
#include <string_view>

#include "introspect/contents_builder.h"
#include "introspect/function_names.h"
#include "introspect/hidden_fields.h"
#include "introspect/limits.h"

namespace guestscope {

std::uint64_t MapContents::key_number(std::size_t record) const {
  if (keys == KeyForm::kIndex) return first_index_ + place(record);
  const ByteSpan stored = ByteSpan(records_).subspan(place(record) * record_bytes(), key_stride_);
  return load_le(stored.data(), std::min<std::size_t>(stored.size(), 4));
}

ByteSpan MapContents::key(std::size_t record) const {
  if (keys == KeyForm::kNone || keys == KeyForm::kIndex) return {};
  return ByteSpan(records_).subspan(place(record) * record_bytes(), key_size);
}

std::optional<ByteSpan> MapContents::value(std::size_t record, std::size_t cell) const {
  if (value_stride_ == 0) return std::nullopt;
  const std::size_t index = place(record) * cells() + cell;
  if (index < unreadable_.size() && unreadable_[index]) return std::nullopt;
  return ByteSpan(records_).subspan(
      place(record) * record_bytes() + key_stride_ + cell * value_stride_, value_size);
}

const Facts& MapContents::facts_of(std::size_t record) const {
  static const Facts kNone;
  return place(record) < facts_.size() ? facts_[place(record)] : kNone;
}

std::uint64_t ContentsBuilder::room(std::uint64_t wanted) const {
  const std::uint64_t left = part_.limit - std::min<std::uint64_t>(part_.limit, count());
  const std::uint64_t bytes = std::min(*budget_, kMapPartBytes);
  return std::min(
      {wanted, left, std::max<std::uint64_t>(1, bytes / std::max<std::size_t>(1, record_bytes()))});
}

bool ContentsBuilder::part_is_full() const {
  return count() >= part_.limit || count() * record_bytes() >= std::min(*budget_, kMapPartBytes);
}

bool ContentsBuilder::has_room(std::size_t more) {
  if (more <= *budget_ / std::max<std::size_t>(1, record_bytes())) return true;
  problems().add("entries",
                 {.code = ErrorCode::kUnsupported,
                  .message = fmt::format("more than {} MB in one answer: the rest is left out",
                                         kMaxContentBytes >> 20)});
  return false;
}

std::span<std::byte> ContentsBuilder::append(std::size_t n) {
  const std::size_t before = contents_.records_.size();
  contents_.records_.resize(before + n * record_bytes());
  *budget_ -= std::min(*budget_, n * record_bytes());
  contents_.count_ += n;
  return std::span(contents_.records_).subspan(before);
}

std::size_t ContentsBuilder::add(ByteSpan key, ByteSpan value) {
  const std::size_t record = count();
  append(1);
  std::ranges::copy(key.first(std::min(key.size(), contents_.key_stride_)), key_of(record).begin());
  std::ranges::copy(value.first(std::min(value.size(), contents_.value_stride_)),
                    value_of(record, 0).begin());
  return record;
}

std::size_t ContentsBuilder::add(std::uint32_t index, ByteSpan value) {
  std::array<std::byte, 4> key{};
  for (unsigned i = 0; i < key.size(); ++i) key[i] = static_cast<std::byte>(index >> (8 * i));
  return add(key, value);
}

std::span<std::byte> ContentsBuilder::key_of(std::size_t record) {
  return std::span(contents_.records_).subspan(record * record_bytes(), contents_.key_stride_);
}

std::span<std::byte> ContentsBuilder::value_of(std::size_t record, std::size_t cell) {
  return std::span(contents_.records_)
      .subspan(record * record_bytes() + contents_.key_stride_ + cell * contents_.value_stride_,
               contents_.value_stride_);
}

void ContentsBuilder::set_facts(std::size_t record, Facts facts) {
  if (contents_.facts_.size() <= record) contents_.facts_.resize(record + 1);
  contents_.facts_[record] = std::move(facts);
}

std::vector<std::uint32_t> ContentsBuilder::listed() const {
  std::vector<std::uint32_t> places(contents_.size());
  for (std::size_t record = 0; record < places.size(); ++record)
    places[record] = static_cast<std::uint32_t>(contents_.place(record));
  return places;
}

void ContentsBuilder::keep_if(const std::function<bool(const MapContents&, std::size_t)>& wanted) {
  std::vector<std::uint32_t> kept;
  for (std::size_t record = 0; record < contents_.size(); ++record)
    if (wanted(contents_, record))
      kept.push_back(static_cast<std::uint32_t>(contents_.place(record)));
  contents_.order_ = std::move(kept);
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

const MapReader* find_reader(std::string_view type) {
  for (const auto readers :
       {array_readers(), hash_readers(), struct_ops_readers(), reference_readers(),
        device_readers(), socket_readers(), storage_readers(), cgroup_storage_readers(),
        lpm_readers(), queue_readers(), ring_readers(), stack_readers(), arena_readers(),
        insn_array_readers(), rhash_readers()}) {
    const auto found = std::ranges::find(readers, type, &MapReader::type);
    if (found != readers.end()) return &*found;
  }
  return nullptr;
}

Result<void> check_sizes(const MapInfo& map) {
  if (map.key_size > kMaxKeyBytes)
    return fail_at(map.address.value(), ErrorCode::kCorrupt, "keys of {} bytes", map.key_size);
  if (map.value_size > kMaxValueBytes)
    return fail_at(map.address.value(), ErrorCode::kCorrupt, "values of {} bytes", map.value_size);
  return {};
}

Result<const MapReader*> choose_reader(const MapReadContext& context, const MapInfo& map) {
  const MapReader* reader = find_reader(map.type);
  if (reader == nullptr)
    return fail(ErrorCode::kUnsupported, "the contents of {} maps cannot be read", map.type);
  GS_CHECK(check_sizes(map));
  if (reader->per_cpu && context.per_cpu == nullptr)
    return fail(ErrorCode::kNotReady, "the per-CPU offsets are not ready");
  return reader;
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
  if (!context.model.kernel_btf)
    return fail(ErrorCode::kUnsupported, "the kernel's symbols do not tell where its own BTF is");
  const GuestVirt pointer = context.location.at(*context.model.kernel_btf);
  GS_ASSIGN(const std::uint64_t object, context.memory.read_number(pointer, 8));
  return GuestVirt(object);
}

void find_types(MapReadContext& context, const MapInfo& map, MapContents& contents) {
  if (contents.btf) return;  // the reader knows better
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
  if (kernel_value) return;
  auto hidden = read_hidden_fields(context, map, *contents.btf, contents.value_type);
  if (hidden)
    contents.hidden = *std::move(hidden);
  else
    contents.problems.add("btf_value_type_id", std::move(hidden).error());
}

ContentsBuilder start(const MapReadContext& context, const MapReader& reader, const MapInfo& map,
                      const MapPart& part, std::size_t& budget) {
  ContentsBuilder builder(map, part, budget);
  if (reader.per_cpu) builder.set_cpus(context.per_cpu->possible_cpus());
  return builder;
}

}  // namespace

Result<std::shared_ptr<const Btf>> types_of(MapReadContext& context, const MapInfo& map) {
  if (map.btf_object.is_null() && map.btf_vmlinux_value_type_id == 0)
    return fail(ErrorCode::kNotFound, "the map has no types");
  GuestVirt object = map.btf_object;
  if (map.btf_vmlinux_value_type_id != 0) {
    GS_ASSIGN(object, find_kernel_types(context, map));
  }
  return context.types.get(context.memory, context.model.btf, object);
}

Result<MapContents> read_map_contents(MapReadContext& context, const MapInfo& map,
                                      const MapPart& part) {
  GS_ASSIGN(const MapReader* reader, choose_reader(context, map));
  ContentsBuilder builder = start(context, *reader, map, part, context.budget);
  GS_CHECK(reader->list(context, map, builder));
  MapContents contents = builder.finish();
  find_types(context, map, contents);
  name_functions(context, contents);
  return contents;
}

Result<MapContents> read_map_entry(MapReadContext& context, const MapInfo& map,
                                   const MakeKey& make_key) {
  GS_ASSIGN(const MapReader* reader, choose_reader(context, map));
  if (reader->find == nullptr)
    return fail(ErrorCode::kInvalidArgument, "{} maps have no keys to look up", map.type);
  MapContents shape;
  shape.key_size = map.key_size;
  shape.keys = reader->find == find_by_index ? KeyForm::kIndex : KeyForm::kBytes;
  find_types(context, map, shape);
  GS_ASSIGN(const Bytes key, make_key(shape));
  ContentsBuilder builder = start(context, *reader, map, {}, context.budget);
  GS_CHECK(reader->find(context, map, key, builder));
  MapContents contents = builder.finish();
  contents.next.reset();
  if (!contents.btf) {
    contents.btf = shape.btf;
    contents.key_type = shape.key_type;
    contents.value_type = shape.value_type;
    contents.problems.add_all(shape.problems);
  }
  contents.hidden = shape.hidden;
  name_functions(context, contents);
  return contents;
}

Result<void> find_by_index(MapReadContext& context, const MapInfo& map, ByteSpan key,
                           ContentsBuilder& builder) {
  const std::uint64_t index = load_le(key.data(), std::min<std::size_t>(key.size(), 8));
  // Stack traces have their ids from a table of the next power of two.
  if (index >= std::bit_ceil(map.max_entries)) return {};
  builder.set_part({.from = {.position = index}, .limit = 1});
  const auto readers = find_reader(map.type);
  GS_CHECK(readers->list(context, map, builder));
  // A list that leaves out what is empty goes on to the next that is not.
  builder.keep_if([&](const MapContents& contents, std::size_t record) {
    return contents.key_number(record) == index;
  });
  return {};
}

Result<void> find_by_listing(MapReadContext& context, const MapInfo& map, ByteSpan key,
                             ContentsBuilder& builder) {
  const MapReader& reader = *find_reader(map.type);
  for (MapPart part{};;) {
    std::size_t budget = kMaxContentBytes;
    ContentsBuilder listed = start(context, reader, map, part, budget);
    GS_CHECK(reader.list(context, map, listed));
    listed.keep_if([&](const MapContents& contents, std::size_t record) {
      return std::ranges::equal(contents.key(record), key);
    });
    const MapContents& contents = listed.contents();
    if (contents.size() == 0 && contents.next && contents.next > part.from) {
      part.from = *contents.next;
      continue;
    }
    builder.take(listed);
    return {};
  }
}

}  // namespace guestscope
