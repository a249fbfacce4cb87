#include "introspect/scx_tasks.h"

#include <algorithm>
#include <unordered_set>

#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

enum Task : std::size_t {
  kPid,
  kComm,
  kQueue,
  kOpsState,
  kSlice,
  kVtime,
  kWeight,
  kFlags,
  kStickyCpu,
  kRunnableNext,
  kRunnableAt,
};
constexpr FieldNeed kTaskFields[] = {{"pid"},
                                     {"comm"},
                                     {"scx.dsq"},
                                     {"scx.ops_state.counter", kOptional},
                                     {"scx.slice", kOptional},
                                     {"scx.dsq_vtime", kOptional},
                                     {"scx.weight", kOptional},
                                     {"scx.flags", kOptional},
                                     {"scx.sticky_cpu", kOptional},
                                     {"scx.runnable_node.next"},
                                     {"scx.runnable_at"}};
constexpr StructNeed kTask = {"task_struct", kTaskFields};

/// The two nodes by which a task is linked.
enum Place : std::size_t { kQueueNode, kRunnableNode };
constexpr FieldNeed kPlaceFields[] = {{"scx.dsq_list"}, {"scx.runnable_node"}};
constexpr StructNeed kPlaces = {"task_struct", kPlaceFields};
enum Node : std::size_t { kNext, kNodeFlags };
constexpr FieldNeed kQueueNodeFields[] = {{"node.next"}, {"flags", kOptional}};
constexpr StructNeed kQueueNodeNeed = {"scx_dsq_list_node", kQueueNodeFields};
constexpr FieldNeed kRunnableNodeFields[] = {{"next"}};
constexpr StructNeed kRunnableNodeNeed = {"list_head", kRunnableNodeFields};

constexpr FieldNeed kClockFields[] = {{"mult"}, {"shift"}};
constexpr StructNeed kClockSource = {"clocksource", kClockFields};

ScxTask decode(SchedContext& context, const StructView& view, GuestVirt address,
               const ScxNames& names, std::uint32_t node) {
  ScxTask task{.address = address,
               .pid = view.s64(kPid),
               .comm = std::string(view.text(kComm)),
               .queue = view.pointer(kQueue),
               .runnable_at = view.u64(kRunnableAt),
               .waiting = false,
               .facts = {}};
  // A node that is in no list points to itself.
  const GuestVirt next = view.pointer(kRunnableNext);
  task.waiting = !next.is_null() && next != address.wrapping_add(node);
  const auto add = [&](std::size_t field, const char* name, FactValue value) {
    if (view.has(field)) task.facts.push_back({.name = name, .value = std::move(value)});
  };
  add(kSlice, "slice_ns", view.u64(kSlice));
  add(kVtime, "dsq_vtime", view.u64(kVtime));
  add(kWeight, "weight", view.u64(kWeight));
  add(kFlags, "flags", context.budget.list(names.task_flags(view.u64(kFlags))));
  add(kFlags, "scx_state", names.task_state(view.u64(kFlags)));
  add(kOpsState, "ops_state", names.ops_state(view.u64(kOpsState)));
  add(kStickyCpu, "sticky_cpu", view.s64(kStickyCpu));
  return task;
}

/// What a node says.
struct Link {
  GuestVirt next;
  bool cursor = false;
};

class ListWalk {
 public:
  ListWalk(SchedContext& context, const ScxNames& names, std::span<const ScxList> lists,
           Problems& problems)
      : context_(context), names_(names), lists_(lists), problems_(problems) {}

  Result<void> bind() {
    GS_ASSIGN(const StructLayout* places, context_.layouts.get(kPlaces));
    offsets_[0] = (*places)[kQueueNode].offset;
    offsets_[1] = (*places)[kRunnableNode].offset;
    GS_ASSIGN(nodes_[0], context_.layouts.get(kQueueNodeNeed));
    GS_ASSIGN(nodes_[1], context_.layouts.get(kRunnableNodeNeed));
    return {};
  }

  std::vector<std::vector<GuestVirt>> run() {
    std::vector<std::vector<GuestVirt>> tasks(lists_.size());
    std::uint64_t longest = 0;
    for (const ScxList& list : lists_) longest = std::max(longest, list.expected);
    if (longest > kStepsOneByOne) read_ahead();
    std::vector<Step> steps;  // a list that has never been set up has no beginning
    for (std::size_t i = 0; i < lists_.size(); ++i)
      if (!lists_[i].first.is_null()) steps.push_back({.list = i, .node = lists_[i].first});
    for (std::size_t taken = 0;; ++taken) {
      std::erase_if(steps, [&](Step& step) { return !follow_known(step, tasks[step.list]); });
      if (steps.empty()) break;
      if (taken == kMaxTaskListSteps) {
        for (const Step& step : steps) stop(step, "the list does not end");
        break;
      }
      // Longer than its queue says.
      if (taken == kStepsOneByOne && longest <= kStepsOneByOne) read_ahead();
      read_nodes(steps);
    }
    return tasks;
  }

 private:
  /// Lists up to this length are followed node by node; for a longer one it costs less to read all
  /// tasks there are.
  static constexpr std::uint64_t kStepsOneByOne = 32;

  struct Step {
    std::size_t list = 0;
    GuestVirt node;
  };

  std::size_t kind_of(const Step& step) const {
    return static_cast<std::size_t>(lists_[step.list].kind);
  }

  void stop(const Step& step, std::string message) {
    problems_.add(lists_[step.list].place, {.code = ErrorCode::kCorrupt,
                                            .message = std::move(message),
                                            .path = {},
                                            .address = step.node.value()});
  }

