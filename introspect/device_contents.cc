// Maps of XDP: where packets go on. Devices (devmap, devmap_hash), CPUs (cpumap), AF_XDP sockets
// (xskmap). Source of truth: kernel/bpf/devmap.c, kernel/bpf/cpumap.c, net/xdp/xskmap.c.
#include <cerrno>

#include "introspect/hlist_walk.h"
#include "introspect/limits.h"
#include "introspect/map_slots.h"
#include "introspect/sockets.h"
#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

enum Table : std::size_t { kSlots, kBuckets, kBucketCount };
constexpr FieldNeed kTableFields[] = {
    {"netdev_map"}, {"dev_index_head", kOptional}, {"n_buckets", kOptional}};
constexpr StructNeed kTable = {"bpf_dtab", kTableFields};
enum DevEntry : std::size_t { kDevice, kIndex, kNode, kValue, kProgId };
constexpr FieldNeed kDevEntryFields[] = {
    {"dev"}, {"idx"}, {"index_hlist.next"}, {"val"}, {"val.bpf_prog.id"}};
constexpr StructNeed kDevEntry = {"bpf_dtab_netdev", kDevEntryFields};

enum NetDevice : std::size_t { kIfindex, kIfname };
constexpr FieldNeed kDeviceFields[] = {{"ifindex"}, {"name"}};
constexpr StructNeed kNetDevice = {"net_device", kDeviceFields};

enum CpuMap : std::size_t { kCpuTable };
constexpr FieldNeed kCpuMapFields[] = {{"cpu_map"}};
constexpr StructNeed kCpuMap = {"bpf_cpu_map", kCpuMapFields};
enum CpuEntry : std::size_t { kCpuValue, kQueueSize, kCpuProgId };
constexpr FieldNeed kCpuEntryFields[] = {{"value"}, {"value.qsize"}, {"value.bpf_prog.id"}};
constexpr StructNeed kCpuEntry = {"bpf_cpu_map_entry", kCpuEntryFields};

enum XskMap : std::size_t { kXskTable };
constexpr FieldNeed kXskMapFields[] = {{"xsk_map"}};
constexpr StructNeed kXskMap = {"xsk_map", kXskMapFields};
enum Xsk : std::size_t { kXskDevice, kQueue, kZeroCopy };
constexpr FieldNeed kXskFields[] = {{"dev"}, {"queue_id"}, {"zc", kOptional}};
constexpr StructNeed kXsk = {"xdp_sock", kXskFields};

/// One structure, read on its own.
template <typename Use>
Result<void> with_struct(MapReadContext& context, const StructNeed& need, GuestVirt at, Use use) {
  GS_ASSIGN(const StructLayout* layout, context.layouts.get(need));
  StructBatch batch(*layout);
  batch.add(at);
  batch.read(context.memory);
  GS_ASSIGN(const StructView view, batch[0]);
  return use(*layout, view);
}

/// ifindex and ifname of each device; of a null pointer, nothing.
Result<std::vector<Facts>> describe_devices(MapReadContext& context,
                                            std::span<const GuestVirt> devices,
                                            Problems& problems) {
  GS_ASSIGN(const StructLayout* layout, context.layouts.get(kNetDevice));
  std::vector<Facts> described(devices.size());
  read_structs(
      context.memory, *layout, devices, [&](std::size_t i, const Result<StructView>& view) {
        if (devices[i].is_null()) return;
        if (!view) problems.add(fmt::format("device at {:#x}", devices[i].value()), view.error());
        described[i] = {
            {.name = "ifindex", .value = view ? FactValue(view->u64(kIfindex)) : FactValue()},
            {.name = "ifname",
             .value = view ? FactValue(std::string(view->text(kIfname))) : FactValue()}};
      });
  return described;
}

/// One entry of a device map, as far as it is in the map itself.
struct Target {
  std::uint32_t key = 0;
  GuestVirt device;
  Bytes value;  // empty: not read
  std::uint64_t prog_id = 0;
};

Target decode_target(const StructView& view) {
  const ByteSpan value = view.bytes(kValue);
  return {.key = static_cast<std::uint32_t>(view.u64(kIndex)),
          .device = view.pointer(kDevice),
          .value = Bytes(value.begin(), value.end()),
          .prog_id = view.u64(kProgId)};
}

/// Adds an entry for each. Only values of 8 bytes have room for a program.
Result<void> add_targets(MapReadContext& context, const MapInfo& map,
                         std::span<const Target> targets, ContentsBuilder& builder) {
  std::vector<GuestVirt> devices;
  for (const Target& target : targets) devices.push_back(target.device);
  GS_ASSIGN(auto described, describe_devices(context, devices, builder.problems()));
  for (std::size_t i = 0; i < targets.size(); ++i) {
    if (targets[i].prog_id != 0 && map.value_size >= sizeof(std::uint64_t))
      described[i].push_back({.name = "prog_id", .value = targets[i].prog_id});
    const ByteSpan value =
        ByteSpan(targets[i].value)
            .first(std::min<std::uint64_t>(map.value_size, targets[i].value.size()));
    const std::size_t record = builder.add(targets[i].key, value);
    if (value.empty()) builder.unreadable(record, 0);
    builder.set_facts(record, std::move(described[i]));
  }
  return {};
}

