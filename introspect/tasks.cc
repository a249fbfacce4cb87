#include "introspect/tasks.h"

#include <algorithm>
#include <bit>
#include <map>
#include <unordered_map>

#include "introspect/cpu_masks.h"
#include "introspect/idr.h"
#include "introspect/run_queues.h"
#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

// SCHED_* of include/uapi/linux/sched.h: numbers of the system-call interface, which never change.
constexpr std::array<std::string_view, 8> kPolicies = {"normal",   "fifo", "rr",       "batch",
                                                       "policy_4", "idle", "deadline", "ext"};
constexpr std::uint64_t kFifo = 1, kRoundRobin = 2;

// Task states of include/linux/sched.h are macros, in no type. The ones up to TASK_PARKED are what
// /proc shows, one bit each, and are the order of the letters in fs/proc/array.c; these and
// TASK_NOLOAD have kept their values since 4.14, TASK_FROZEN and TASK_RTLOCK_WAIT since they exist.
constexpr std::uint64_t kReported = 0x7f;
constexpr std::uint64_t kUninterruptible = 0x02, kNoLoad = 0x400;
constexpr std::uint64_t kRtLockWait = 0x1000, kFrozen = 0x8000;
constexpr std::size_t kIdleState = 8;
struct StateName {
  char letter;
  std::string_view name;
};
constexpr std::array<StateName, 9> kStates = {{{'R', "running"},
                                               {'S', "sleeping"},
                                               {'D', "uninterruptible"},
                                               {'T', "stopped"},
                                               {'t', "traced"},
                                               {'X', "dead"},
                                               {'Z', "zombie"},
                                               {'P', "parked"},
                                               {'I', "idle"}}};

constexpr std::uint64_t kKernelThread = 0x00200000;  // PF_KTHREAD, since 2.6.27
constexpr std::int64_t kNiceZero = 120;              // DEFAULT_PRIO

constexpr std::size_t kTasksPerExchange = 1024;

enum Field : std::size_t {
  kPid,
  kTgid,
  kComm,
  kState,
  kExitState,
  kClass,
  kPolicy,
  kPrio,
  kStaticPrio,
  kRtPriority,
  kFlags,
  kCpu,
  kOnCpu,
  kOnRq,
  kSumExec,
  kExecStart,
  kVoluntary,
  kInvoluntary,
  kMigrations,
};
constexpr FieldNeed kFields[] = {{"pid"},
                                 {"tgid"},
                                 {"comm"},
                                 {"__state|state"},
                                 {"exit_state", kOptional},
                                 {"sched_class"},
                                 {"policy"},
                                 {"prio"},
                                 {"static_prio", kOptional},
                                 {"rt_priority", kOptional},
                                 {"flags", kOptional},
                                 {"thread_info.cpu|cpu", kOptional},
                                 {"on_cpu", kOptional},
                                 {"on_rq", kOptional},
                                 {"se.sum_exec_runtime", kOptional},
                                 {"se.exec_start", kOptional},
                                 {"nvcsw", kOptional},
                                 {"nivcsw", kOptional},
                                 {"se.nr_migrations", kOptional}};
constexpr StructNeed kTask = {"task_struct", kFields};

/// For their places in a task: what they hold is longer than what is wanted of it.
enum Place : std::size_t { kAllowed, kPidLinks };
constexpr FieldNeed kPlaceFields[] = {{"cpus_mask", kOptional}, {"pid_links", kOptional}};
constexpr StructNeed kTaskPlaces = {"task_struct", kPlaceFields};

constexpr FieldNeed kPidFields[] = {{"tasks"}};
constexpr StructNeed kPidStruct = {"pid", kPidFields};
constexpr FieldNeed kNamespaceFields[] = {{"idr"}};
constexpr StructNeed kPidNamespace = {"pid_namespace", kNamespaceFields};
enum Rq : std::size_t { kIdle, kClockTask };
constexpr FieldNeed kRqFields[] = {{"idle"}, {"clock_task", kOptional}};
constexpr StructNeed kRq = {"rq", kRqFields};

TaskInfo::Figure figure(const StructView& view, std::size_t field) {
  return view.has(field) ? std::optional(view.u64(field)) : std::nullopt;
}

/// As task_state_index() of the kernel.
const StateName& state_of(std::uint64_t state, std::uint64_t exit_state) {
  std::uint64_t reported = (state | exit_state) & kReported;
  if ((state & (kUninterruptible | kNoLoad)) == (kUninterruptible | kNoLoad))
    return kStates[kIdleState];
  if ((state & (kRtLockWait | kFrozen)) != 0) reported = kUninterruptible;
  return kStates[static_cast<std::size_t>(std::bit_width(reported))];
}

