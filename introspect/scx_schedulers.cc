#include "introspect/scx_schedulers.h"

#include <algorithm>

#include "introspect/bpf_maps.h"
#include "introspect/struct_batch.h"
#include "introspect/text_batch.h"

namespace guestscope {

namespace {

enum Sched : std::size_t {
  kName,
  kFlags,
  kQueueTable,
  kExitInfo,
  kCgroupId,
  kLevel,
  kBypassDepth,
  kAborting,
  kId,
  kSlice,
  kWatchdog,
  kCgroupPath,
  kAll,
  kNext,
  kPerCpu,
  kEvents,
  kNodes,
  kNodeQueues,
};
constexpr FieldNeed kSchedFields[] = {{"ops.name"},
                                      {"ops.flags"},
                                      {"dsq_hash.tbl"},
                                      {"exit_info"},
                                      {"ops.sub_cgroup_id", kOptional},
                                      {"level", kOptional},
                                      {"bypass_depth", kOptional},
                                      {"aborting", kOptional},
                                      {"id", kOptional},
                                      {"slice_dfl", kOptional},
                                      {"watchdog_timeout", kOptional},
                                      {"cgrp_path", kOptional},
                                      {"all", kOptional},
                                      {"all.next", kOptional},
                                      {"pcpu", kOptional},
                                      {"event_stats_cpu", kOptional},
                                      {"pnode", kOptional},
                                      {"global_dsqs", kOptional}};
constexpr StructNeed kSched = {"scx_sched", kSchedFields};

enum Exit : std::size_t { kKind, kExitCode, kReason, kMessage, kExitFlags, kExitCpu };
constexpr FieldNeed kExitFields[] = {{"kind"}, {"exit_code"},        {"reason"},
                                     {"msg"},  {"flags", kOptional}, {"exit_cpu", kOptional}};
constexpr StructNeed kExit = {"scx_exit_info", kExitFields};

constexpr FieldNeed kPerCpuQueueFields[] = {{"bypass_dsq"}};
constexpr StructNeed kPerCpuQueue = {"scx_sched_pcpu", kPerCpuQueueFields};
constexpr FieldNeed kPerCpuEventFields[] = {{"event_stats"}};
constexpr StructNeed kPerCpuEvents = {"scx_sched_pcpu", kPerCpuEventFields};
constexpr FieldNeed kNodeFields[] = {{"global_dsq"}};
constexpr StructNeed kNode = {"scx_sched_pnode", kNodeFields};

/// The kernel's copy of a scheduler's functions. While they are registered, `priv` is the
/// scheduler.
constexpr FieldNeed kTableFields[] = {{"data.priv"}};
constexpr StructNeed kTables[] = {{"bpf_struct_ops_sched_ext_ops", kTableFields},
                                  {"bpf_struct_ops_sched_ext_ops_cid", kTableFields}};

/// Of nodes of memory; kernels are built for at most 1024.
constexpr std::uint64_t kMaxNodes = 1024;

ScxScheduler decode(const StructView& view, GuestVirt address) {
  const auto number = [&](std::size_t field) {
    return view.has(field) ? std::optional(view.u64(field)) : std::nullopt;
  };
  const auto depth = [&](std::size_t field) {
    return view.has(field) ? std::optional(view.s64(field)) : std::nullopt;
  };
  ScxScheduler scheduler{.address = address,
                         .name = std::string(view.text(kName)),
                         .flags = view.u64(kFlags),
                         .level = depth(kLevel),
                         .bypass_depth = depth(kBypassDepth),
                         .aborting = std::nullopt,
                         .id = number(kId),
                         .cgroup_id = number(kCgroupId),
                         .slice_ns = number(kSlice),
                         .watchdog_ticks = number(kWatchdog),
                         .cgroup_path = view.pointer(kCgroupPath),
                         .exit_info = view.pointer(kExitInfo),
                         .queue_table = view.pointer(kQueueTable),
                         .next = view.pointer(kNext),
                         .per_cpu = view.pointer(kPerCpu),
                         .events = view.pointer(kEvents),
                         .nodes = view.pointer(view.has(kNodes) ? kNodes : kNodeQueues),
                         .nodes_are_queues = !view.has(kNodes)};
  if (view.has(kAborting)) scheduler.aborting = view.u64(kAborting) != 0;
  return scheduler;
}

std::optional<GuestVirt> variable(SchedContext& context, std::string_view name) {
  const auto symbol = context.layouts.kernel().symbols().find(name);
  return symbol ? std::optional(context.location().at(symbol->value)) : std::nullopt;
}

Result<ScxScheduler> read_scheduler(SchedContext& context, GuestVirt address) {
  GS_ASSIGN(const StructLayout* layout, context.layouts.get(kSched));
  StructBatch batch(*layout);
  batch.add(address);
  batch.read(context.memory);
  GS_ASSIGN(const StructView view, batch[0]);
  return decode(view, address);
}

/// Pointers to the schedulers of tables of functions that are maps.
std::vector<GuestVirt> registered(SchedContext& context, Problems& problems) {
  std::vector<GuestVirt> found;
  if (!context.model.maps || !context.model.maps->struct_ops) return found;
  const MapModel& model = *context.model.maps;
  const MapAccessor accessor{.location = context.location(),
                             .map_idr = context.location().at(model.idr_symbol)};
  const auto maps = read_maps(context.memory, model, accessor);
  if (!maps) {
    problems.add("exit", maps.error());
    return found;
  }
  ReadBatch pointers;
  for (const StructNeed& table : kTables) {
    const auto layout = context.layouts.get(table);
    if (!layout) continue;
    const std::uint64_t offset =
        std::uint64_t{(*model.struct_ops)[MapModel::kKernelValue].offset} + (**layout)[0].offset;
    for (const MapInfo& map : maps->maps)
      if (map.type == "struct_ops" && map.btf_vmlinux_value_type_id == (*layout)->type())
        pointers.add(map.address.wrapping_add(offset), 8);
  }
  pointers.read(context.memory);
  for (std::size_t i = 0; i < pointers.size(); ++i)
    if (const auto bytes = pointers[i])
      if (const GuestVirt at(load_le(bytes->data(), 8)); !at.is_null()) found.push_back(at);
  return found;
}

/// Where the counts of events lie in the per-CPU object, and its address.
struct EventPlace {
  GuestVirt per_cpu;
  std::uint64_t offset = 0;
};

std::optional<EventPlace> event_place(SchedContext& context, const ScxScheduler& scheduler) {
  if (!scheduler.events.is_null()) return EventPlace{.per_cpu = scheduler.events};
  const auto layout = context.layouts.get(kPerCpuEvents);
  if (!layout || scheduler.per_cpu.is_null()) return std::nullopt;
  return EventPlace{.per_cpu = scheduler.per_cpu, .offset = (**layout)[0].offset};
}

/// SCX_EV_SELECT_CPU_FALLBACK is "select_cpu_fallback".
std::string event_name(std::string_view member) {
  constexpr std::string_view kPrefix = "SCX_EV_";
  if (member.starts_with(kPrefix)) member.remove_prefix(kPrefix.size());
  std::string name(member);
  for (char& c : name)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return name;
}

void add_global_queues(SchedContext& context, const ScxScheduler& scheduler,
                       std::vector<ScxQueuePlace>& places, Problems& problems) {
  if (scheduler.nodes.is_null()) return;
  const auto layout = context.layouts.get(kNode);
  if (!scheduler.nodes_are_queues && !layout) return;
  std::uint64_t nodes = 1;  // a kernel without NUMA
  if (const auto symbol = variable(context, "nr_node_ids"))
    if (const auto count = context.memory.read_number(*symbol, 4))
      nodes = std::min(*count, kMaxNodes);
  const auto pointers = context.memory.read_bytes(scheduler.nodes, nodes * 8);
  if (!pointers) return problems.add("dsqs", pointers.error());
  for (unsigned node = 0; node < nodes; ++node) {
    const GuestVirt at(load_le(pointers->data() + std::size_t{node} * 8, 8));
    if (at.is_null()) continue;  // not possible
    const std::uint64_t offset = scheduler.nodes_are_queues ? 0 : (**layout)[0].offset;
    places.push_back({.address = at.wrapping_add(offset), .cpu = {}, .node = node});
  }
}

}  // namespace

std::vector<ScxScheduler> read_schedulers(SchedContext& context, GuestVirt root,
                                          Problems& problems) {
  std::vector<ScxScheduler> schedulers;
  if (root.is_null()) return schedulers;
  const auto layout = context.layouts.get(kSched);
  auto first = read_scheduler(context, root);
  if (!first) {
    problems.add("ops", std::move(first).error());
    return schedulers;
  }
  schedulers.push_back(*std::move(first));
  const auto head = variable(context, "scx_sched_all");
  if (!head || !(**layout)[kAll].present) return schedulers;  // there can be one only
  // A ring of all; each step is one exchange, and there are few.
  for (GuestVirt node = schedulers[0].next; !node.is_null();) {
    const GuestVirt at = node.wrapping_add(-std::uint64_t{(**layout)[kAll].offset});
    if (at == root) break;
    if (node == *head) {
      const auto next = context.memory.read_number(node, 8);
      if (!next) break;
      node = GuestVirt(*next);
      continue;
    }
    auto scheduler = read_scheduler(context, at);
    if (!scheduler ||
        std::ranges::find(schedulers, at, &ScxScheduler::address) != schedulers.end() ||
        schedulers.size() == kMaxSchedulers) {
      problems.add("schedulers", scheduler ? Error{.code = ErrorCode::kCorrupt,
                                                   .message = "the list of schedulers has a cycle",
                                                   .path = {},
                                                   .address = at.value()}
                                           : scheduler.error());
      break;
    }
    node = scheduler->next;
    schedulers.push_back(*std::move(scheduler));
  }
  return schedulers;
}

std::vector<ScxScheduler> find_ended_schedulers(SchedContext& context,
                                                std::span<const ScxScheduler> running,
                                                Problems& problems) {
  std::vector<ScxScheduler> ended;
  for (const GuestVirt at : registered(context, problems)) {
    const auto is_it = [&](const ScxScheduler& other) { return other.address == at; };
    if (std::ranges::any_of(running, is_it) || std::ranges::any_of(ended, is_it)) continue;
    if (ended.size() == kMaxSchedulers) break;
    if (auto scheduler = read_scheduler(context, at))
      ended.push_back(*std::move(scheduler));
    else
      problems.add("exit", std::move(scheduler).error());
  }
  return ended;
}

Facts describe_exit(SchedContext& context, const ScxNames& names, const ScxScheduler& scheduler,
                    Problems& problems) {
  const auto layout = context.layouts.get(kExit);
  if (!layout || scheduler.exit_info.is_null()) return {};
  StructBatch batch(**layout);
  batch.add(scheduler.exit_info);
  batch.read(context.memory);
  const auto view = batch[0];
  if (!view) {
    problems.add("exit", view.error());
    return {};
  }
  constexpr std::uint64_t kNone = 0;  // SCX_EXIT_NONE
  if (view->u64(kKind) == kNone) return {};
  TextBatch texts;
  texts.add(view->pointer(kReason), kMaxExitMessageBytes);
  texts.add(view->pointer(kMessage), kMaxExitMessageBytes);
  texts.read(context.memory);
  Facts facts{{.name = "ops", .value = scheduler.name},
              {.name = "kind", .value = names.exit_kind(view->u64(kKind))},
              {.name = "exit_code", .value = view->s64(kExitCode)}};
  if (view->has(kExitFlags))
    facts.push_back({.name = "flags", .value = names.exit_flags(view->u64(kExitFlags))});
  if (view->has(kExitCpu) && view->s64(kExitCpu) >= 0)
    facts.push_back({.name = "cpu", .value = view->s64(kExitCpu)});
  for (const auto& [i, name] : {std::pair(0U, "reason"), std::pair(1U, "message")}) {
    auto text = texts[i];
    facts.push_back({.name = name, .value = {}});
    if (text)
      facts.back().value = *std::move(text);
    else if (text.error().code != ErrorCode::kNotMapped)  // none has been given yet
      problems.add(fmt::format("exit.{}", name), std::move(text).error());
  }
  return facts;
}

Facts count_events(SchedContext& context, const ScxScheduler& scheduler, Problems& problems) {
  Facts events;
  const Btf& btf = context.layouts.kernel().btf();
  const auto type = btf.find(BtfKind::kStruct, "scx_event_stats");
  const auto place = event_place(context, scheduler);
  if (!type || !place) return events;
  const std::uint64_t size = btf.type(*type).size;
  if (size == 0 || size > kContentStepBytes) return events;
  const auto cpus = context.per_cpu.possible_cpus();
  ReadBatch batch;
  for (const unsigned cpu : cpus)
    batch.add(context.per_cpu.on_cpu(place->per_cpu, cpu).wrapping_add(place->offset), size);
  batch.read(context.memory);
  for (const BtfMember member : btf.members(*type)) {
    const auto at = btf.place(member);
    if (!at || at->size == 0 || at->size > 8) continue;
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < cpus.size(); ++i)
      if (const auto bytes = batch[i])
        if (const auto count = ByteReader(*bytes).number(at->offset, at->size)) sum += *count;
    events.push_back({.name = event_name(member.name), .value = static_cast<std::int64_t>(sum)});
  }
  for (std::size_t i = 0; i < cpus.size(); ++i)
    if (const auto bytes = batch[i]; !bytes)
      problems.add(fmt::format("events of CPU {}", cpus[i]), bytes.error());
  return events;
}

std::vector<ScxQueuePlace> queues_of(SchedContext& context, const ScxScheduler& scheduler,
                                     Problems& problems) {
  std::vector<ScxQueuePlace> places;
  add_global_queues(context, scheduler, places, problems);
  if (const auto layout = context.layouts.get(kPerCpuQueue); layout && !scheduler.per_cpu.is_null())
    for (const unsigned cpu : context.per_cpu.possible_cpus())
      places.push_back(
          {.address =
               context.per_cpu.on_cpu(scheduler.per_cpu, cpu).wrapping_add((**layout)[0].offset),
           .cpu = cpu,
           .node = {}});
  const auto made = find_user_queues(context, scheduler.queue_table, problems);
  places.insert(places.end(), made.begin(), made.end());
  return places;
}

}  // namespace guestscope
