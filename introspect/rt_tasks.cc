#include "introspect/rt_tasks.h"

#include <map>
#include <ranges>
#include <unordered_map>
#include <unordered_set>

#include "introspect/step_batch.h"

namespace guestscope {

namespace {

enum Place : std::size_t { kPlace };
constexpr FieldNeed kRqFields[] = {{"rt"}};
constexpr StructNeed kRq = {"rq", kRqFields};
constexpr FieldNeed kTaskFields[] = {{"rt"}};
constexpr StructNeed kTask = {"task_struct", kTaskFields};
enum ListField : std::size_t { kNext };
constexpr FieldNeed kListFields[] = {{"next"}};
constexpr StructNeed kList = {"list_head", kListFields};

enum QueueField : std::size_t { kLists, kThrottled, kGroup };
constexpr FieldNeed kQueueFields[] = {
    {"active.queue"}, {"rt_throttled", kOptional}, {"tg", kOptional}};
constexpr StructNeed kQueue = {"rt_rq", kQueueFields};

enum EntityField : std::size_t { kNode, kTimeSlice, kGroupQueue };
constexpr FieldNeed kEntityFields[] = {
    {"run_list"}, {"time_slice", kOptional}, {"my_q", kOptional}};
constexpr StructNeed kEntity = {"sched_rt_entity", kEntityFields};

struct Entity {
  GuestVirt address;
  GuestVirt group_queue;  ///< null: a task
  Facts facts{};
};

/// A struct rt_rq: a CPU's own, or a group's there.
struct Queue {
  std::size_t of = 0;  ///< index of the run queue
  GuestVirt owner{};   ///< the entity that stands for it; null for a CPU's own
  Facts facts{};
  GuestVirt group{};
  std::map<std::size_t, std::vector<Entity>> lists{};  ///< those that are not empty
};

/// How far along a list.
struct ListPlace {
  std::size_t queue = 0;
  std::size_t list = 0;
  GuestVirt head{};
};

class RtWalk final : public ClassWalk {
 public:
  struct Needed {
    const StructLayout& rq;
    const StructLayout& task;
    const StructLayout& list;
    const StructLayout& queue;
    const StructLayout& entity;
  };
  RtWalk(const Needed& needed, TaskGroups* groups)
      : queue_place_(needed.rq[kPlace].offset),
        task_place_(needed.task[kPlace].offset),
        next_place_(needed.list[kNext].offset),
        list_bytes_(needed.list.size()),
        groups_(needed.entity[kGroupQueue].present ? groups : nullptr),
        queue_reads_(needed.queue),
        entity_reads_(needed.entity),
        task_reads_(needed.entity) {}

  std::string_view class_name() const override { return "rt"; }
  void add_queue(std::size_t queue, GuestVirt rq) override {
    want({.of = queue}, rq.wrapping_add(queue_place_));
    roots_[queue] = rq.wrapping_add(queue_place_).value();
  }
  void add_task(std::size_t queue, GuestVirt task) override {
    task_reads_.add(task.wrapping_add(task_place_), queue);
  }
  bool busy() const override {
    return queue_reads_.busy() || entity_reads_.busy() || task_reads_.busy();
  }
  void announce(std::vector<VirtRead>& reads) override {
    queue_reads_.announce(reads);
    entity_reads_.announce(reads);
    task_reads_.announce(reads);
  }
  void take(std::span<VirtRead>& reads) override;
  std::vector<FoundTask> tasks(std::size_t queue) override;
  Problems problems() const override { return problems_; }

 private:
  void want(const Queue& queue, GuestVirt address);
  void enter(GuestVirt address, std::size_t index, const StructView& view);
  void follow(const ListPlace& place, GuestVirt node);
  Entity decode(const StructView& view, GuestVirt address) const;
  FoundTask found(const Entity& entity, const Queue& queue) const;
  void damaged(std::size_t of, GuestVirt at, std::string message) {
    problems_.add(tasks_of(of), {.code = ErrorCode::kCorrupt,
                                 .message = std::move(message),
                                 .path = {},
                                 .address = at.value()});
  }

