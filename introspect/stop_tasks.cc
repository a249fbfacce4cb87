#include "introspect/stop_tasks.h"

#include <unordered_map>

#include "introspect/step_batch.h"

namespace guestscope {

namespace {

enum Rq : std::size_t { kStop };
constexpr FieldNeed kRqFields[] = {{"stop"}};
constexpr StructNeed kRq = {"rq", kRqFields};
enum Task : std::size_t { kOnRq };
constexpr FieldNeed kTaskFields[] = {{"on_rq"}};
constexpr StructNeed kTask = {"task_struct", kTaskFields};

class StopWalk final : public ClassWalk {
 public:
  StopWalk(const StructLayout& rq, const StructLayout& task) : queues_(rq), tasks_(task) {}

  std::string_view class_name() const override { return "stop"; }
  void add_queue(std::size_t queue, GuestVirt rq) override { queues_.add(rq, queue); }
  void add_task(std::size_t queue, GuestVirt task) override { found_[queue] = task; }
  bool busy() const override { return queues_.busy() || tasks_.busy(); }
  void announce(std::vector<VirtRead>& reads) override {
    queues_.announce(reads);
    tasks_.announce(reads);
  }
  void take(std::span<VirtRead>& reads) override {
    queues_.take(reads);
    tasks_.take(reads);
    queues_.each([&](GuestVirt, std::size_t queue, const Result<StructView>& view) {
      if (!view)
        problems_.add(tasks_of(queue), view.error());
      else if (!view->pointer(kStop).is_null())
        tasks_.add(view->pointer(kStop), queue);
    });
    tasks_.each([&](GuestVirt task, std::size_t queue, const Result<StructView>& view) {
      if (!view)
        problems_.add(tasks_of(queue), view.error());
      else if (view->u64(kOnRq) != 0)
        found_[queue] = task;
    });
  }
  std::vector<FoundTask> tasks(std::size_t queue) override {
    const auto found = found_.find(queue);
    if (found == found_.end()) return {};
    return {{.task = found->second}};
  }
  Problems problems() const override { return problems_; }

 private:
  StepBatch<std::size_t> queues_;
  StepBatch<std::size_t> tasks_;
  std::unordered_map<std::size_t, GuestVirt> found_;
  Problems problems_;
};

}  // namespace

Result<std::unique_ptr<ClassWalk>> make_stop_walk(SchedContext& context) {
  GS_ASSIGN(const StructLayout* rq, context.layouts.get(kRq));
  GS_ASSIGN(const StructLayout* task, context.layouts.get(kTask));
  return std::make_unique<StopWalk>(*rq, *task);
}

}  // namespace guestscope
