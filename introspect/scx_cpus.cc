#include "introspect/scx_cpus.h"

#include <algorithm>
#include <array>

#include "introspect/cpu_masks.h"
#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

enum Rq : std::size_t {
  kFlags,
  kNrRunning,
  kLocalNr,
  kOpsSequence,
  kRunnable,
  kFirstRunnable,
  kReleased,
  kImmediate,
  kTarget,
  kKickSequence,
};
constexpr FieldNeed kRqFields[] = {{"scx.flags"},
                                   {"scx.nr_running"},
                                   {"scx.local_dsq.nr"},
                                   {"scx.ops_qseq", kOptional},
                                   {"scx.runnable_list"},
                                   {"scx.runnable_list.next"},
                                   {"scx.cpu_released", kOptional},
                                   {"scx.nr_immed", kOptional},
                                   {"scx.cpuperf_target", kOptional},
                                   {"scx.kick_sync|scx.pnt_seq", kOptional}};
constexpr StructNeed kRq = {"rq", kRqFields};

/// Queues that are part of struct rq.
constexpr FieldNeed kQueueFields[] = {{"scx.local_dsq"},
                                      {"scx.reject_dsq", kOptional},
                                      {"scx.rescue.dsq", kOptional},
                                      {"scx.bypass_dsq", kOptional}};
constexpr StructNeed kQueues = {"rq", kQueueFields};

/// Sets of CPUs to be kicked: of a CPU, or of a scheduler on a CPU.
constexpr std::array<const char*, 5> kKickNames = {"kick", "kick_if_idle", "preempt", "wait",
                                                   "sync"};
constexpr FieldNeed kRqKickFields[] = {{"scx.cpus_to_kick", kOptional},
                                       {"scx.cpus_to_kick_if_idle", kOptional},
                                       {"scx.cpus_to_preempt", kOptional},
                                       {"scx.cpus_to_wait", kOptional},
                                       {"scx.cpus_to_sync", kOptional}};
constexpr StructNeed kRqKicks = {"rq", kRqKickFields};
constexpr FieldNeed kSchedKickFields[] = {{"cpus_to_kick", kOptional},
                                          {"cpus_to_kick_if_idle", kOptional},
                                          {"cpus_to_preempt", kOptional},
                                          {"cpus_to_wait", kOptional},
                                          {"cpus_to_sync", kOptional}};
constexpr StructNeed kSchedKicks = {"scx_sched_pcpu", kSchedKickFields};

/// A set of CPUs, of which a structure holds all or (with many CPUs) a pointer.
struct MaskPlace {
  std::size_t cpu = 0;  ///< which of those that are asked about
  std::size_t name = 0;
  GuestVirt at;
};

class Kicks {
 public:
  explicit Kicks(SchedContext& context) : context_(context), bytes_(cpu_mask_bytes(context)) {}

  /// Announces the sets in a structure of that layout for one CPU.
  void add(const StructNeed& need, std::size_t cpu, GuestVirt object) {
    const auto layout = context_.layouts.get(need);
    if (!layout) return;
    const Btf& btf = context_.layouts.kernel().btf();
    for (std::size_t name = 0; name < kKickNames.size(); ++name) {
      const BoundField& field = (**layout)[name];
      if (!field.present) continue;
      const bool pointer = btf.kind(field.type) == BtfKind::kPtr;
      (pointer ? pointers_ : masks_)
          .push_back({.cpu = cpu, .name = name, .at = object.wrapping_add(field.offset)});
    }
  }

  /// By CPU: {"kick": [0, 2], …}, without the empty ones.
  std::vector<Facts> read(std::size_t cpus) {
    ReadBatch pointers;
    for (const MaskPlace& place : pointers_) pointers.add(place.at, 8);
    pointers.read(context_.memory);
    for (std::size_t i = 0; i < pointers_.size(); ++i)
      if (const auto bytes = pointers[i])
        masks_.push_back({.cpu = pointers_[i].cpu,
                          .name = pointers_[i].name,
                          .at = GuestVirt(load_le(bytes->data(), 8))});
    std::vector<Facts> kicks(cpus);
    const std::size_t step =
        std::max<std::size_t>(1, kStructStepBytes / std::max<std::size_t>(1, bytes_));
    for (std::size_t first = 0; first < masks_.size(); first += step)
      read_some(std::span(masks_).subspan(first, std::min(step, masks_.size() - first)), kicks);
    return kicks;
  }

