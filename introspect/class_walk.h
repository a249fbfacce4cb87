// ClassWalk: how everything that is runnable in one scheduling class is found, on all CPUs side by
// side. One implementation for each class: fair_tasks.h, rt_tasks.h, dl_tasks.h. Internal to
// introspect/.
//
// Goes in steps of one exchange, together with the other classes (queued_tasks.cc). Bounded and
// free of cycles; what could be read is kept, what could not is in problems(). Threads: one.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "introspect/facts.h"
#include "introspect/kernel_memory.h"
#include "introspect/problem.h"

namespace guestscope {

/// A task in a queue: where its task_struct is, and what only its queue says of it.
struct FoundTask {
  GuestVirt task;
  Facts facts{};
  /// Where the class knows of groups: the struct task_group that it is in, or null.
  std::optional<GuestVirt> group{};
};

class ClassWalk {
 public:
  ClassWalk() = default;
  ClassWalk(const ClassWalk&) = delete;
  ClassWalk& operator=(const ClassWalk&) = delete;
  virtual ~ClassWalk() = default;

  /// As SchedContext::class_name() says it.
  virtual std::string_view class_name() const = 0;
  /// Everything of this class on the run queue (struct rq) at `rq`, known by `queue`: its index in
  /// the answer.
  virtual void add_queue(std::size_t queue, GuestVirt rq) = 0;
  /// A task of this class that is current there, and that the queue did not lead to.
  virtual void add_task(std::size_t queue, GuestVirt task) = 0;

  virtual bool busy() const = 0;
  // One step: see read_together().
  virtual void announce(std::vector<VirtRead>& reads) = 0;
  virtual void take(std::span<VirtRead>& reads) = 0;

  /// When nothing is left to read: in the order of the class, what add_task() brought first.
  virtual std::vector<FoundTask> tasks(std::size_t queue) = 0;
  virtual Problems problems() const = 0;
};

/// Where problems with a queue's tasks belong.
inline std::string tasks_of(std::size_t queue) { return fmt::format("runqueues[{}].tasks", queue); }

}  // namespace guestscope
