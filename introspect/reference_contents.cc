// Maps whose entries are other objects of the kernel: programs (prog arrays), maps (arrays and
// hashes of maps), perf events, cgroups. All but the hash are tables of pointers in the place of an
// array's elements. Source of truth: kernel/bpf/arraymap.c, hashtab.c (fd_htab_map),
// map_in_map.c.
#include <algorithm>

#include "introspect/enum_names.h"
#include "introspect/map_slots.h"
#include "introspect/object_ids.h"
#include "introspect/owners.h"
#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

// What looking up a key gives where the map's operations cannot turn the object into a number:
// bpf_fd_array_map_lookup_elem(). It is no errno of user space's.
constexpr int kNotSupported = 524;  // ENOTSUPP of include/linux/errno.h

using ReadIds = std::vector<Result<ObjectId>> (*)(KernelMemory&, Layouts&,
                                                  std::span<const GuestVirt>);

/// What an entry's object is called in facts and problems.
struct Kind {
  const char* id;    // "prog_id"
  const char* name;  // "prog_name"
  ReadIds read;
};
constexpr Kind kPrograms = {.id = "prog_id", .name = "prog_name", .read = read_prog_ids};
constexpr Kind kMaps = {.id = "map_id", .name = "map_name", .read = read_map_ids};

Facts facts_of(const Kind& kind, const Result<ObjectId>& object) {
  if (!object) return {{.name = kind.id, .value = {}}};
  Facts facts{{.name = kind.id, .value = object->id}};
  if (!object->name.empty()) facts.push_back({.name = kind.name, .value = object->name});
  return facts;
}

GuestVirt table_of(const MapReadContext& context, const MapInfo& map) {
  return map.address.wrapping_add(context.model.array[MapModel::kValues].offset);
}

void list_objects(MapReadContext& context, const MapInfo& map, const Kind& kind,
                  ContentsBuilder& builder) {
  begin_slots(map, true, builder);
  const auto slots = read_slots(context, map, table_of(context, map), builder);
  const auto ids = kind.read(context.memory, context.layouts, pointers_of(slots));
  for (std::size_t i = 0; i < slots.size(); ++i) {
    if (!ids[i])
      builder.problems().add(fmt::format("{}.{}", place_of(slots[i]), kind.id), ids[i].error());
    add_slot(slots[i], ids[i] ? std::optional(ids[i]->id) : std::nullopt, facts_of(kind, ids[i]),
             builder);
  }
}

Result<void> list_programs(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder) {
  list_objects(context, map, kPrograms, builder);
  return {};
}

Result<void> list_maps(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder) {
  list_objects(context, map, kMaps, builder);
  return {};
}

// --- hash of maps ---

/// The same table as one that maps keys to the pointers themselves.
MapInfo as_pointers(const MapInfo& map) {
  MapInfo pointers = map;
  pointers.type = "hash";
  pointers.value_size = 8;
  return pointers;
}

const MapReader& hash_reader() {
  return *std::ranges::find(hash_readers(), std::string_view("hash"), &MapReader::type);
}

/// Puts ids in the place of the pointers that the records were filled with. Records that are not
/// listed are free elements, whatever they hold.
void resolve_pointers(MapReadContext& context, ContentsBuilder& builder) {
  builder.show_facts_only();
  const std::vector<std::uint32_t> places = builder.listed();
  std::vector<GuestVirt> pointers;
  pointers.reserve(places.size());
  for (const std::uint32_t place : places)
    pointers.emplace_back(load_le(builder.value_of(place, 0).data(), 8));
  const auto ids = read_map_ids(context.memory, context.layouts, pointers);
  for (std::size_t i = 0; i < places.size(); ++i) {
    const std::uint64_t id = ids[i] ? ids[i]->id : 0;
    const auto value = builder.value_of(places[i], 0);
    for (std::size_t at = 0; at < 8; ++at)
      value[at] = static_cast<std::byte>(id >> (8 * at) & 0xff);
    if (!ids[i]) {
      builder.unreadable(places[i], 0);
      builder.problems().add(fmt::format("entries[{}].map_id", i), ids[i].error());
    }
    builder.set_facts(places[i], facts_of(kMaps, ids[i]));
  }
}

Result<void> list_map_hash(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder) {
  GS_CHECK(hash_reader().list(context, as_pointers(map), builder));
  resolve_pointers(context, builder);
  return {};
}

Result<void> find_in_map_hash(MapReadContext& context, const MapInfo& map, ByteSpan key,
                              ContentsBuilder& builder) {
  GS_CHECK(hash_reader().find(context, as_pointers(map), key, builder));
  resolve_pointers(context, builder);
  return {};
}

// --- perf events and cgroups ---

enum Entry : std::size_t { kEvent };
constexpr FieldNeed kEntryFields[] = {{"event"}};
constexpr StructNeed kEntry = {"bpf_event_entry", kEntryFields};
enum Event : std::size_t { kType, kConfig, kCpu, kTarget, kOwner };
constexpr FieldNeed kEventFields[] = {
    {"attr.type"}, {"attr.config"}, {"cpu"}, {"hw.target", kOptional}, {"owner", kOptional}};
