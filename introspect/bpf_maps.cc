#include "introspect/bpf_maps.h"

#include <unordered_map>

#include "introspect/idr.h"
#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

using Map = MapModel::Map;

MapInfo decode_map(const MapModel& model, const IdrEntry& entry, const StructView& view) {
  const std::uint64_t flags = view.u64(Map::kFlags);
  return {.id = entry.id,
          .address = entry.pointer,
          .name = std::string(view.text(Map::kName)),
          .type = model.types.name_or_number(view.u64(Map::kType), "type"),
          .key_size = view.u64(Map::kKeySize),
          .value_size = view.u64(Map::kValueSize),
          .max_entries = view.u64(Map::kMaxEntries),
          .flags = flags,
          .extra = view.u64(Map::kExtra),
          .flag_names = model.flags.flags(flags),
          .frozen = view.u64(Map::kFrozen) != 0,
          .btf_object = view.pointer(Map::kBtf),
          .btf_id = 0,
          .btf_key_type_id = static_cast<TypeId>(view.u64(Map::kKeyTypeId)),
          .btf_value_type_id = static_cast<TypeId>(view.u64(Map::kValueTypeId)),
          .btf_vmlinux_value_type_id = static_cast<TypeId>(view.u64(Map::kVmlinuxValueTypeId))};
}

/// Fills in the id of each map's BTF object; several maps share one.
void read_btf_ids(KernelMemory& memory, const BtfObjectModel& model, MapList& list) {
  StructBatch objects(model.layout);
  std::unordered_map<std::uint64_t, std::size_t> index_of;
  for (const MapInfo& map : list.maps)
    if (!map.btf_object.is_null() && !index_of.contains(map.btf_object.value()))
      index_of.emplace(map.btf_object.value(), objects.add(map.btf_object));
  objects.read(memory);
  for (std::size_t i = 0; i < list.maps.size(); ++i) {
    MapInfo& map = list.maps[i];
    if (map.btf_object.is_null()) continue;
    const auto object = objects[index_of.at(map.btf_object.value())];
    if (object)
      map.btf_id = object->u64(BtfObjectModel::kId);
    else
      list.problems.add(fmt::format("maps with id {}.btf_id", map.id), object.error());
  }
}

}  // namespace

Result<MapList> read_maps(KernelMemory& memory, const MapModel& model,
                          const MapAccessor& accessor) {
  MapList list;
  GS_ASSIGN(const auto entries,
            read_idr(memory, model.idr, accessor.map_idr, "maps", list.problems));
  StructBatch batch(model.map);
  for (const IdrEntry& entry : entries) batch.add(entry.pointer);
  batch.read(memory);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const auto view = batch[i];
    if (!view)
      list.problems.add(fmt::format("maps with id {}", entries[i].id), view.error());
    else if (view->u64(Map::kRefcount) !=
             0)  // zero: nobody can reach it any more, it is about to be freed
      list.maps.push_back(decode_map(model, entries[i], *view));
  }
  read_btf_ids(memory, model.btf, list);
  return list;
}

Result<MapInfo> read_map_again(KernelMemory& memory, const MapModel& model, const MapInfo& known) {
  StructBatch batch(model.map);
  batch.add(known.address);
  batch.read(memory);
  const auto gone = [&] { return fail(ErrorCode::kNotFound, "map {} is gone", known.id); };
  const auto view = batch[0];
  if (!view) {
    if (view.error().code == ErrorCode::kNotMapped) return gone();
    return std::unexpected(view.error());
  }
  // Ids are given anew only after four billion others.
  MapInfo now = decode_map(model, {.id = view->u64(Map::kId), .pointer = known.address}, *view);
  now.btf_id = known.btf_id;
  const bool same = now.id == known.id && now.type == known.type && now.name == known.name &&
                    now.key_size == known.key_size && now.value_size == known.value_size &&
                    now.max_entries == known.max_entries && now.btf_object == known.btf_object;
  if (!same || view->u64(Map::kRefcount) == 0) return gone();
  return now;
}

}  // namespace guestscope
