#include "introspect/run_queues.h"

#include <algorithm>
#include <unordered_map>

#include "introspect/queued_tasks.h"
#include "introspect/run_queue_figures.h"
#include "introspect/scx_tasks.h"
#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

enum Place : std::size_t { kRtArray, kCfsRoot };
constexpr FieldNeed kPlaceFields[] = {{"rt.active", kOptional}, {"cfs.tasks_timeline", kOptional}};
constexpr StructNeed kPlaces = {"rq", kPlaceFields};

/// Why the bytes are not this CPU's queue.
std::optional<Error> foreign(const RunQueue& queue, const StructView& rq) {
  if (!rq.has(kRqCpu) || rq.u64(kRqCpu) == queue.cpu) return std::nullopt;
  return Error{.code = ErrorCode::kCorrupt,
               .message = fmt::format("it says that it is CPU {}'s", rq.u64(kRqCpu)),
               .path = {},
               .address = queue.address.value()};
}

void decode(RunQueue& queue, const StructView& rq, const StructView* core) {
  queue.readable = true;
  queue.nr_running = rq.u64(kRqNrRunning);
  queue.idle = rq.has(kRqIdle) && rq.pointer(kRqCurr) == rq.pointer(kRqIdle);
  if (rq.has(kRqClockTask)) queue.clock_task = rq.u64(kRqClockTask);
  queue.figures = run_queue_figures(rq, core);
}

/// Where core scheduling keeps what concerns a whole core: the queue of one of its CPUs.
class Cores {
 public:
  Cores(std::span<const RunQueue> queues, const StructBatch& batch)
      : queues_(queues), batch_(batch) {
    for (std::size_t i = 0; i < queues.size(); ++i)
      if (queues[i].online) by_address_.emplace(queues[i].address, i);
  }

  /// None: it is no queue that could be read.
  std::optional<StructView> of(const StructView& rq) const {
    if (!rq.has(kRqCore)) return rq;
    const auto found = by_address_.find(rq.pointer(kRqCore));
    if (found == by_address_.end()) return std::nullopt;
    const auto core = batch_[found->second];
    if (!core || foreign(queues_[found->second], *core)) return std::nullopt;
    return *core;
  }

 private:
  std::span<const RunQueue> queues_;
  const StructBatch& batch_;
  std::unordered_map<GuestVirt, std::size_t> by_address_;
};

enum IdleState : std::size_t { kStateName };
constexpr FieldNeed kIdleStateFields[] = {{"name"}};
constexpr StructNeed kIdleStateNeed = {"cpuidle_state", kIdleStateFields};

/// The names of the states in which cpuidle rests the CPUs, as a figure. `states`: null where there
/// is none, as on most guests, whose CPUs idle by themselves.
void add_idle_states(SchedContext& context, std::span<const GuestVirt> states, RunQueueList& list) {
  const auto layout = context.layouts.get(kIdleStateNeed);
  if (!layout || std::ranges::all_of(states, &GuestVirt::is_null)) return;
  StructBatch batch(**layout);
  for (const GuestVirt state : states) batch.add(state);
  batch.read(context.memory);
  for (std::size_t i = 0; i < states.size(); ++i) {
    if (states[i].is_null()) continue;
    const auto view = batch[i];
    if (!view) list.problems.add(fmt::format("runqueues[{}].idle_state", i), view.error());
    list.run_queues[i].figures.push_back(
        {.name = "idle_state",
         .value = view ? FactValue(std::string(view->text(kStateName))) : FactValue()});
  }
}

void read_current(SchedContext& context, std::span<const QueuedTasks::Running> running,
                  RunQueueList& list) {
  std::vector<GuestVirt> current;
  for (const auto& [task, donor] : running) current.push_back(task);
  auto tasks = read_tasks(context, current);
  for (std::size_t i = 0; i < list.run_queues.size(); ++i) {
    RunQueue& queue = list.run_queues[i];
    if (!queue.readable) continue;
    if (tasks[i]) {
      queue.curr = *std::move(tasks[i]);
      set_since_run(*queue.curr, queue.clock_task);
    } else {
      list.problems.add(fmt::format("runqueues[{}].curr", i), std::move(tasks[i]).error());
    }
  }
}

