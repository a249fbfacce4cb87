#include "introspect/fair_entity.h"

#include "introspect/rb_walk.h"

namespace guestscope {

namespace {

enum EntityField : std::size_t {
  kOnRq = RbForest::kFirstOwn,
  kVruntime,
  kWeight,
  kFlatWeight,
  kDeadline,
  kSlice,
  kLag,
  kDelayed,
  kDepth,
  kOwnQueue,    ///< in which it is
  kGroupQueue,  ///< which it stands for
};
constexpr FieldNeed kEntityFields[] = {{"run_node"},
                                       {"run_node.rb_left"},
                                       {"run_node.rb_right"},
                                       {"on_rq"},
                                       {"vruntime"},
                                       {"load.weight"},
                                       {"h_load.weight", kOptional},
                                       {"deadline", kOptional},
                                       {"slice", kOptional},
                                       {"vlag", kOptional},
                                       {"sched_delayed", kOptional},
                                       {"depth", kOptional},
                                       {"cfs_rq", kOptional},
                                       {"my_q", kOptional}};
}  // namespace

const StructNeed kFairEntityNeed = {"sched_entity", kEntityFields};

FairEntity FairEntity::of(const StructView& view, GuestVirt address) {
  FairEntity entity{.address = address,
                    .on_rq = view.u64(kOnRq) != 0,
                    // Since groups have no trees of their own, a task's weight among all of them.
                    .share = {.vruntime = view.u64(kVruntime),
                              .weight = view.u64(view.has(kFlatWeight) ? kFlatWeight : kWeight)},
                    .own_queue = view.pointer(kOwnQueue),
                    .group_queue = view.pointer(kGroupQueue),
                    .facts = {{.name = "vruntime", .value = view.u64(kVruntime)}}};
  const auto add = [&](const char* name, std::size_t field) {
    if (view.has(field)) entity.facts.push_back({.name = name, .value = view.u64(field)});
  };
  add("deadline", kDeadline);
  add("slice_ns", kSlice);
  if (view.has(kLag)) entity.facts.push_back({.name = "vlag", .value = view.s64(kLag)});
  add("load_weight", kWeight);
  add("h_load", kFlatWeight);
  if (view.has(kDelayed))
    entity.facts.push_back({.name = "delayed", .value = view.u64(kDelayed) != 0});
  add("depth", kDepth);
  return entity;
}

}  // namespace guestscope