constexpr StructNeed kEventNeed = {"perf_event", kEventFields};

/// Facts of the events, and of the tasks that they watch and belong to.
class EventBatch {
 public:
  EventBatch(MapReadContext& context, Problems& problems) : context_(context), problems_(problems) {
    const Btf& btf = context.layouts.kernel().btf();
    if (auto names = EnumNames::of(btf, "perf_type_id", "PERF_TYPE_")) types_ = *std::move(names);
    if (auto names = EnumNames::of(btf, "perf_sw_ids", "PERF_COUNT_SW_"))
      software_ = *std::move(names);
    if (auto names = EnumNames::of(btf, "perf_hw_id", "PERF_COUNT_HW_"))
      hardware_ = *std::move(names);
  }

  Result<std::vector<Result<Facts>>> describe(std::span<const GuestVirt> entries) {
    GS_ASSIGN(const StructLayout* entry, context_.layouts.get(kEntry));
    GS_ASSIGN(const StructLayout* event, context_.layouts.get(kEventNeed));
    std::vector<GuestVirt> events(entries.size());
    read_structs(context_.memory, *entry, entries,
                 [&](std::size_t i, const Result<StructView>& view) {
                   if (view) events[i] = view->pointer(kEvent);
                 });
    std::vector<Result<Facts>> described(entries.size());
    std::vector<GuestVirt> targets(entries.size()), owners(entries.size());
    read_structs(context_.memory, *event, events,
                 [&](std::size_t i, const Result<StructView>& view) {
                   if (!view) {
                     described[i] = std::unexpected(view.error());
                     return;
                   }
                   described[i] = facts_of_event(*view);
                   targets[i] = view->pointer(kTarget);
                   owners[i] = view->pointer(kOwner);
                 });
    add_tasks("task", targets, described);
    add_tasks("owner", owners, described);
    return described;
  }

 private:
  Facts facts_of_event(const StructView& view) const {
    const std::uint64_t type = view.u64(kType), config = view.u64(kConfig);
    const std::string type_name = types_.name_or_number(type, "type");
    Facts facts{{.name = "type", .value = type_name}, {.name = "config", .value = config}};
    const EnumNames* names = type_name == "software"   ? &software_
                             : type_name == "hardware" ? &hardware_
                                                       : nullptr;
    const auto name = names == nullptr ? std::nullopt : names->name(config);
    if (name) facts.push_back({.name = "event", .value = std::string(*name)});
    facts.push_back({.name = "cpu", .value = view.s64(kCpu)});
    return facts;
  }

  void add_tasks(const char* name, std::span<const GuestVirt> tasks,
                 std::vector<Result<Facts>>& described) {
    auto facts = describe_tasks(context_.memory, context_.layouts, tasks);
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      if (!described[i] || tasks[i].is_null()) continue;
      if (!facts[i])
        problems_.add(fmt::format("task at {:#x}", tasks[i].value()), facts[i].error());
      described[i]->push_back(
          {.name = name, .value = facts[i] ? FactValue(*std::move(facts[i])) : FactValue()});
    }
  }

  MapReadContext& context_;
  Problems& problems_;
  EnumNames types_;
  EnumNames software_;
  EnumNames hardware_;
};

Result<void> list_perf_events(MapReadContext& context, const MapInfo& map,
                              ContentsBuilder& builder) {
  begin_slots(map, false, builder);
  builder.set_lookup_error(kNotSupported);
  const auto slots = read_slots(context, map, table_of(context, map), builder);
  GS_ASSIGN(auto described, EventBatch(context, builder.problems()).describe(pointers_of(slots)));
  for (std::size_t i = 0; i < slots.size(); ++i) {
    if (!described[i]) builder.problems().add(place_of(slots[i]), described[i].error());
    add_slot(slots[i], 0, described[i] ? *std::move(described[i]) : Facts(), builder);
  }
  return {};
}

Result<void> list_cgroups(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder) {
  begin_slots(map, false, builder);
  builder.set_lookup_error(kNotSupported);
  const auto slots = read_slots(context, map, table_of(context, map), builder);
  describe_in_steps(
      context, pointers_of(slots), builder,
      [&](std::span<const GuestVirt> cgroups) {
        return describe_cgroups(context.memory, context.layouts, cgroups, builder.problems());
      },
      [&](std::size_t i, Result<Facts> facts) {
        if (!facts) builder.problems().add(place_of(slots[i]), facts.error());
        add_slot(slots[i], 0, facts ? *std::move(facts) : Facts(), builder);
      });
  return {};
}

}  // namespace

std::span<const MapReader> reference_readers() {
  static constexpr MapReader kReaders[] = {
      {.type = "prog_array", .list = list_programs, .find = find_by_index},
      {.type = "array_of_maps", .list = list_maps, .find = find_by_index},
      {.type = "hash_of_maps", .list = list_map_hash, .find = find_in_map_hash},
      {.type = "perf_event_array", .list = list_perf_events, .find = find_by_index},
      {.type = "cgroup_array", .list = list_cgroups, .find = find_by_index}};
  return kReaders;
}

}  // namespace guestscope
