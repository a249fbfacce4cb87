// TaskGroups: the groups (struct task_group) that the scheduler shares CPUs out to, by the names
// that user space has for them: a cgroup's path, or "/autogroup-7".
//
// Each is read once, step by step together with other things: see read_together(). Threads: one.
// Text is the guest's. Source of truth: kernel/sched/sched.h and autogroup.c.
#pragma once

#include <unordered_map>

#include "introspect/cgroup_paths.h"

namespace guestscope {

class TaskGroups {
 public:
  static Result<TaskGroups> create(KernelMemory& memory, Layouts& layouts);

  /// Announces a group whose name will be wanted; a null one has none.
  void add(GuestVirt group);
  bool busy() const;
  void announce(std::vector<VirtRead>& reads);
  void take(std::span<VirtRead>& reads);
  /// When nothing is left to read, of a group that was added.
  Result<std::string> name(GuestVirt group) const;

 private:
  struct Entry {
    GuestVirt node{};  ///< its cgroup's; null: it is no cgroup's
    std::optional<std::uint64_t> autogroup{};
  };

  struct Needed {
    const StructLayout& group;
    const StructLayout& cgroup;
    const StructLayout& autogroup;
  };
  TaskGroups(const Needed& needed, CgroupPaths paths);
  void failed(GuestVirt group, const Error& error);

  std::unordered_map<std::uint64_t, Result<Entry>> entries_;
  StepBatch<GuestVirt> groups_;
  StepBatch<GuestVirt> cgroups_;  ///< with the groups that they are of, here and below
  StepBatch<GuestVirt> autogroups_;
  CgroupPaths paths_;
};

}  // namespace guestscope
