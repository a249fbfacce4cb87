#include "introspect/dl_tasks.h"

#include <unordered_map>

#include "introspect/rb_walk.h"

namespace guestscope {

namespace {

enum Place : std::size_t { kPlace };
constexpr FieldNeed kRqFields[] = {{"dl"}};
constexpr StructNeed kRq = {"rq", kRqFields};
constexpr FieldNeed kTaskFields[] = {{"dl"}};
constexpr StructNeed kTask = {"task_struct", kTaskFields};

enum QueueField : std::size_t { kRoot };
constexpr FieldNeed kQueueFields[] = {{"root.rb_root.rb_node"}};
constexpr StructNeed kQueue = {"dl_rq", kQueueFields};

enum EntityField : std::size_t {
  kRuntimeLeft = RbForest::kFirstOwn,
  kDeadline,
  kRuntime,
  kRelativeDeadline,
  kPeriod,
  kThrottled,
  kYielded,
  kServer,
};
constexpr FieldNeed kEntityFields[] = {{"rb_node"},
                                       {"rb_node.rb_left"},
                                       {"rb_node.rb_right"},
                                       {"runtime"},
                                       {"deadline"},
                                       {"dl_runtime"},
                                       {"dl_deadline"},
                                       {"dl_period"},
                                       {"dl_throttled", kOptional},
                                       {"dl_yielded", kOptional},
                                       {"dl_server", kOptional}};
constexpr StructNeed kEntity = {"sched_dl_entity", kEntityFields};

Facts facts_of(const StructView& view) {
  Facts facts = {{.name = "runtime_ns", .value = view.s64(kRuntimeLeft)},
                 {.name = "deadline_ns", .value = view.u64(kDeadline)},
                 {.name = "dl_runtime_ns", .value = view.u64(kRuntime)},
                 {.name = "dl_deadline_ns", .value = view.u64(kRelativeDeadline)},
                 {.name = "dl_period_ns", .value = view.u64(kPeriod)}};
  if (view.has(kThrottled))
    facts.push_back({.name = "throttled", .value = view.u64(kThrottled) != 0});
  if (view.has(kYielded)) facts.push_back({.name = "yielded", .value = view.u64(kYielded) != 0});
  return facts;
}

class DlWalk final : public ClassWalk {
 public:
  struct Needed {
    const StructLayout& rq;
    const StructLayout& task;
    const StructLayout& queue;
    const StructLayout& entity;
  };
  explicit DlWalk(const Needed& needed)
      : queue_place_(needed.rq[kPlace].offset),
        task_place_(needed.task[kPlace].offset),
        forest_(needed.entity,
                [this](const RbForest::Found& found) {
                  entities_.push_back(
                      {.is_server = found.view.u64(kServer) != 0,
                       .task = {.task = task_at(found.address), .facts = facts_of(found.view)}});
                }),
        queues_(needed.queue),
        tasks_(needed.entity) {}

  std::string_view class_name() const override { return "dl"; }
  void add_queue(std::size_t queue, GuestVirt rq) override {
    queues_.add(rq.wrapping_add(queue_place_), queue);
  }
  void add_task(std::size_t queue, GuestVirt task) override {
    tasks_.add(task.wrapping_add(task_place_), queue);
  }
  bool busy() const override { return forest_.busy() || queues_.busy() || tasks_.busy(); }
  void announce(std::vector<VirtRead>& reads) override {
    forest_.announce(reads);
    queues_.announce(reads);
    tasks_.announce(reads);
  }
  void take(std::span<VirtRead>& reads) override {
    forest_.take(reads);
    queues_.take(reads);
    tasks_.take(reads);
    queues_.each([&](GuestVirt, std::size_t queue, const Result<StructView>& view) {
      if (view)
        trees_[queue] = forest_.add(view->pointer(kRoot), tasks_of(queue));
      else
        problems_.add(tasks_of(queue), view.error());
    });
    tasks_.each([&](GuestVirt at, std::size_t queue, const Result<StructView>& view) {
      if (view)
        lone_tasks_[queue].push_back({.task = task_at(at), .facts = facts_of(*view)});
      else
        problems_.add(tasks_of(queue), view.error());
    });
  }
  std::vector<FoundTask> tasks(std::size_t queue) override {
    std::vector<FoundTask> found = lone_tasks_[queue];
    const auto tree = trees_.find(queue);
    if (tree == trees_.end()) return found;
    for (const std::size_t element : forest_.in_order(tree->second))
      if (!entities_[element].is_server) found.push_back(entities_[element].task);
    return found;
  }
  Problems problems() const override {
    Problems all = problems_;
    all.add_all(forest_.problems());
    return all;
  }

 private:
  struct Entity {
    bool is_server = false;
    FoundTask task;
  };
  GuestVirt task_at(GuestVirt entity) const { return entity.wrapping_add(-task_place_); }

  std::uint64_t queue_place_;  ///< of a dl_rq in a rq
  std::uint64_t task_place_;   ///< of an entity in a task
  RbForest forest_;
  std::vector<Entity> entities_;  ///< of the forest
  StepBatch<std::size_t> queues_;
  StepBatch<std::size_t> tasks_;
  std::unordered_map<std::size_t, std::size_t> trees_;
  std::unordered_map<std::size_t, std::vector<FoundTask>> lone_tasks_;
  Problems problems_;
};

}  // namespace

Result<std::unique_ptr<ClassWalk>> make_dl_walk(SchedContext& context) {
  GS_ASSIGN(const StructLayout* rq, context.layouts.get(kRq));
  GS_ASSIGN(const StructLayout* task, context.layouts.get(kTask));
  GS_ASSIGN(const StructLayout* queue, context.layouts.get(kQueue));
  GS_ASSIGN(const StructLayout* entity, context.layouts.get(kEntity));
  return std::make_unique<DlWalk>(
      DlWalk::Needed{.rq = *rq, .task = *task, .queue = *queue, .entity = *entity});
}

}  // namespace guestscope