TaskInfo decode(const SchedContext& context, const StructView& view, GuestVirt address) {
  const StateName& state = state_of(view.u64(kState), view.u64(kExitState));
  const std::uint64_t policy = view.u64(kPolicy);
  TaskInfo task{.address = address,
                .pid = view.s64(kPid),
                .tgid = view.s64(kTgid),
                .comm = std::string(view.text(kComm)),
                .state = std::string(state.name),
                .state_letter = state.letter,
                .sched_class = context.class_name(view.pointer(kClass)),
                .policy = policy_name(policy),
                .prio = view.s64(kPrio),
                .nice = std::nullopt,
                .rt_priority = std::nullopt,
                .kernel_thread = (view.u64(kFlags) & kKernelThread) != 0,
                .cpu = std::nullopt,
                .on_cpu = view.u64(kOnCpu) != 0,
                .on_rq = view.u64(kOnRq) != 0,
                .cpus_allowed = std::nullopt,
                .sum_exec_ns = figure(view, kSumExec),
                .exec_start = figure(view, kExecStart),
                .since_run_ns = std::nullopt,
                .voluntary_switches = figure(view, kVoluntary),
                .involuntary_switches = figure(view, kInvoluntary),
                .migrations = figure(view, kMigrations)};
  if (view.has(kStaticPrio)) task.nice = view.s64(kStaticPrio) - kNiceZero;
  if (policy == kFifo || policy == kRoundRobin) task.rt_priority = figure(view, kRtPriority);
  if (view.has(kCpu)) task.cpu = static_cast<unsigned>(view.u64(kCpu));
  return task;
}

/// Sets of CPUs as texts: most tasks have one of few.
class AllowedTexts {
 public:
  explicit AllowedTexts(AnswerBudget& budget) : budget_(budget) {}

  /// Null: the answer has no room for it. `mask` must stay where it is.
  std::shared_ptr<const std::string> of(ByteSpan mask) {
    if (budget_.spent()) return nullptr;
    auto& text = texts_[{reinterpret_cast<const char*>(mask.data()), mask.size()}];
    if (text == nullptr) text = std::make_shared<const std::string>(cpu_list(cpus_in_mask(mask)));
    return budget_.take(text->size()) ? text : nullptr;  // each is printed on its own
  }

 private:
  AnswerBudget& budget_;
  std::unordered_map<std::string_view, std::shared_ptr<const std::string>> texts_;
};

struct TaskLayouts {
  const StructLayout* task;
  const StructLayout* places;
};

void read_some(SchedContext& context, const TaskLayouts& layouts,
               std::span<const GuestVirt> addresses, std::vector<Result<TaskInfo>>& into) {
  const BoundField& allowed = (*layouts.places)[kAllowed];
  StructBatch batch(*layouts.task);
  ReadBatch masks;
  for (const GuestVirt address : addresses) {
    batch.add(address);
    masks.add(
        address.is_null() || !allowed.present ? GuestVirt() : address.wrapping_add(allowed.offset),
        cpu_mask_bytes(context));
  }
  read_together(context.memory, batch, masks);
  AllowedTexts allowed_texts(context.budget);
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    const auto view = batch[i];
    if (!view) {
      into.push_back(std::unexpected(view.error()));
      continue;
    }
    TaskInfo task = decode(context, *view, addresses[i]);
    if (const auto mask = masks[i]) task.cpus_allowed = allowed_texts.of(*mask);
    into.push_back(std::move(task));
  }
}

struct PidTask {
  std::uint64_t pid = 0;
  GuestVirt task;
};

/// The thread whose pid it is, the first in the pid's list. (A pid may outlive its thread.)
std::vector<PidTask> tasks_of_pids(SchedContext& context, std::span<const IdrEntry> pids,
                                   const StructLayout& pid, std::uint32_t links,
                                   Problems& problems) {
  std::vector<PidTask> tasks;
  for (std::size_t first = 0; first < pids.size(); first += kTasksPerExchange) {
    const auto some = pids.subspan(first, std::min(kTasksPerExchange, pids.size() - first));
    ReadBatch heads;
    for (const IdrEntry& entry : some) heads.add(entry.pointer.wrapping_add(pid[0].offset), 8);
    heads.read(context.memory);
    for (std::size_t i = 0; i < some.size(); ++i) {
      const auto head = heads[i];
      if (!head)
        problems.add(fmt::format("pid {}", some[i].id), head.error());
      else if (const std::uint64_t link = load_le(head->data(), 8))
        tasks.push_back({.pid = some[i].id, .task = GuestVirt(link - links)});
    }
  }
  return tasks;
}

/// Of online CPUs: others run nothing, though the kernel makes idle tasks for them as well.
struct Queues {
  std::vector<GuestVirt> idle_tasks;
  std::map<unsigned, TaskInfo::Figure> clocks;
};