  std::uint64_t queue_place_;  ///< of a rt_rq in a rq
  std::uint64_t task_place_;   ///< of an entity in a task
  std::uint64_t next_place_;   ///< in a list_head
  std::size_t list_bytes_;
  TaskGroups* groups_;
  std::vector<Queue> queues_;
  std::unordered_map<std::uint64_t, std::size_t> by_address_;
  std::unordered_map<std::size_t, std::uint64_t> roots_;  ///< by index of the run queue
  std::unordered_set<std::uint64_t> seen_;                ///< nodes
  StepBatch<std::size_t> queue_reads_;
  StepBatch<ListPlace> entity_reads_;
  StepBatch<std::size_t> task_reads_;  ///< with the indexes of their run queues
  std::unordered_map<std::size_t, std::vector<Entity>> lone_tasks_;
  Problems problems_;
};

void RtWalk::want(const Queue& queue, GuestVirt address) {
  if (queues_.size() == kMaxGroupQueues)
    return damaged(queue.of, address,
                   fmt::format("more than {} queues of groups", kMaxGroupQueues));
  if (!by_address_.emplace(address.value(), queues_.size()).second)
    return damaged(queue.of, address, "two groups have the same queue");
  queue_reads_.add(address, queues_.size());
  queues_.push_back(queue);
}

/// All its lists that are not empty: an empty one's head points to itself.
void RtWalk::enter(GuestVirt address, std::size_t index, const StructView& view) {
  Queue& queue = queues_[index];
  if (view.has(kThrottled))
    queue.facts.push_back({.name = "throttled", .value = view.u64(kThrottled) != 0});
  queue.group = view.pointer(kGroup);
  if (groups_ != nullptr) groups_->add(queue.group);
  const ByteSpan lists = view.bytes(kLists);
  const GuestVirt first = address.wrapping_add(view.layout()[kLists].offset);
  for (std::size_t i = 0; i < lists.size() / list_bytes_; ++i) {
    const std::uint64_t next = load_le(lists.data() + i * list_bytes_ + next_place_, 8);
    follow({.queue = index, .list = i, .head = first.wrapping_add(i * list_bytes_)},
           GuestVirt(next));
  }
}

void RtWalk::follow(const ListPlace& place, GuestVirt node) {
  // A queue that was never set up (of a CPU that was never there) is all zeros.
  if (node == place.head || node.is_null()) return;
  const std::size_t of = queues_[place.queue].of;
  if (seen_.size() == kMaxQueueEntries)
    return damaged(of, node, fmt::format("lists of more than {} tasks", kMaxQueueEntries));
  if (!seen_.insert(node.value()).second)
    return damaged(of, node, "its list leads to an entry that was there before");
  entity_reads_.add(node.wrapping_add(-std::uint64_t{entity_reads_.layout()[kNode].offset}), place);
}

Entity RtWalk::decode(const StructView& view, GuestVirt address) const {
  Entity entity{.address = address, .group_queue = view.pointer(kGroupQueue)};
  if (view.has(kTimeSlice))
    entity.facts.push_back({.name = "time_slice", .value = view.u64(kTimeSlice)});
  return entity;
}

void RtWalk::take(std::span<VirtRead>& reads) {
  queue_reads_.take(reads);
  entity_reads_.take(reads);
  task_reads_.take(reads);
  queue_reads_.each([&](GuestVirt at, std::size_t index, const Result<StructView>& view) {
    if (view)
      enter(at, index, *view);
    else
      problems_.add(tasks_of(queues_[index].of), view.error());
  });
  entity_reads_.each([&](GuestVirt at, const ListPlace& place, const Result<StructView>& view) {
    const std::size_t of = queues_[place.queue].of;
    if (!view) return problems_.add(tasks_of(of), view.error());
    Entity entity = decode(*view, at);
    if (!entity.group_queue.is_null()) want({.of = of, .owner = at}, entity.group_queue);
    queues_[place.queue].lists[place.list].push_back(std::move(entity));
    follow(place, GuestVirt(load_le(view->bytes(kNode).data() + next_place_, 8)));
  });
  task_reads_.each([&](GuestVirt at, std::size_t of, const Result<StructView>& view) {
    if (view)
      lone_tasks_[of].push_back(decode(*view, at));
    else
      problems_.add(tasks_of(of), view.error());
  });
}

FoundTask RtWalk::found(const Entity& entity, const Queue& queue) const {
  FoundTask task{.task = entity.address.wrapping_add(-task_place_), .facts = entity.facts};
  for (const Fact& fact : queue.facts) task.facts.push_back(fact);
  if (groups_ != nullptr) task.group = queue.group;
  return task;
}

std::vector<FoundTask> RtWalk::tasks(std::size_t of) {
  std::vector<FoundTask> all;
  for (const Entity& entity : lone_tasks_[of])
    all.push_back({.task = entity.address.wrapping_add(-task_place_), .facts = entity.facts});
  // The last one is next: what is in a group takes the group's place. Ends, since a queue has one
  // owner, and an entity is in one list.
  std::vector<std::pair<const Entity*, const Queue*>> open;
  const auto enter_queue = [&](std::uint64_t address, GuestVirt owner) {
    const Queue& queue = queues_[by_address_.at(address)];
    if (queue.owner != owner) return;
    for (const auto& [priority, list] : queue.lists | std::views::reverse)
      for (const Entity& entity : list | std::views::reverse) open.emplace_back(&entity, &queue);
  };
  if (const auto root = roots_.find(of); root != roots_.end())
    enter_queue(root->second, GuestVirt());
  while (!open.empty()) {
    const auto [entity, queue] = open.back();
    open.pop_back();
    if (entity->group_queue.is_null())
      all.push_back(found(*entity, *queue));
    else if (by_address_.contains(entity->group_queue.value()))
      enter_queue(entity->group_queue.value(), entity->address);
  }
  return all;
}

}  // namespace

Result<std::unique_ptr<ClassWalk>> make_rt_walk(SchedContext& context, TaskGroups* groups) {
  GS_ASSIGN(const StructLayout* rq, context.layouts.get(kRq));
  GS_ASSIGN(const StructLayout* task, context.layouts.get(kTask));
  GS_ASSIGN(const StructLayout* list, context.layouts.get(kList));
  GS_ASSIGN(const StructLayout* queue, context.layouts.get(kQueue));
  GS_ASSIGN(const StructLayout* entity, context.layouts.get(kEntity));
  if (list->size() < (*list)[kNext].offset + 8 || (*entity)[kNode].size < list->size())
    return fail(ErrorCode::kUnsupported, "the kernel's types describe no list");
  return std::make_unique<RtWalk>(
      RtWalk::Needed{.rq = *rq, .task = *task, .list = *list, .queue = *queue, .entity = *entity},
      groups);
}

}  // namespace guestscope