/// sched_ext keeps lists of its own. A task that has been listed without them (the current one) is
/// listed with what they say of it; the idle class stays the last one.
void add_ext_tasks(SchedContext& context, RunQueueList& list) {
  std::vector<std::size_t> listed;
  for (const RunQueue& queue : list.run_queues) listed.push_back(queue.tasks.size());
  add_scx_tasks(context, list.run_queues, list.problems);
  for (std::size_t i = 0; i < listed.size(); ++i) {
    std::vector<QueuedTask>& tasks = list.run_queues[i].tasks;
    const auto added = tasks.begin() + static_cast<std::ptrdiff_t>(listed[i]);
    std::vector<QueuedTask> ext(std::make_move_iterator(added),
                                std::make_move_iterator(tasks.end()));
    tasks.erase(added, tasks.end());
    std::erase_if(tasks, [&](const QueuedTask& task) {
      return std::ranges::any_of(
          ext, [&](const QueuedTask& other) { return other.task.address == task.task.address; });
    });
    const auto idle = std::ranges::find(
        tasks, "idle", [](const QueuedTask& task) { return task.task.sched_class; });
    tasks.insert(idle, std::make_move_iterator(ext.begin()), std::make_move_iterator(ext.end()));
  }
}

}  // namespace

Result<std::vector<unsigned>> read_online_cpus(KernelMemory& memory, const PerCpuModel& model,
                                               const KernelLocation& location) {
  GS_ASSIGN(const Bytes mask, memory.read_bytes(location.at(model.online), model.mask_bytes));
  return cpus_in_mask(mask);
}

Result<RunQueueList> read_run_queues(SchedContext& context, bool with_tasks) {
  RunQueueList list;
  GS_ASSIGN(const StructLayout* layout, context.layouts.get(kRunQueueNeed));
  GS_ASSIGN(const StructLayout* places, context.layouts.get(kPlaces));
  GS_ASSIGN(const auto online,
            read_online_cpus(context.memory, *context.model.per_cpu, context.location()));
  const GuestVirt symbol = context.per_cpu_symbol(context.queues.runqueues);
  StructBatch queues(*layout);
  QueuedTasks tasks(context, list.problems);
  for (const unsigned cpu : context.per_cpu.possible_cpus()) {
    RunQueue queue;
    queue.cpu = cpu;
    queue.online = std::ranges::binary_search(online, cpu);
    queue.address = context.per_cpu.on_cpu(symbol, cpu);
    queue.rt_array = queue.address.wrapping_add((*places)[kRtArray].offset);
    queue.cfs_root = queue.address.wrapping_add((*places)[kCfsRoot].offset);
    queues.add(queue.online ? queue.address : GuestVirt());
    if (with_tasks && queue.online) tasks.add_queue(list.run_queues.size(), queue.address);
    list.run_queues.push_back(std::move(queue));
  }
  read_together(context.memory, queues, tasks);

  const Cores cores(list.run_queues, queues);
  std::vector<QueuedTasks::Running> running(list.run_queues.size());
  std::vector<GuestVirt> idle_states(list.run_queues.size());
  for (std::size_t i = 0; i < list.run_queues.size(); ++i) {
    RunQueue& queue = list.run_queues[i];
    if (!queue.online) continue;
    const auto rq = queues[i];
    if (!rq) {
      list.problems.add(fmt::format("runqueues[{}]", i), rq.error());
    } else if (auto wrong = foreign(queue, *rq)) {
      list.problems.add(fmt::format("runqueues[{}]", i), *std::move(wrong));
    } else {
      const auto core = cores.of(*rq);
      decode(queue, *rq, core ? &*core : nullptr);
      idle_states[i] = rq->pointer(kRqIdleState);
      running[i] = {.task = rq->pointer(kRqCurr),
                    .donor = rq->pointer(rq->has(kRqDonor) ? kRqDonor : kRqCurr)};
    }
  }
  add_idle_states(context, idle_states, list);
  if (with_tasks) {
    tasks.fill(list.run_queues, running);
    add_ext_tasks(context, list);
  } else {
    read_current(context, running, list);
  }
  context.budget.report("runqueues", list.problems);
  return list;
}

}  // namespace guestscope