Result<Queues> read_queues(SchedContext& context, Problems& problems) {
  GS_ASSIGN(const StructLayout* rq, context.layouts.get(kRq));
  GS_ASSIGN(auto cpus,
            read_online_cpus(context.memory, *context.model.per_cpu, context.location()));
  const auto possible = context.per_cpu.possible_cpus();
  std::erase_if(cpus, [&](unsigned cpu) { return !std::ranges::binary_search(possible, cpu); });
  StructBatch batch(*rq);
  for (const unsigned cpu : cpus)
    batch.add(context.per_cpu.on_cpu(context.per_cpu_symbol(context.queues.runqueues), cpu));
  batch.read(context.memory);
  Queues queues;
  for (std::size_t i = 0; i < cpus.size(); ++i) {
    const auto view = batch[i];
    if (!view) {
      problems.add(fmt::format("the queue of CPU {}", cpus[i]), view.error());
      continue;
    }
    queues.clocks[cpus[i]] = figure(*view, kClockTask);
    if (!view->pointer(kIdle).is_null()) queues.idle_tasks.push_back(view->pointer(kIdle));
  }
  return queues;
}

}  // namespace

std::string policy_name(std::uint64_t policy) {
  return policy < kPolicies.size() ? std::string(kPolicies[policy])
                                   : fmt::format("policy_{}", policy);
}

void set_since_run(TaskInfo& task, std::optional<std::uint64_t> clock_task) {
  if (task.on_cpu)
    task.since_run_ns = 0;
  else if (clock_task && task.exec_start && *task.exec_start != 0 &&
           *task.exec_start <= *clock_task)
    task.since_run_ns = *clock_task - *task.exec_start;
}

std::string SchedContext::class_name(GuestVirt sched_class) const {
  for (const auto& [address, name] : queues.classes)
    if (location().at(address) == sched_class) return name;
  return fmt::format("class_{:#x}", sched_class.value());
}

std::vector<Result<TaskInfo>> read_tasks(SchedContext& context,
                                         std::span<const GuestVirt> addresses) {
  std::vector<Result<TaskInfo>> tasks;
  tasks.reserve(addresses.size());
  const auto task = context.layouts.get(kTask);
  const auto places = context.layouts.get(kTaskPlaces);
  if (!task || !places) {
    tasks.assign(addresses.size(), std::unexpected(task ? places.error() : task.error()));
    return tasks;
  }
  for (std::size_t first = 0; first < addresses.size(); first += kTasksPerExchange)
    read_some(context, {.task = *task, .places = *places},
              addresses.subspan(first, std::min(kTasksPerExchange, addresses.size() - first)),
              tasks);
  return tasks;
}

Result<TaskList> read_all_tasks(SchedContext& context) {
  TaskList list;
  if (!context.model.maps) return std::unexpected(context.model.maps.error());  // has the IDR
  GS_ASSIGN(const std::uint64_t pids, context.layouts.kernel().symbols().require("init_pid_ns"));
  GS_ASSIGN(const StructLayout* space, context.layouts.get(kPidNamespace));
  GS_ASSIGN(const StructLayout* pid, context.layouts.get(kPidStruct));
  GS_ASSIGN(const StructLayout* places, context.layouts.get(kTaskPlaces));
  if (!(*places)[kPidLinks].present)
    return fail(ErrorCode::kUnsupported, "this kernel's struct task_struct has no pid_links");
  const GuestVirt idr = context.location().at(pids).wrapping_add((*space)[0].offset);
  GS_ASSIGN(const auto ids,
            read_idr(context.memory, context.model.maps->idr, idr, "pids", list.problems));
  GS_ASSIGN(Queues queues, read_queues(context, list.problems));
  std::vector<GuestVirt> addresses = std::move(queues.idle_tasks);
  std::vector<std::uint64_t> expected(addresses.size());  // idle tasks have pid 0
  for (const PidTask& found :
       tasks_of_pids(context, ids, *pid, (*places)[kPidLinks].offset, list.problems)) {
    addresses.push_back(found.task);
    expected.push_back(found.pid);
  }
  auto tasks = read_tasks(context, addresses);
  context.budget.report("tasks", list.problems);
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    if (!tasks[i])
      list.problems.add(fmt::format("pid {}", expected[i]), std::move(tasks[i]).error());
    else if (tasks[i]->pid != static_cast<std::int64_t>(expected[i]))
      list.problems.add(fmt::format("pid {}", expected[i]),
                        {.code = ErrorCode::kCorrupt,
                         .message = fmt::format("its task says that it is {}", tasks[i]->pid),
                         .path = {},
                         .address = addresses[i].value()});
    else
      list.tasks.push_back(*std::move(tasks[i]));
  }
  for (TaskInfo& task : list.tasks)
    if (task.cpu && queues.clocks.contains(*task.cpu))
      set_since_run(task, queues.clocks[*task.cpu]);
  return list;
}

}  // namespace guestscope
