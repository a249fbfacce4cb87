// ScopeOf: what readers of the scheduler need, over a guest that has booted, with an answer's
// budget of the test's choice.
#pragma once

#include <doctest/doctest.h>

#include "introspect/sched_context.h"
#include "tests/support/mini_guest.h"

namespace guestscope::test {

class ScopeOf {
 public:
  explicit ScopeOf(MiniGuest& guest, AnswerBudget budget = AnswerBudget())
      : per_cpu_(offsets(guest)),
        memory_(guest.memory, *per_cpu_.location.regime, per_cpu_.location.linear),
        layouts_(guest.model->file),
        context{.memory = memory_,
                .layouts = layouts_,
                .model = *guest.model,
                .queues = *guest.model->run_queues,
                .per_cpu = per_cpu_,
                .budget = budget} {}

 private:
  static PerCpuOffsets offsets(MiniGuest& guest) {
    PagingRegisterCell cell;
    cell.store(guest.paging_registers());
    auto per_cpu = try_init_per_cpu_offsets(guest.memory, *guest.model, cell);
    if (!per_cpu) FAIL(per_cpu.error().to_string());
    return *std::move(per_cpu);
  }

  PerCpuOffsets per_cpu_;
  KernelMemory memory_;
  Layouts layouts_;

 public:
  SchedContext context;
};

}  // namespace guestscope::test
