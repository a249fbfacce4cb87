// What sched_ext adds to the run queues: its tasks, and its flags by name.
#include <algorithm>
#include <unordered_set>

#include "introspect/scx_queues.h"
#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

enum Rq : std::size_t { kRunnable, kFirstRunnable, kNrRunning, kFlags };
constexpr FieldNeed kRqFields[] = {{"scx.runnable_list"},
                                   {"scx.runnable_list.next"},
                                   {"scx.nr_running"},
                                   {"scx.flags", kOptional}};
constexpr StructNeed kRq = {"rq", kRqFields};
constexpr FieldNeed kPlaceFields[] = {{"scx.local_dsq"}};
constexpr StructNeed kRqPlaces = {"rq", kPlaceFields};

/// What is to be added to one queue.
struct Adding {
  std::size_t queue = 0;
  bool with_current = false;
  std::vector<GuestVirt> tasks{};  ///< the current one first
};

void add_flag_names(RunQueue& queue, const FactValue& flags) {
  for (Fact& group : queue.figures) {
    if (group.name != "scx") continue;
    Facts figures = std::get<Facts>(group.value.get());
    const auto place = std::ranges::find(figures, "flags", &Fact::name);
    figures.insert(place == figures.end() ? place : place + 1,
                   Fact{.name = "flag_names", .value = flags});
    group.value = std::move(figures);
  }
}

std::string place_of(std::size_t queue) { return fmt::format("runqueues[{}].tasks", queue); }

/// The lists of each queue: its local dispatch queue, and all that wait.
std::vector<ScxList> lists_of(SchedContext& context, const ScxNames& names,
                              std::span<RunQueue> queues, std::vector<Adding>& adding,
                              Problems& problems) {
  std::vector<ScxList> lists;
  const auto layout = context.layouts.get(kRq);
  const auto places = context.layouts.get(kRqPlaces);
  if (!layout || !places) return lists;  // a kernel without sched_ext
  StructBatch batch(**layout);
  std::vector<ScxQueuePlace> local;
  for (std::size_t i = 0; i < queues.size(); ++i) {
    if (!queues[i].readable) continue;
    adding.push_back({.queue = i});
    batch.add(queues[i].address);
    local.push_back({.address = queues[i].address.wrapping_add((**places)[0].offset)});
  }
  batch.read(context.memory);
  const auto heads = read_scx_queues(context, local);
  for (std::size_t i = 0; i < adding.size(); ++i) {
    RunQueue& queue = queues[adding[i].queue];
    const std::string place = place_of(adding[i].queue);
    const auto rq = batch[i];
    if (!rq || !heads[i]) {
      problems.add(place, rq ? heads[i].error() : rq.error());
      lists.resize(lists.size() + 2);
      continue;
    }
    if (rq->has(kFlags))
      add_flag_names(queue, context.budget.list(names.rq_flags(rq->u64(kFlags))));
    adding[i].with_current = queue.curr && queue.curr->sched_class == "ext";
    if (adding[i].with_current) adding[i].tasks.push_back(queue.curr->address);
    lists.push_back(list_of(*heads[i], place));
    lists.push_back({.kind = ScxList::Kind::kRunnable,
                     .head = queue.address.wrapping_add((**layout)[kRunnable].offset),
                     .first = rq->pointer(kFirstRunnable),
                     .expected = rq->u64(kNrRunning),
                     .place = place});
  }
  return lists;
}

/// Who waits in a local dispatch queue is in both lists.
void merge(std::vector<GuestVirt>& tasks, std::span<const GuestVirt> local,
           std::span<const GuestVirt> waiting) {
  std::unordered_set<GuestVirt> known(tasks.begin(), tasks.end());
  for (const auto list : {local, waiting})
    for (const GuestVirt task : list)
      if (known.insert(task).second) tasks.push_back(task);
}

/// The names of the queues that tasks wait in.
std::unordered_map<GuestVirt, std::string> queue_names(SchedContext& context, const ScxNames& names,
                                                       std::span<const Result<ScxTask>> tasks) {
  std::vector<ScxQueuePlace> places;
  std::unordered_set<GuestVirt> known;
  for (const auto& task : tasks)
    if (task && !task->queue.is_null() && known.insert(task->queue).second)
      places.push_back({.address = task->queue});
  std::unordered_map<GuestVirt, std::string> found;
  const auto queues = read_scx_queues(context, places);
  for (const auto& queue : queues)
    if (queue) found.emplace(queue->address, names.queue(queue->id));
  return found;
}

}  // namespace

void add_scx_tasks(SchedContext& context, std::span<RunQueue> queues, Problems& problems) {
  const ScxNames names(context.layouts.kernel().btf());
  std::vector<Adding> adding;
  std::vector<ScxList> lists = lists_of(context, names, queues, adding, problems);
  if (lists.empty()) return;
  // Of a queue that could not be read there is no list: its head is null, and so is where it
  // begins.
  const auto found = read_scx_lists(context, names, lists, problems);
  std::vector<GuestVirt> addresses;
  for (std::size_t i = 0; i < lists.size() / 2; ++i) {
    merge(adding[i].tasks, found[2 * i], found[2 * i + 1]);
    addresses.insert(addresses.end(), adding[i].tasks.begin(), adding[i].tasks.end());
  }
  if (addresses.empty()) return;
  const auto clock = read_scx_clock(context);
  auto tasks = read_tasks(context, addresses);
  const auto known = read_scx_tasks(context, names, addresses);
  const auto named = queue_names(context, names, known);
  std::size_t next = 0;
  for (const Adding& add : adding) {
    RunQueue& queue = queues[add.queue];
    for (std::size_t i = 0; i < add.tasks.size(); ++i, ++next) {
      if (!tasks[next] || !known[next]) {
        problems.add(place_of(add.queue), tasks[next] ? known[next].error() : tasks[next].error());
        continue;
      }
      QueuedTask queued{
          .task = *std::move(tasks[next]), .current = add.with_current && i == 0, .facts = {}};
      set_since_run(queued.task, queue.clock_task);
      const ScxTask& task = *known[next];
      const auto name = named.find(task.queue);
      queued.facts.push_back({.name = "dsq", .value = {}});
      if (name != named.end()) queued.facts.back().value = name->second;
      queued.facts.insert(queued.facts.end(), task.facts.begin(), task.facts.end());
      if (const auto waited = clock && task.waiting ? clock->since(task.runnable_at) : std::nullopt)
        queued.facts.push_back({.name = "runnable_for_ns", .value = *waited});
      queue.tasks.push_back(std::move(queued));
    }
  }
}

}  // namespace guestscope
