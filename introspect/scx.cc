#include "introspect/scx.h"

#include <algorithm>
#include <array>
#include <tuple>

#include "introspect/scx_cpus.h"
#include "introspect/text_batch.h"

namespace guestscope {

namespace {

/// A kernel that has it has this structure in every task.
constexpr std::string_view kMark = "sched_ext_entity";

/// PATH_MAX.
constexpr std::size_t kMaxCgroupPathBytes = 4096;

/// Variables of kernel/sched/ext.c; several names where they have changed.
enum Variable : std::size_t {
  kState,
  kRoot,
  kSwitchingAll,
  kRejected,
  kHotplug,
  kEnabled,
  kBypassDepth,
  kAborting,
  kWatchdog,
  kVariables,
};
struct VariableNeed {
  std::array<std::string_view, 2> names;
  std::size_t size;
};
constexpr std::array<VariableNeed, kVariables> kNeeds = {{
    {{"scx_enable_state_var", "scx_ops_enable_state_var"}, 4},
    {{"scx_root"}, 8},
    {{"scx_switching_all"}, 1},
    {{"scx_nr_rejected"}, 8},
    {{"scx_hotplug_seq"}, 8},
    {{"scx_enable_seq"}, 8},
    {{"scx_bypass_depth", "scx_ops_bypass_depth"}, 4},  // later a scheduler's own
    {{"scx_aborting"}, 1},                              // likewise
    {{"scx_watchdog_timeout"}, 8},                      // likewise
}};

using Variables = std::array<std::optional<std::uint64_t>, kVariables>;

Result<Variables> read_variables(SchedContext& context) {
  const SymbolTable& symbols = context.layouts.kernel().symbols();
  ReadBatch batch;
  for (const VariableNeed& need : kNeeds) {
    GuestVirt at;
    for (const std::string_view name : need.names)
      if (const auto symbol = name.empty() || !at.is_null() ? std::nullopt : symbols.find(name))
        at = context.location().at(symbol->value);
    batch.add(at, need.size);
  }
  batch.read(context.memory);
  Variables variables;
  for (std::size_t i = 0; i < kVariables; ++i)
    if (const auto bytes = batch[i])
      variables[i] = load_le(bytes->data(), bytes->size());
    else if (i == kState)
      return bytes.error().code == ErrorCode::kNotMapped && bytes.error().address.value_or(0) == 0
                 ? fail(ErrorCode::kUnsupported, "{} has no symbol {}",
                        context.layouts.kernel().title(), kNeeds[kState].names[0])
                 : std::unexpected(bytes.error());
  return variables;
}

class Reader {
 public:
  Reader(SchedContext& context, Problems& problems)
      : context_(context), problems_(problems), names_(context.layouts.kernel().btf()) {}

  Result<Facts> read() {
    GS_ASSIGN(variables_, read_variables(context_));
    find_schedulers();
    if (auto clock = read_scx_clock(context_))
      clock_ = *clock;
    else
      problems_.add("cpus", std::move(clock).error());
    add_state();
    add_exit();
    cpus_ = read_scx_cpus(context_, names_, root(), problems_);
    if (root() != nullptr)
      facts_.push_back({.name = "events", .value = count_events(context_, *root(), problems_)});
    add_schedulers();
    add_queues();
    add_cpus();
    context_.budget.report("scx", problems_);
    return std::move(facts_);
  }

 private:
  const ScxScheduler* root() const { return schedulers_.empty() ? nullptr : &schedulers_[0]; }

  void find_schedulers() {
    const std::string state = names_.state(*variables_[kState]);
    const std::size_t before = problems_.list().size() + problems_.left_out();
    if (variables_[kRoot]) {
      schedulers_ = read_schedulers(context_, GuestVirt(*variables_[kRoot]), problems_);
    } else if (state != "disabled") {
      auto only = read_static_scheduler(context_);
      if (!only)
        problems_.add("ops", std::move(only).error());
      else if (*only)
        schedulers_.push_back(**std::move(only));
    }
    const bool said = problems_.list().size() + problems_.left_out() != before;
    // While the kernel enables or disables one, there may be none.
    if (schedulers_.empty() && state == "enabled" && !said)
      problems_.add("ops", {.code = ErrorCode::kCorrupt,
                            .message = "enabled, but the kernel names no scheduler",
                            .path = {},
                            .address = {}});
  }

  void add(const char* name, FactValue value) {
    facts_.push_back({.name = name, .value = std::move(value)});
  }
  void add_number(const char* name, std::optional<std::uint64_t> value) {
    if (value) add(name, *value);
  }