  /// False at the end of the list.
  bool follow_known(Step& step, std::vector<GuestVirt>& tasks) {
    const std::size_t kind = kind_of(step);
    while (step.node != lists_[step.list].head) {
      if (const auto failed = errors_.find(step.node); failed != errors_.end()) {
        problems_.add(lists_[step.list].place, failed->second);
        return false;
      }
      const auto link = links_[kind].find(step.node);
      if (link == links_[kind].end()) return true;
      if (!seen_.insert(step.node).second) {
        stop(step, "the list leads to a task that has been met before");
        return false;
      }
      if (count_ == kMaxQueuedTasks) {
        stop(step, fmt::format("more than {} tasks are queued", kMaxQueuedTasks));
        return false;
      }
      if (!link->second.cursor) {
        tasks.push_back(step.node.wrapping_add(-std::uint64_t{offsets_[kind]}));
        ++count_;
      }
      step.node = link->second.next;
    }
    return false;
  }

  void take(std::size_t kind, GuestVirt node, const Result<StructView>& view) {
    if (!view) {
      errors_.emplace(node, view.error());
      return;
    }
    const bool cursor = kind == 0 && (view->u64(kNodeFlags) & names_.cursor_flag()) != 0;
    links_[kind].emplace(node, Link{.next = view->pointer(kNext), .cursor = cursor});
  }

  void read_nodes(std::span<const Step> steps) {
    StructBatch batches[] = {StructBatch(*nodes_[0]), StructBatch(*nodes_[1])};
    for (const Step& step : steps) batches[kind_of(step)].add(step.node);
    read_together(context_.memory, batches[0], batches[1]);
    for (std::size_t kind = 0; kind < 2; ++kind)
      for (std::size_t i = 0; i < batches[kind].size(); ++i)
        take(kind, batches[kind].address(i), batches[kind][i]);
  }

  void read_ahead() {
    SchedContext aside = context_;  // of these tasks nothing is told: that has a budget of its own
    aside.budget = AnswerBudget();
    const auto all = read_all_tasks(aside);
    if (!all) return;  // then one by one
    StructBatch batches[] = {StructBatch(*nodes_[0]), StructBatch(*nodes_[1])};
    for (const TaskInfo& task : all->tasks)
      for (std::size_t kind = 0; kind < 2; ++kind)
        batches[kind].add(task.address.wrapping_add(offsets_[kind]));
    read_together(context_.memory, batches[0], batches[1]);
    for (std::size_t kind = 0; kind < 2; ++kind)
      for (std::size_t i = 0; i < batches[kind].size(); ++i)
        if (const auto view = batches[kind][i]) take(kind, batches[kind].address(i), view);
  }

  SchedContext& context_;
  const ScxNames& names_;
  std::span<const ScxList> lists_;
  Problems& problems_;
  std::uint32_t offsets_[2] = {};
  const StructLayout* nodes_[2] = {};
  std::unordered_map<GuestVirt, Link> links_[2];
  std::unordered_map<GuestVirt, Error> errors_;
  std::unordered_set<GuestVirt> seen_;
  std::size_t count_ = 0;
};

}  // namespace

std::vector<Result<ScxTask>> read_scx_tasks(SchedContext& context, const ScxNames& names,
                                            std::span<const GuestVirt> addresses) {
  std::vector<Result<ScxTask>> tasks;
  tasks.reserve(addresses.size());
  const auto layout = context.layouts.get(kTask);
  const auto places = context.layouts.get(kPlaces);
  if (!layout || !places) {
    tasks.assign(addresses.size(), std::unexpected(layout ? places.error() : layout.error()));
    return tasks;
  }
  read_structs(
      context.memory, **layout, addresses, [&](std::size_t i, const Result<StructView>& view) {
        if (view)
          tasks.push_back(
              decode(context, *view, addresses[i], names, (**places)[kRunnableNode].offset));
        else
          tasks.push_back(std::unexpected(view.error()));
      });
  return tasks;
}

std::optional<std::uint64_t> ScxClock::since(std::uint64_t at) const {
  if (tick_ns == 0 || at > jiffies) return std::nullopt;
  return nanoseconds(jiffies - at);
}

Result<ScxClock> read_scx_clock(SchedContext& context) {
  const SymbolTable& symbols = context.layouts.kernel().symbols();
  GS_ASSIGN(const std::uint64_t jiffies, symbols.require("jiffies"));
  // CONFIG_HZ is in no type. The clock source of last resort counts ticks: nanoseconds of one are
  // its factor, whatever the machine uses as its clock (kernel/time/jiffies.c).
  GS_ASSIGN(const std::uint64_t source, symbols.require("clocksource_jiffies"));
  GS_ASSIGN(const StructLayout* layout, context.layouts.get(kClockSource));
  StructBatch sources(*layout);
  ReadBatch numbers;
  sources.add(context.location().at(source));
  numbers.add(context.location().at(jiffies), 8);
  read_together(context.memory, sources, numbers);
  GS_ASSIGN(const StructView view, sources[0]);
  GS_ASSIGN(const ByteSpan now, numbers[0]);
  return ScxClock{.jiffies = load_le(now.data(), 8), .tick_ns = view.u64(0) >> (view.u64(1) & 63)};
}

std::vector<std::vector<GuestVirt>> read_scx_lists(SchedContext& context, const ScxNames& names,
                                                   std::span<const ScxList> lists,
                                                   Problems& problems) {
  ListWalk walk(context, names, lists, problems);
  if (const auto bound = walk.bind(); !bound) {
    problems.add("tasks", bound.error());
    return std::vector<std::vector<GuestVirt>>(lists.size());
  }
  return walk.run();
}

}  // namespace guestscope
