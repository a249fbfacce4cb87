#include "introspect/queued_tasks.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <tuple>
#include <unordered_map>

#include "introspect/dl_tasks.h"
#include "introspect/fair_tasks.h"
#include "introspect/limits.h"
#include "introspect/rt_tasks.h"
#include "introspect/stop_tasks.h"

namespace guestscope {

namespace {

/// In the order in which the scheduler asks them for a task.
constexpr std::array<std::string_view, 6> kClasses = {"stop", "dl", "rt", "fair", "ext", "idle"};

/// A foreign class stands where "ext" does.
std::size_t rank_of(std::string_view class_name) {
  const auto at = std::ranges::find(kClasses, class_name);
  return at != kClasses.end() ? static_cast<std::size_t>(at - kClasses.begin())
                              : kClasses.size() - 2;
}

}  // namespace

QueuedTasks::QueuedTasks(SchedContext& context, Problems& problems)
    : context_(context), problems_(problems) {
  if (auto groups = TaskGroups::create(context.memory, context.layouts))
    groups_.emplace(*std::move(groups));
  TaskGroups* const groups = groups_ ? &*groups_ : nullptr;
  const auto add = [&](Result<std::unique_ptr<ClassWalk>> walk, std::string_view class_name) {
    if (walk)
      walks_.push_back(*std::move(walk));
    else
      problems_.add(fmt::format("tasks of class {}", class_name), std::move(walk).error());
  };
  add(make_stop_walk(context), "stop");
  add(make_dl_walk(context), "dl");
  add(make_rt_walk(context, groups), "rt");
  add(make_fair_walk(context, groups), "fair");
}

void QueuedTasks::add_queue(std::size_t queue, GuestVirt rq) {
  for (const auto& walk : walks_) walk->add_queue(queue, rq);
}

void QueuedTasks::announce(std::vector<VirtRead>& reads) {
  for (const auto& walk : walks_) walk->announce(reads);
  if (groups_) groups_->announce(reads);
}

void QueuedTasks::take(std::span<VirtRead>& reads) {
  for (const auto& walk : walks_) walk->take(reads);
  if (groups_) groups_->take(reads);
}

bool QueuedTasks::busy() const {
  return (groups_ && groups_->busy()) ||
         std::ranges::any_of(walks_, [](const auto& walk) { return walk->busy(); });
}

void QueuedTasks::read_rest() {
  for (std::size_t step = 0; busy(); ++step) {
    if (step == kMaxQueueSteps) {
      problems_.add("runqueues", {.code = ErrorCode::kCorrupt,
                                  .message = fmt::format("lists of tasks longer than {}", step),
                                  .path = {},
                                  .address = {}});
      return;
    }
    read_together(context_.memory, *this);
  }
}

ClassWalk* QueuedTasks::walk_of(std::string_view class_name) {
  const auto walk =
      std::ranges::find(walks_, class_name, [](const auto& each) { return each->class_name(); });
  return walk == walks_.end() ? nullptr : walk->get();
}

std::vector<QueuedTasks::Candidate> QueuedTasks::collect(std::span<const RunQueue> queues) {
  std::vector<Candidate> all;
  std::unordered_set<std::uint64_t> seen;
  for (std::size_t i = 0; i < queues.size(); ++i) {
    if (!queues[i].readable) continue;
    for (const auto& walk : walks_)
      for (FoundTask& found : walk->tasks(i))
        if (seen.insert(found.task.value()).second)
          all.push_back(
              {.queue = i, .rank = rank_of(walk->class_name()), .found = std::move(found)});
  }
  return all;
}

/// What the queues of running tasks that no queue leads to (or no longer) would have said of them.
void QueuedTasks::complete(std::vector<Candidate>& candidates,
                           std::span<const Result<TaskInfo>> tasks) {
  std::vector<std::pair<Candidate*, ClassWalk*>> asked;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (candidates[i].is_listed || !tasks[i]) continue;
    candidates[i].rank = rank_of(tasks[i]->sched_class);
    ClassWalk* const walk = walk_of(tasks[i]->sched_class);
    if (walk == nullptr) continue;
    walk->add_task(candidates[i].queue, candidates[i].found.task);
    asked.emplace_back(&candidates[i], walk);
  }
  read_rest();
  for (const auto& [candidate, walk] : asked)
    for (FoundTask& found : walk->tasks(candidate->queue))
      if (found.task == candidate->found.task) candidate->found = std::move(found);
}

