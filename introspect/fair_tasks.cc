#include "introspect/fair_tasks.h"

#include <map>
#include <ranges>
#include <unordered_map>
#include <unordered_set>

#include "introspect/fair_entity.h"
#include "introspect/rb_walk.h"

namespace guestscope {

namespace {

enum Place : std::size_t { kQueuePlace };
constexpr FieldNeed kRqFields[] = {{"cfs"}};
constexpr StructNeed kRq = {"rq", kRqFields};
constexpr FieldNeed kTaskFields[] = {{"se"}};
constexpr StructNeed kTask = {"task_struct", kTaskFields};

enum QueueField : std::size_t {
  kRoot,
  kCurrent,
  kGroup,
  kZero,
  kSumWeighted,
  kSumWeight,
  kShift,
  kTaskCount,
};
constexpr FieldNeed kQueueFields[] = {{"tasks_timeline.rb_root.rb_node"},
                                      {"curr"},
                                      {"tg", kOptional},
                                      {"zero_vruntime|min_vruntime", kOptional},
                                      {"sum_w_vruntime|avg_vruntime", kOptional},
                                      {"sum_weight|avg_load", kOptional},
                                      {"sum_shift", kOptional},
                                      {"h_nr_queued|h_nr_running", kOptional}};
constexpr StructNeed kQueue = {"cfs_rq", kQueueFields};

/// A struct cfs_rq: a CPU's own, or a group's there.
struct Queue {
  std::size_t of = 0;      ///< index of the run queue
  GuestVirt owner{};       ///< the entity that stands for it; null: none, or not known
  bool is_walked = false;  ///< its tree is wanted as well
  bool is_read = false;
  GuestVirt root{};
  GuestVirt current{};
  GuestVirt group{};
  std::uint64_t task_count = 0;  ///< those in groups included
  std::optional<FairSums> sums{};
  std::optional<std::size_t> tree{};
  std::optional<FairEntity> current_entity{};
};

class FairWalk final : public ClassWalk {
 public:
  struct Needed {
    const StructLayout& rq;
    const StructLayout& task;
    const StructLayout& queue;
    const StructLayout& entity;
  };
  FairWalk(const Needed& needed, TaskGroups* groups)
      : queue_place_(needed.rq[kQueuePlace].offset),
        task_place_(needed.task[kQueuePlace].offset),
        groups_(groups),
        forest_(needed.entity,
                [this](const RbForest::Found& found) {
                  const FairEntity entity = FairEntity::of(found.view, found.address);
                  follow(entity, queues_[tree_queues_[found.tree]].of);
                  entities_.push_back(entity);
                }),
        queue_reads_(needed.queue),
        current_reads_(needed.entity),
        task_reads_(needed.entity) {}

  std::string_view class_name() const override { return "fair"; }
  void add_queue(std::size_t queue, GuestVirt rq) override {
    want({.of = queue, .is_walked = true}, rq.wrapping_add(queue_place_));
    roots_[queue] = rq.wrapping_add(queue_place_).value();
  }
  void add_task(std::size_t queue, GuestVirt task) override {
    task_reads_.add(task.wrapping_add(task_place_), queue);
  }
  bool busy() const override {
    return forest_.busy() || queue_reads_.busy() || current_reads_.busy() || task_reads_.busy();
  }
  void announce(std::vector<VirtRead>& reads) override {
    forest_.announce(reads);
    queue_reads_.announce(reads);
    current_reads_.announce(reads);
    task_reads_.announce(reads);
  }
  void take(std::span<VirtRead>& reads) override;
  std::vector<FoundTask> tasks(std::size_t queue) override;
  Problems problems() const override;

 private:
  void want(const Queue& queue, GuestVirt address);
  void walk(std::size_t queue);
  void follow(const FairEntity& entity, std::size_t of);
  std::vector<const FairEntity*> entities_of(const Queue& queue) const;
  std::optional<FairAverage> average_of(const Queue& queue) const;
  void emit(const FairEntity& entity, const std::optional<FairAverage>& average,
            std::vector<FoundTask>& into) const;
  std::optional<GuestVirt> group_of(const FairEntity& entity) const;