 private:
  void read_some(std::span<const MaskPlace> places, std::vector<Facts>& kicks) {
    ReadBatch masks;
    for (const MaskPlace& place : places) masks.add(place.at, bytes_);
    masks.read(context_.memory);
    for (std::size_t i = 0; i < places.size(); ++i) {
      const auto bytes = masks[i];
      if (!bytes) continue;  // not allocated yet
      FactList list;
      for (const unsigned cpu : cpus_in_mask(*bytes)) list.emplace_back(cpu);
      if (!list.empty())
        kicks[places[i].cpu].push_back(
            {.name = kKickNames[places[i].name], .value = context_.budget.list(std::move(list))});
    }
  }

  SchedContext& context_;
  std::size_t bytes_;
  std::vector<MaskPlace> pointers_, masks_;
};

Facts describe(SchedContext& context, const StructView& rq, const ScxNames& names, unsigned cpu) {
  Facts facts{{.name = "cpu", .value = cpu},
              {.name = "flags", .value = context.budget.list(names.rq_flags(rq.u64(kFlags)))},
              {.name = "nr_running", .value = rq.u64(kNrRunning)},
              {.name = "local_dsq_nr", .value = rq.u64(kLocalNr)}};
  const auto add = [&](std::size_t field, const char* name) {
    if (rq.has(field)) facts.push_back({.name = name, .value = rq.u64(field)});
  };
  add(kOpsSequence, "ops_qseq");
  add(kImmediate, "nr_immed");
  add(kTarget, "cpuperf_target");
  add(kKickSequence, "kick_sync");
  if (rq.has(kReleased)) facts.push_back({.name = "cpu_released", .value = rq.u64(kReleased) != 0});
  return facts;
}

}  // namespace

std::vector<ScxCpu> read_scx_cpus(SchedContext& context, const ScxNames& names,
                                  const ScxScheduler* root, Problems& problems) {
  std::vector<ScxCpu> found;
  const auto layout = context.layouts.get(kRq);
  const auto queues = context.layouts.get(kQueues);
  if (!layout || !queues) {
    problems.add("cpus", layout ? queues.error() : layout.error());
    return found;
  }
  const auto cpus = context.per_cpu.possible_cpus();
  const GuestVirt symbol = context.per_cpu_symbol(context.queues.runqueues);
  StructBatch batch(**layout);
  for (const unsigned cpu : cpus) batch.add(context.per_cpu.on_cpu(symbol, cpu));
  batch.read(context.memory);
  Kicks kicks(context);
  for (std::size_t i = 0; i < cpus.size(); ++i) {
    const auto rq = batch[i];
    if (!rq) {
      problems.add(fmt::format("the queue of CPU {}", cpus[i]), rq.error());
      continue;
    }
    const GuestVirt at = batch.address(i);
    ScxCpu cpu{.cpu = cpus[i],
               .facts = describe(context, *rq, names, cpus[i]),
               .nr_running = rq->u64(kNrRunning),
               .runnable = at.wrapping_add((**layout)[kRunnable].offset),
               .first_runnable = rq->pointer(kFirstRunnable)};
    for (std::size_t field = 0; field < std::size(kQueueFields); ++field)
      if ((**queues)[field].present)
        cpu.queues.push_back(
            {.address = at.wrapping_add((**queues)[field].offset), .cpu = cpus[i], .node = {}});
    kicks.add(kRqKicks, found.size(), at);
    if (root != nullptr && !root->per_cpu.is_null())
      kicks.add(kSchedKicks, found.size(), context.per_cpu.on_cpu(root->per_cpu, cpus[i]));
    found.push_back(std::move(cpu));
  }
  auto kicked = kicks.read(found.size());
  for (std::size_t i = 0; i < found.size(); ++i)
    found[i].facts.push_back({.name = "kicks", .value = std::move(kicked[i])});
  return found;
}

}  // namespace guestscope