  void add_state() {
    add("state", names_.state(*variables_[kState]));
    add("ops", root() != nullptr ? FactValue(root()->name) : FactValue());
    if (root() != nullptr) add("flags", names_.ops_flags(root()->flags));
    if (variables_[kSwitchingAll]) add("switch_all", *variables_[kSwitchingAll] != 0);
    const auto depth = root() != nullptr && root()->bypass_depth ? root()->bypass_depth
                       : variables_[kBypassDepth]
                           ? std::optional(static_cast<std::int64_t>(*variables_[kBypassDepth]))
                           : std::nullopt;
    if (depth) add("bypass", *depth != 0);
    if (root() != nullptr && root()->aborting)
      add("aborting", *root()->aborting);
    else if (variables_[kAborting])
      add("aborting", *variables_[kAborting] != 0);
    add_number("nr_rejected", variables_[kRejected]);
    add_number("enable_seq", variables_[kEnabled]);
    add_number("hotplug_seq", variables_[kHotplug]);
    if (root() != nullptr) add_number("slice_dfl_ns", root()->slice_ns);
    if (const auto ticks = watchdog_ticks(); ticks && clock_)
      add("watchdog_timeout_ns", clock_->nanoseconds(*ticks));
  }

  std::optional<std::uint64_t> watchdog_ticks() const {
    if (root() == nullptr) return std::nullopt;
    return root()->watchdog_ticks ? root()->watchdog_ticks : variables_[kWatchdog];
  }

  /// The present scheduler's, when it is on its way out; else that of one that was.
  void add_exit() {
    Facts exit;
    if (root() != nullptr) exit = describe_exit(context_, names_, *root(), problems_);
    if (exit.empty()) {
      // Of several, the one whose table was made last.
      for (const ScxScheduler& ended : find_ended_schedulers(context_, schedulers_, problems_))
        if (Facts found = describe_exit(context_, names_, ended, problems_); !found.empty())
          exit = std::move(found);
    }
    add("exit", exit.empty() ? FactValue() : FactValue(std::move(exit)));
  }

  void add_schedulers() {
    FactList list;
    TextBatch paths;
    for (const ScxScheduler& scheduler : schedulers_)
      paths.add(scheduler.cgroup_path, kMaxCgroupPathBytes);
    paths.read(context_.memory);
    for (const ScxScheduler& scheduler : schedulers_) {
      Facts facts{{.name = "ops", .value = scheduler.name},
                  {.name = "address", .value = scheduler.address}};
      if (scheduler.level) facts.push_back({.name = "level", .value = *scheduler.level});
      if (scheduler.id) facts.push_back({.name = "id", .value = *scheduler.id});
      if (scheduler.cgroup_id)
        facts.push_back({.name = "cgroup_id", .value = *scheduler.cgroup_id});
      if (auto path = paths[list.size()]; path)  // null on kernels without sub-schedulers
        facts.push_back({.name = "cgroup", .value = *std::move(path)});
      list.emplace_back(std::move(facts));
    }
    add("nr_schedulers", std::uint64_t{list.size()});
    add("schedulers", std::move(list));
  }

  /// All queues, and in one walk what waits in them and on the CPUs.
  void read_lists() {
    std::vector<ScxQueuePlace> places;
    for (const ScxCpu& cpu : cpus_)
      places.insert(places.end(), cpu.queues.begin(), cpu.queues.end());
    for (std::size_t i = 0; i < schedulers_.size(); ++i)
      for (ScxQueuePlace place : queues_of(context_, schedulers_[i], problems_)) {
        if (places.size() == 2 * kMaxDispatchQueues) break;  // all CPUs', and as many again
        place.scheduler = i;
        places.push_back(place);
      }
    for (auto& queue : read_scx_queues(context_, places))
      if (queue)
        queues_.push_back(*std::move(queue));
      else
        problems_.add("dsqs", std::move(queue).error());
    // The kernel's own stay as they are; in the hash table there is no order.
    std::ranges::stable_sort(queues_, {}, [](const ScxQueue& queue) {
      const bool made = queue.scheduler && !queue.cpu && !queue.node;
      return std::tuple(queue.scheduler, made, made ? queue.id : 0);
    });
    std::vector<ScxList> lists;
    for (std::size_t i = 0; i < queues_.size(); ++i)
      lists.push_back(list_of(queues_[i], fmt::format("dsqs[{}].tasks", i)));
    for (std::size_t i = 0; i < cpus_.size(); ++i)
      lists.push_back({.kind = ScxList::Kind::kRunnable,
                       .head = cpus_[i].runnable,
                       .first = cpus_[i].first_runnable,
                       .expected = cpus_[i].nr_running,
                       .place = fmt::format("cpus[{}].oldest_runnable", i)});
    lists_ = read_scx_lists(context_, names_, lists, problems_);
    read_listed_tasks(lists);
  }

  void read_listed_tasks(std::span<const ScxList> lists) {
    std::vector<GuestVirt> addresses;
    std::unordered_map<GuestVirt, std::string> places;
    for (std::size_t i = 0; i < lists_.size(); ++i)
      for (const GuestVirt task : lists_[i])
        if (places.emplace(task, lists[i].place).second) addresses.push_back(task);
    auto tasks = read_scx_tasks(context_, names_, addresses);
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      if (tasks[i])
        tasks_.emplace(addresses[i], *std::move(tasks[i]));
      else
        problems_.add(places[addresses[i]], std::move(tasks[i]).error());
    }
  }

