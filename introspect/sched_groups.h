// SchedGroups: the scheduling groups of many domains, rings of which most are shared by the CPUs of
// a domain. Internal to introspect/.
//
// Groups are read by address, each once, those of all domains together: an exchange for all first
// groups (which together are the whole rings, but for NUMA domains that overlap), one for each step
// from there to groups not seen yet, and one for the last ones' capacities.
//
// Threads: the one that owns the memory. Source of truth: struct sched_group in
// kernel/sched/sched.h.
#pragma once

#include <map>
#include <vector>

#include "introspect/facts.h"
#include "introspect/problem.h"
#include "introspect/sched_context.h"
#include "introspect/struct_batch.h"

namespace guestscope {

class SchedGroups {
 public:
  /// kUnsupported when this kernel's types lack what it takes.
  static Result<SchedGroups> over(SchedContext& context);

  /// Announces a domain's first group.
  void add(GuestVirt group);
  /// The next step, to be read together with others': then take(), until done().
  bool done() const { return wanted_.empty() && unread_capacities_.empty(); }
  void prepare();
  StructBatch& groups() { return *groups_; }
  ReadBatch& spans() { return spans_; }
  StructBatch& capacities() { return *capacities_; }
  void take();

  /// The ring that begins with `first`, as far as it can be followed; `budget`: bytes that the
  /// answer may still hold.
  Result<FactList> ring(GuestVirt first, std::size_t& budget) const;

 private:
  struct Group {
    GuestVirt next;
    GuestVirt capacity;
    std::string span;
    Facts facts;
    std::optional<Error> error{};
  };
  SchedGroups(SchedContext& context, const StructLayout& group, const StructLayout* capacity)
      : context_(&context), group_(&group), capacity_(capacity) {}
  void want(GuestVirt group);

  SchedContext* context_;
  const StructLayout* group_;
  const StructLayout* capacity_;  // null: this kernel has none
  std::map<GuestVirt, Group> known_;
  std::map<GuestVirt, Facts> known_capacities_;
  std::vector<GuestVirt> wanted_;
  std::vector<GuestVirt> unread_capacities_;
  std::optional<StructBatch> groups_;
  std::optional<StructBatch> capacities_;
  ReadBatch spans_;
  std::vector<GuestVirt> reading_;
  std::vector<GuestVirt> reading_capacities_;
  std::size_t steps_ = 0;
  std::size_t span_budget_ = kMaxTopologyBytes;
};

}  // namespace guestscope