  std::uint64_t queue_place_;  ///< of a cfs_rq in a rq
  std::uint64_t task_place_;   ///< of an entity in a task
  TaskGroups* groups_;
  std::vector<Queue> queues_;
  std::unordered_map<std::uint64_t, std::size_t> by_address_;
  std::unordered_map<std::size_t, std::uint64_t> roots_;  ///< by index of the run queue
  RbForest forest_;
  std::vector<std::size_t> tree_queues_;
  std::vector<FairEntity> entities_;  ///< of the forest
  StepBatch<std::size_t> queue_reads_;
  StepBatch<std::size_t> current_reads_;  ///< with their queues
  StepBatch<std::size_t> task_reads_;     ///< with the indexes of their run queues
  std::unordered_map<std::size_t, std::vector<FairEntity>> lone_tasks_;
  /// By index of the run queue: tasks found and counted, where these differ.
  std::map<std::size_t, std::pair<std::uint64_t, std::uint64_t>> incomplete_;
  Problems problems_;
};

void FairWalk::want(const Queue& queue, GuestVirt address) {
  const auto refuse = [&](std::string message) {
    problems_.add(tasks_of(queue.of), {.code = ErrorCode::kCorrupt,
                                       .message = std::move(message),
                                       .path = {},
                                       .address = address.value()});
  };
  const auto known = by_address_.find(address.value());
  if (known == by_address_.end()) {
    if (queues_.size() == kMaxGroupQueues)
      return refuse(fmt::format("more than {} queues of groups", kMaxGroupQueues));
    by_address_[address.value()] = queues_.size();
    queue_reads_.add(address, queues_.size());
    queues_.push_back(queue);
    return;
  }
  Queue& same = queues_[known->second];
  if (!queue.is_walked) return;
  if (same.is_walked) {
    // While the kernel switches tasks, an entity may be current and in the tree.
    if (same.owner != queue.owner) refuse("two groups have the same queue");
    return;
  }
  same.is_walked = true;
  same.owner = queue.owner;
  if (same.is_read) walk(known->second);
}

void FairWalk::follow(const FairEntity& entity, std::size_t of) {
  if (!entity.group_queue.is_null())
    want({.of = of, .owner = entity.address, .is_walked = true}, entity.group_queue);
  else if (!entity.own_queue.is_null())
    want({.of = of}, entity.own_queue);  // for its group
}

void FairWalk::walk(std::size_t index) {
  Queue& queue = queues_[index];
  tree_queues_.push_back(index);
  queue.tree = forest_.add(queue.root, tasks_of(queue.of));
  if (!queue.current.is_null()) current_reads_.add(queue.current, index);
}

void FairWalk::take(std::span<VirtRead>& reads) {
  forest_.take(reads);
  queue_reads_.take(reads);
  current_reads_.take(reads);
  task_reads_.take(reads);
  queue_reads_.each([&](GuestVirt, std::size_t index, const Result<StructView>& view) {
    Queue& queue = queues_[index];
    if (!view) return problems_.add(tasks_of(queue.of), view.error());
    queue.is_read = true;
    queue.root = view->pointer(kRoot);
    queue.current = view->pointer(kCurrent);
    queue.group = view->pointer(kGroup);
    queue.task_count = view->u64(kTaskCount);
    if (view->has(kZero) && view->has(kSumWeighted) && view->has(kSumWeight))
      queue.sums = {.zero = view->u64(kZero),
                    .weighted = view->s64(kSumWeighted),
                    .weight = view->u64(kSumWeight),
                    .shift = std::nullopt};
    if (queue.sums && view->has(kShift))
      queue.sums->shift = static_cast<unsigned>(view->u64(kShift));
    if (groups_ != nullptr) groups_->add(queue.group);
    if (queue.is_walked) walk(index);
  });
  current_reads_.each([&](GuestVirt at, std::size_t index, const Result<StructView>& view) {
    if (!view) return problems_.add(tasks_of(queues_[index].of), view.error());
    queues_[index].current_entity = FairEntity::of(*view, at);
    follow(FairEntity(*queues_[index].current_entity), queues_[index].of);
  });
  task_reads_.each([&](GuestVirt at, std::size_t of, const Result<StructView>& view) {
    if (!view) return problems_.add(tasks_of(of), view.error());
    lone_tasks_[of].push_back(FairEntity::of(*view, at));
    follow(FairEntity(lone_tasks_[of].back()), of);
  });
}

std::vector<const FairEntity*> FairWalk::entities_of(const Queue& queue) const {
  std::vector<const FairEntity*> all;
  if (queue.current_entity) all.push_back(&*queue.current_entity);
  if (!queue.tree) return all;
  for (const std::size_t element : forest_.in_order(*queue.tree))
    if (entities_[element].address != queue.current) all.push_back(&entities_[element]);
  return all;
}

std::optional<FairAverage> FairWalk::average_of(const Queue& queue) const {
  const bool is_whole = queue.tree && forest_.is_whole(*queue.tree) &&
                        (queue.current.is_null() || queue.current_entity);
  if (!queue.sums || !is_whole) return std::nullopt;
  std::vector<FairShare> tree;
  for (const std::size_t element : forest_.in_order(*queue.tree))
    tree.push_back(entities_[element].share);
  std::optional<FairShare> current;
  if (queue.current_entity && queue.current_entity->on_rq) current = queue.current_entity->share;
  return FairAverage::of(*queue.sums, tree, current);
}

std::optional<GuestVirt> FairWalk::group_of(const FairEntity& entity) const {
  const auto found = by_address_.find(entity.own_queue.value());
  if (groups_ == nullptr || found == by_address_.end()) return std::nullopt;
  if (!queue_reads_.layout()[kGroup].present) return std::nullopt;
  return queues_[found->second].group;
}

void FairWalk::emit(const FairEntity& entity, const std::optional<FairAverage>& average,
                    std::vector<FoundTask>& into) const {
  FoundTask task{.task = entity.address.wrapping_add(-task_place_),
                 .facts = entity.facts,
                 .group = group_of(entity)};
  if (average)
    task.facts.push_back(
        {.name = "eligible", .value = average->is_eligible(entity.share.vruntime)});
  into.push_back(std::move(task));
}

Problems FairWalk::problems() const {
  Problems all = problems_;
  all.add_all(forest_.problems());
  for (const auto& [of, counts] : incomplete_)
    all.add(tasks_of(of),
            {.code = ErrorCode::kNotReady,
             .message = fmt::format("{} of {} fair tasks: the kernel is just changing their tree",
                                    counts.first, counts.second),
             .path = {},
             .address = {}});
  return all;
}

std::vector<FoundTask> FairWalk::tasks(std::size_t of) {
  struct Open {
    const FairEntity* entity;
    std::size_t average;
  };
  std::vector<FoundTask> found;
  for (const FairEntity& entity : lone_tasks_[of]) emit(entity, std::nullopt, found);
  // The last one is next: what is in a group takes the group's place.
  std::vector<Open> open;
  std::vector<std::optional<FairAverage>> averages;
  std::unordered_set<std::uint64_t> entered;
  const auto enter = [&](std::uint64_t address, GuestVirt owner) {
    const auto known = by_address_.find(address);
    if (known == by_address_.end()) return;
    const Queue& queue = queues_[known->second];
    if (queue.owner != owner || !entered.insert(address).second) return;
    for (const FairEntity* entity : entities_of(queue) | std::views::reverse)
      open.push_back({.entity = entity, .average = averages.size()});
    averages.push_back(average_of(queue));
  };
  const auto root = roots_.find(of);
  if (root == roots_.end()) return found;
  enter(root->second, GuestVirt());
  std::uint64_t queued = 0;
  while (!open.empty()) {
    const Open at = open.back();
    open.pop_back();
    if (!at.entity->group_queue.is_null()) {
      enter(at.entity->group_queue.value(), at.entity->address);
      continue;
    }
    emit(*at.entity, averages[at.average], found);
    if (at.entity->on_rq) ++queued;
  }
  // While a tree is rotated, whole branches are in it by no pointer.
  const std::uint64_t counted = queues_[by_address_.at(root->second)].task_count;
  if (queued < counted) incomplete_[of] = {queued, counted};
  return found;
}

}  // namespace

Result<std::unique_ptr<ClassWalk>> make_fair_walk(SchedContext& context, TaskGroups* groups) {
  GS_ASSIGN(const StructLayout* rq, context.layouts.get(kRq));
  GS_ASSIGN(const StructLayout* task, context.layouts.get(kTask));
  GS_ASSIGN(const StructLayout* queue, context.layouts.get(kQueue));
  GS_ASSIGN(const StructLayout* entity, context.layouts.get(kFairEntityNeed));
  return std::make_unique<FairWalk>(
      FairWalk::Needed{.rq = *rq, .task = *task, .queue = *queue, .entity = *entity}, groups);
}

}  // namespace guestscope
