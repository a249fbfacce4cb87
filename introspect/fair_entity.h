// FairEntity: a struct sched_entity, which stands for a task or for a group of them in a queue of
// the fair class. Internal to introspect/: see fair_tasks.h.
#pragma once

#include "introspect/facts.h"
#include "introspect/fair_average.h"
#include "introspect/layouts.h"

namespace guestscope {

/// Begins with what an RbForest needs.
extern const StructNeed kFairEntityNeed;

struct FairEntity {
  GuestVirt address;
  bool on_rq = false;
  FairShare share;        ///< with what it competes in its queue
  GuestVirt own_queue;    ///< of its group
  GuestVirt group_queue;  ///< of the group that it stands for; null: a task
  Facts facts;            ///< but for "eligible" and "group"

  static FairEntity of(const StructView& view, GuestVirt address);
};

}  // namespace guestscope