/// Null when it cannot be read, or when the answer has no room for it.
FactValue QueuedTasks::group_name(GuestVirt group, std::size_t queue) {
  if (context_.budget.spent()) return {};
  auto name = groups_->name(group);
  if (name) return context_.budget.take(name->size()) ? FactValue(*std::move(name)) : FactValue();
  if (bad_groups_.insert(group.value()).second)
    problems_.add(tasks_of(queue) + ".group", name.error());
  return {};
}

void QueuedTasks::place(RunQueue& queue, const Running& running, const Candidate& candidate,
                        const Result<TaskInfo>& task) {
  const bool is_current = candidate.found.task == running.task;
  const auto refuse = [&](Error error) {
    problems_.add(
        is_current ? fmt::format("runqueues[{}].curr", candidate.queue) : tasks_of(candidate.queue),
        std::move(error));
  };
  if (!task) return refuse(task.error());
  // The kernel moves a task to the CPU before it puts it into its queue, and out of the queue
  // before it moves it away.
  if (!is_current && task->cpu && *task->cpu != queue.cpu)
    return refuse({.code = ErrorCode::kCorrupt,
                   .message = fmt::format("a task that says that it is on CPU {}", *task->cpu),
                   .path = {},
                   .address = candidate.found.task.value()});
  QueuedTask placed{.task = *task, .current = is_current, .facts = candidate.found.facts};
  if (candidate.found.group)
    placed.facts.push_back(
        {.name = "group", .value = group_name(*candidate.found.group, candidate.queue)});
  set_since_run(placed.task, queue.clock_task);
  if (is_current) queue.curr = placed.task;
  if (running.donor != running.task)
    placed.facts.push_back({.name = "donor", .value = candidate.found.task == running.donor});
  queue.tasks.push_back(std::move(placed));
}

std::vector<Result<TaskInfo>> QueuedTasks::read_all(std::span<const RunQueue> queues,
                                                    std::span<const Running> running,
                                                    std::vector<Candidate>& candidates) {
  std::vector<GuestVirt> addresses;
  std::unordered_map<std::uint64_t, std::size_t> known;
  for (const Candidate& candidate : candidates) {
    known[candidate.found.task.value()] = addresses.size();
    addresses.push_back(candidate.found.task);
  }
  for (std::size_t i = 0; i < queues.size(); ++i) {
    if (!queues[i].readable) continue;
    const auto [at, is_new] = known.emplace(running[i].task.value(), addresses.size());
    if (!is_new && candidates[at->second].queue == i) continue;
    addresses.push_back(running[i].task);
    candidates.push_back({.queue = i, .is_listed = false, .found = {.task = running[i].task}});
  }
  return read_tasks(context_, addresses);
}

void QueuedTasks::fill(std::vector<RunQueue>& queues, std::span<const Running> running) {
  read_rest();
  std::vector<Candidate> candidates = collect(queues);
  const auto tasks = read_all(queues, running, candidates);
  complete(candidates, tasks);
  for (const auto& walk : walks_) problems_.add_all(walk->problems());
  std::vector<std::size_t> order(candidates.size());
  std::iota(order.begin(), order.end(), 0U);
  std::ranges::stable_sort(order, {}, [&](std::size_t i) {
    return std::tuple(candidates[i].queue, candidates[i].rank, candidates[i].is_listed);
  });
  for (const std::size_t i : order)
    place(queues[candidates[i].queue], running[candidates[i].queue], candidates[i], tasks[i]);
}

}  // namespace guestscope