Result<void> list_devices(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder) {
  GS_ASSIGN(const StructLayout* entry, context.layouts.get(kDevEntry));
  begin_slots(map, true, builder);
  return with_struct(context, kTable, map.address, [&](const auto&, const StructView& table) {
    const auto slots = read_slots(context, map, table.pointer(kSlots), builder);
    std::vector<Target> targets;
    read_structs(context.memory, *entry, pointers_of(slots),
                 [&](std::size_t i, const Result<StructView>& view) {
                   if (!view) builder.problems().add(place_of(slots[i]), view.error());
                   targets.push_back(view ? decode_target(*view) : Target());
                   targets.back().key = slots[i].index;
                 });
    return add_targets(context, map, targets, builder);
  });
}

Result<void> list_device_hash(MapReadContext& context, const MapInfo& map,
                              ContentsBuilder& builder) {
  GS_ASSIGN(const StructLayout* entry, context.layouts.get(kDevEntry));
  begin_slots(map, true, builder);
  builder.set_keys(KeyForm::kBytes);
  return with_struct(
      context, kTable, map.address,
      [&](const StructLayout& layout, const StructView& table) -> Result<void> {
        if (!layout[kBuckets].present || !layout[kBucketCount].present)
          return fail(ErrorCode::kUnsupported, "the kernel's types describe no hash of devices");
        const HlistTable chains{.buckets = table.pointer(kBuckets),
                                .count = table.u64(kBucketCount),
                                .node = (*entry)[kNode].offset,
                                .element_bytes = entry->extent()};
        std::vector<Target> targets;
        GS_ASSIGN(auto order, walk_hlists(
                                  context.memory, chains,
                                  [&](GuestVirt, ByteSpan bytes) {
                                    if (!take_entry(context, builder, targets.size())) return false;
                                    const auto view = StructView::over(*entry, bytes);
                                    if (view) targets.push_back(decode_target(*view));
                                    return view.has_value();
                                  },
                                  builder.problems()));
        GS_CHECK(add_targets(context, map, targets, builder));
        builder.set_order(std::move(order));
        return {};
      });
}

Result<void> list_cpus(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder) {
  GS_ASSIGN(const StructLayout* entry, context.layouts.get(kCpuEntry));
  begin_slots(map, true, builder);
  return with_struct(
      context, kCpuMap, map.address, [&](const auto&, const StructView& table) -> Result<void> {
        const auto slots = read_slots(context, map, table.pointer(kCpuTable), builder);
        read_structs(context.memory, *entry, pointers_of(slots),
                     [&](std::size_t i, const Result<StructView>& view) {
                       if (!view) {
                         builder.problems().add(place_of(slots[i]), view.error());
                         add_slot(slots[i], std::nullopt, {}, builder);
                         return;
                       }
                       Facts facts{{.name = "qsize", .value = view->u64(kQueueSize)}};
                       const std::uint64_t prog_id = view->u64(kCpuProgId);
                       if (prog_id != 0 && map.value_size >= sizeof(std::uint64_t))
                         facts.push_back({.name = "prog_id", .value = prog_id});
                       add_slot(slots[i], view->u64(kCpuValue), std::move(facts), builder);
                     });
        return {};
      });
}

Result<void> list_xdp_sockets(MapReadContext& context, const MapInfo& map,
                              ContentsBuilder& builder) {
  GS_ASSIGN(const StructLayout* table, context.layouts.get(kXskMap));
  GS_ASSIGN(const StructLayout* xsk, context.layouts.get(kXsk));
  begin_slots(map, false, builder);
  builder.set_lookup_error(EOPNOTSUPP);  // xsk_map_lookup_elem_sys_only()
  const auto slots =
      read_slots(context, map, map.address.wrapping_add((*table)[kXskTable].offset), builder);
  const auto pointers = pointers_of(slots);
  std::vector<GuestVirt> devices(slots.size());
  std::vector<Facts> queues(slots.size());
  read_structs(context.memory, *xsk, pointers, [&](std::size_t i, const Result<StructView>& view) {
    if (!view) return;  // describe_sockets() will say why
    devices[i] = view->pointer(kXskDevice);
    queues[i] = {{.name = "queue_id", .value = view->u64(kQueue)}};
    if (view->has(kZeroCopy))
      queues[i].push_back({.name = "zero_copy", .value = view->u64(kZeroCopy) != 0});
  });
  GS_ASSIGN(auto described, describe_devices(context, devices, builder.problems()));
  // A struct xdp_sock begins with its struct sock.
  const auto sockets =
      describe_sockets(context.memory, context.layouts, pointers, builder.problems());
  for (std::size_t i = 0; i < slots.size(); ++i) {
    Facts& facts = described[i];
    facts.insert(facts.end(), queues[i].begin(), queues[i].end());
    if (!sockets[i]) builder.problems().add(place_of(slots[i]), sockets[i].error());
    facts.push_back({.name = "socket", .value = sockets[i] ? FactValue(*sockets[i]) : FactValue()});
    add_slot(slots[i], 0, std::move(facts), builder);
  }
  return {};
}

}  // namespace

std::span<const MapReader> device_readers() {
  static constexpr MapReader kReaders[] = {
      {.type = "devmap", .list = list_devices, .find = find_by_index},
      {.type = "devmap_hash", .list = list_device_hash, .find = find_by_listing},
      {.type = "cpumap", .list = list_cpus, .find = find_by_index},
      {.type = "xskmap", .list = list_xdp_sockets, .find = find_by_index}};
  return kReaders;
}

}  // namespace guestscope
