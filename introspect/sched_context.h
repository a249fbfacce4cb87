// SchedContext: what every reader of the scheduler's structures needs. Internal to introspect/.
#pragma once

#include "introspect/accessors.h"
#include "introspect/answer_budget.h"
#include "introspect/kernel_memory.h"
#include "introspect/kernel_model.h"
#include "introspect/layouts.h"

namespace guestscope {

/// Borrows everything but the budget. Lives within one snapshot, for one answer.
struct SchedContext {
  KernelMemory& memory;
  Layouts& layouts;
  const KernelModel& model;
  const RunQueueModel& queues;  ///< of the model
  const PerCpuOffsets& per_cpu;
  AnswerBudget budget{};

  const KernelLocation& location() const { return per_cpu.location; }
  /// A per-CPU symbol's value as the address to which a CPU's offset is added. (x86-64 before 6.15
  /// numbers per-CPU symbols from zero; elsewhere they are addresses in the image and move with
  /// it.)
  GuestVirt per_cpu_symbol(std::uint64_t symbol) const {
    const std::uint64_t text = model.boot->text;
    const bool in_image = symbol >= text && symbol - text < location().image_size;
    return in_image ? location().at(symbol) : GuestVirt(symbol);
  }
  /// "fair", "rt", "dl", "stop", "idle", "ext"; "class_0x…" for a foreign one.
  std::string class_name(GuestVirt sched_class) const;
};

}  // namespace guestscope