  Facts task_facts(const ScxTask& task) const {
    Facts facts{{.name = "pid", .value = task.pid}, {.name = "comm", .value = task.comm}};
    for (const Fact& fact : task.facts)
      facts.push_back(
          {.name = fact.name == "dsq_vtime" ? "vtime" : fact.name, .value = fact.value});
    if (const auto waited = waiting(task))
      facts.push_back({.name = "runnable_for_ns", .value = *waited});
    return facts;
  }

  std::optional<std::uint64_t> waiting(const ScxTask& task) const {
    return clock_ && task.waiting ? clock_->since(task.runnable_at) : std::nullopt;
  }

  void add_queues() {
    read_lists();
    FactList list;
    for (std::size_t i = 0; i < queues_.size(); ++i) {
      const ScxQueue& queue = queues_[i];
      Facts facts{{.name = "id", .value = fmt::format("{:#x}", queue.id)},
                  {.name = "name", .value = names_.queue(queue.id)}};
      if (queue.cpu) facts.push_back({.name = "cpu", .value = *queue.cpu});
      if (queue.node) facts.push_back({.name = "node", .value = *queue.node});
      if (queue.scheduler && schedulers_.size() > 1)
        facts.push_back({.name = "scheduler", .value = std::uint64_t{*queue.scheduler}});
      facts.push_back({.name = "nr", .value = queue.nr});
      facts.push_back({.name = "seq", .value = queue.seq});
      if (queue.nr != 0)
        facts.push_back({.name = "order", .value = queue.priority ? "vtime" : "fifo"});
      FactList tasks;
      for (const GuestVirt address : lists_[i])
        if (const auto task = tasks_.find(address); task != tasks_.end())
          tasks.emplace_back(task_facts(task->second));
      facts.push_back({.name = "tasks", .value = std::move(tasks)});
      list.emplace_back(std::move(facts));
    }
    add("dsqs", std::move(list));
  }

  /// The name of the queue that a task waits in; null: the scheduler has it in its own hands.
  FactValue queue_name(GuestVirt address) const {
    const auto queue = std::ranges::find(queues_, address, &ScxQueue::address);
    return queue == queues_.end() ? FactValue() : FactValue(names_.queue(queue->id));
  }

  /// Who has waited longest: the watchdog ends the scheduler once that is longer than its timeout.
  FactValue oldest(std::span<const GuestVirt> waiting_tasks) const {
    const ScxTask* oldest = nullptr;
    for (const GuestVirt address : waiting_tasks) {
      const auto task = tasks_.find(address);
      if (task != tasks_.end() && waiting(task->second) &&
          (oldest == nullptr || task->second.runnable_at < oldest->runnable_at))
        oldest = &task->second;
    }
    if (oldest == nullptr) return {};
    const std::uint64_t waited = *waiting(*oldest);
    Facts facts{{.name = "pid", .value = oldest->pid},
                {.name = "comm", .value = oldest->comm},
                {.name = "waiting_ns", .value = waited}};
    if (const auto ticks = watchdog_ticks())
      facts.push_back({.name = "stall_in_ns",
                       .value = static_cast<std::int64_t>(clock_->nanoseconds(*ticks) - waited)});
    facts.push_back({.name = "dsq", .value = queue_name(oldest->queue)});
    for (const Fact& fact : oldest->facts)
      if (fact.name == "ops_state") facts.push_back(fact);
    return facts;
  }

  void add_cpus() {
    FactList list;
    for (std::size_t i = 0; i < cpus_.size(); ++i) {
      Facts facts = std::move(cpus_[i].facts);
      facts.push_back({.name = "oldest_runnable", .value = oldest(lists_[queues_.size() + i])});
      list.emplace_back(std::move(facts));
    }
    add("cpus", std::move(list));
  }

  SchedContext& context_;
  Problems& problems_;
  ScxNames names_;
  Facts facts_;
  Variables variables_{};
  std::optional<ScxClock> clock_;
  std::vector<ScxScheduler> schedulers_;
  std::vector<ScxCpu> cpus_;
  std::vector<ScxQueue> queues_;
  std::vector<std::vector<GuestVirt>> lists_;  // of the queues, then of the CPUs
  std::unordered_map<GuestVirt, ScxTask> tasks_;
};

}  // namespace

Result<ScxReport> read_scx(SchedContext& context) {
  ScxReport report;
  report.supported = context.layouts.kernel().btf().find(BtfKind::kStruct, kMark).has_value();
  if (!report.supported) return report;
  GS_ASSIGN(report.facts, Reader(context, report.problems).read());
  return report;
}

}  // namespace guestscope
