// QueuedTasks: everything that is runnable, of all classes and on all CPUs side by side. Takes one
// exchange for each level of the deepest of all trees (or each step along the longest list), and
// one for the tasks. Internal to introspect/: see read_run_queues().
//
// Threads: one. Owns what it finds; borrows the context.
#pragma once

#include <memory>
#include <optional>
#include <unordered_set>

#include "introspect/class_walk.h"
#include "introspect/run_queues.h"
#include "introspect/task_groups.h"

namespace guestscope {

class QueuedTasks {
 public:
  /// A class that this kernel's types do not describe is a problem, and the others are read.
  QueuedTasks(SchedContext& context, Problems& problems);
  QueuedTasks(const QueuedTasks&) = delete;
  QueuedTasks& operator=(const QueuedTasks&) = delete;

  /// `queue`: index in the answer. `rq`: a struct rq.
  void add_queue(std::size_t queue, GuestVirt rq);
  // The first step, to be read together with the queues' figures: see read_together().
  void announce(std::vector<VirtRead>& reads);
  void take(std::span<VirtRead>& reads);

  /// What runs on a CPU: two tasks only while one lends its turn to another (proxy execution).
  struct Running {
    GuestVirt task;   ///< rq.curr; null: nothing is known of this CPU
    GuestVirt donor;  ///< whose turn it is
  };
  /// Everything else: fills `curr` and `tasks` of each readable queue; one `running` for each.
  void fill(std::vector<RunQueue>& queues, std::span<const Running> running);

 private:
  struct Candidate {
    std::size_t queue = 0;
    std::size_t rank = 0;   ///< of its class
    bool is_listed = true;  ///< its queue led to it
    FoundTask found;
  };

  bool busy() const;
  void read_rest();
  std::vector<Candidate> collect(std::span<const RunQueue> queues);
  std::vector<Result<TaskInfo>> read_all(std::span<const RunQueue> queues,
                                         std::span<const Running> running,
                                         std::vector<Candidate>& candidates);
  void complete(std::vector<Candidate>& candidates, std::span<const Result<TaskInfo>> tasks);
  ClassWalk* walk_of(std::string_view class_name);
  FactValue group_name(GuestVirt group, std::size_t queue);
  void place(RunQueue& queue, const Running& running, const Candidate& candidate,
             const Result<TaskInfo>& task);

  SchedContext& context_;
  Problems& problems_;
  std::optional<TaskGroups> groups_;
  std::vector<std::unique_ptr<ClassWalk>> walks_;
  std::unordered_set<std::uint64_t> bad_groups_;  ///< of which it has been said
};

}  // namespace guestscope
