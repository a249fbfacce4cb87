// The questions that can be asked about a guest's kernel once its accessors are there.
#include "introspect/guest_kernel.h"
#include "introspect/kernel_stats.h"
#include "introspect/topology.h"

namespace guestscope {

namespace {

Error why_not(const AccessorStatus& status, std::string_view what) {
  if (status.last_error) {
    // Whatever the attempt ran into, for the one who asks it means "not yet" unless it is for good.
    Error error = *status.last_error;
    if (is_transient(error.code)) error.code = ErrorCode::kNotReady;
    return error;
  }
  return {.code = ErrorCode::kNotReady,
          .message = fmt::format("no attempt to find the {} yet", what)};
}

}  // namespace

Result<MapList> GuestKernel::maps(PhysMemory& memory) {
  const MapAccessor* accessor = maps_.get();
  if (accessor == nullptr) return std::unexpected(why_not(maps_.status(), "maps"));
  KernelMemory reader(memory, *accessor->location.regime, accessor->location.linear);
  auto list = read_maps(reader, *model_->maps, *accessor);
  known_maps_.clear();
  if (list)
    for (const MapInfo& map : list->maps) known_maps_.emplace(map.id, map);
  return list;
}

Result<MapInfo> GuestKernel::known_map(PhysMemory& memory, std::uint64_t id) {
  const MapAccessor* accessor = maps_.get();
  if (accessor == nullptr) return std::unexpected(why_not(maps_.status(), "maps"));
  const auto known = known_maps_.find(id);
  if (known == known_maps_.end())
    return fail(ErrorCode::kNotFound, "no map with id {} is known", id);
  KernelMemory reader(memory, *accessor->location.regime, accessor->location.linear);
  return read_map_again(reader, *model_->maps, known->second);
}

Result<MapContents> GuestKernel::with_map_context(PhysMemory& memory, std::size_t& budget,
                                                  const ReadMap& read) {
  const MapAccessor* accessor = maps_.get();
  if (accessor == nullptr) return std::unexpected(why_not(maps_.status(), "maps"));
  KernelMemory reader(memory, *accessor->location.regime, accessor->location.linear);
  MapReadContext context{.memory = reader,
                         .location = accessor->location,
                         .model = *model_->maps,
                         .layouts = *layouts_,
                         .types = types_,
                         .budget = budget,
                         .per_cpu = per_cpu_.get(),
                         .hash_proven = hash_proven_};
  return read(context);
}

Result<MapContents> GuestKernel::map_contents(PhysMemory& memory, const MapInfo& map,
                                              const MapPart& part, std::size_t& budget) {
  return with_map_context(memory, budget, [&](MapReadContext& context) {
    return read_map_contents(context, map, part);
  });
}

Result<MapContents> GuestKernel::map_entry(PhysMemory& memory, const MapInfo& map,
                                           const MakeKey& make_key) {
  std::size_t budget = kMaxContentBytes;
  return with_map_context(memory, budget, [&](MapReadContext& context) {
    return read_map_entry(context, map, make_key);
  });
}

Result<ProgReadContext> GuestKernel::prog_context(PhysMemory& memory) {
  const ProgAccessor* accessor = progs_.get();
  const PerCpuOffsets* per_cpu = per_cpu_.get();
  if (accessor == nullptr) return std::unexpected(why_not(progs_.status(), "programs"));
  if (per_cpu == nullptr) return std::unexpected(why_not(per_cpu_.status(), "per-CPU offsets"));
  return ProgReadContext{
      .memory = KernelMemory(memory, *accessor->location.regime, accessor->location.linear),
      .model = *model_->progs,
      .layouts = *layouts_,
      .accessor = *accessor,
      .per_cpu = *per_cpu};
}

Result<ProgList> GuestKernel::progs(PhysMemory& memory) {
  GS_ASSIGN(ProgReadContext context, prog_context(memory));
  return read_progs(context);
}

Result<Bytes> GuestKernel::prog_code(PhysMemory& memory, const ProgInfo& prog, ProgCode which) {
  GS_ASSIGN(ProgReadContext context, prog_context(memory));
  return read_prog_code(context, prog, which);
}

Result<LinkList> GuestKernel::links(PhysMemory& memory) {
  GS_ASSIGN(ProgReadContext context, prog_context(memory));
  return read_links(context);
}

Result<BtfObjectList> GuestKernel::btf_objects(PhysMemory& memory) {
  GS_ASSIGN(ProgReadContext context, prog_context(memory));
  return read_btf_objects(context);
}

Result<Bytes> GuestKernel::btf_bytes(PhysMemory& memory, const BtfInfo& object) {
  GS_ASSIGN(ProgReadContext context, prog_context(memory));
  return read_btf_bytes(context, object);
}

template <typename Read>
auto GuestKernel::with_scheduler(PhysMemory& memory, Read read)
    -> std::invoke_result_t<Read, SchedContext&> {
  const PerCpuOffsets* per_cpu = per_cpu_.get();
  if (per_cpu == nullptr) return std::unexpected(why_not(per_cpu_.status(), "per-CPU offsets"));
  if (!model_->run_queues) return std::unexpected(model_->run_queues.error());
  KernelMemory reader(memory, *per_cpu->location.regime, per_cpu->location.linear);
  SchedContext context{.memory = reader,
                       .layouts = *layouts_,
                       .model = *model_,
                       .queues = *model_->run_queues,
                       .per_cpu = *per_cpu};
  return read(context);
}

Result<RunQueueList> GuestKernel::run_queues(PhysMemory& memory, bool with_tasks) {
  return with_scheduler(
      memory, [with_tasks](SchedContext& context) { return read_run_queues(context, with_tasks); });
}

Result<TaskList> GuestKernel::tasks(PhysMemory& memory) {
  return with_scheduler(memory, [](SchedContext& context) { return read_all_tasks(context); });
}

Result<ScxReport> GuestKernel::scx(PhysMemory& memory) {
  return with_scheduler(memory, [](SchedContext& context) { return read_scx(context); });
}

Result<FactReport> GuestKernel::topology(PhysMemory& memory) {
  return with_scheduler(memory, [](SchedContext& context) { return read_topology(context); });
}

Result<FactReport> GuestKernel::stats(PhysMemory& memory) {
  return with_scheduler(memory, [](SchedContext& context) { return read_kernel_stats(context); });
}

}  // namespace guestscope
