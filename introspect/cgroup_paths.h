// CgroupPaths: the ids and paths of cgroups, from their nodes in the cgroup file system (struct
// kernfs_node) and all that these lie in. Each node is read once; one exchange for each level of
// nesting and one more, for all of them together, and together with other things if need be.
//
// Threads: one. Text is the guest's. Source of truth: include/linux/kernfs.h.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "introspect/layouts.h"
#include "introspect/step_batch.h"
#include "introspect/text_batch.h"

namespace guestscope {

class CgroupPaths {
 public:
  static Result<CgroupPaths> create(KernelMemory& memory, Layouts& layouts);

  /// Announces a node whose path will be wanted; a null one has none.
  void add(GuestVirt node) { want(node, 0); }
  /// There is more to read. See read_together().
  bool busy() const { return nodes_.busy() || !unnamed_.empty(); }
  void announce(std::vector<VirtRead>& reads);
  void take(std::span<VirtRead>& reads);

  // When nothing is left to read, of a node that was added.
  Result<std::uint64_t> id(GuestVirt node) const;
  /// "/" for a root; within its hierarchy, as /proc/PID/cgroup shows it in the initial namespace.
  Result<std::string> path(GuestVirt node) const;

 private:
  struct Entry {
    std::uint64_t id = 0;
    GuestVirt parent{};
    Result<std::string> name{};
  };
  struct Unnamed {
    std::uint64_t node = 0;
    GuestVirt name;
  };

  CgroupPaths(KernelMemory& memory, const StructLayout& layout)
      : memory_(&memory), nodes_(layout) {}
  void want(GuestVirt node, std::size_t depth);
  Result<const Entry*> find(GuestVirt node) const;

  KernelMemory* memory_;
  std::unordered_map<std::uint64_t, Result<Entry>> entries_;
  StepBatch<std::size_t> nodes_;  ///< with their depths
  std::vector<Unnamed> unnamed_;  ///< read, but for their names
  // What the current exchange reads.
  std::vector<Unnamed> naming_;
  TextBatch names_;
};

}  // namespace guestscope
