// Sets of CPUs: the kernel's global ones, and how sets are written.
//
// Threads: CpuMasks by the thread that owns the memory. Source of truth: include/linux/cpumask.h,
// kernel/sched/isolation.c.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "introspect/facts.h"
#include "introspect/problem.h"
#include "introspect/sched_context.h"

namespace guestscope {

/// "0-3,7", as the kernel prints sets of CPUs; `cpus` in order.
std::string cpu_list(const std::vector<unsigned>& cpus);

/// Of a struct cpumask, what possible CPUs need.
std::size_t cpu_mask_bytes(const SchedContext& context);

/// Where a field of the type cpumask_var_t has its mask: the field points to it on kernels for many
/// CPUs, and is the mask itself on others. `at`: where the structure lies.
GuestVirt mask_place(const SchedContext& context, const StructView& view, std::size_t field,
                     GuestVirt at);

/// The kernel's sets of CPUs, in two exchanges together with others':
///   read_together(memory, masks.globals(), …); masks.follow(); read_together(memory,
///   masks.rest());
class CpuMasks {
 public:
  explicit CpuMasks(SchedContext& context);

  ReadBatch& globals() { return globals_; }
  void follow();
  ReadBatch& rest() { return rest_; }
  /// {"possible": "0-3", …, "isolated": "", "nohz_full": ""}
  Facts facts(Problems& problems) const;

 private:
  struct Isolated {
    const char* name;
    std::optional<std::size_t> mask;  ///< in rest_; none: no CPU is kept free
  };
  void follow_sets();
  void follow_one_set();

  SchedContext& context_;
  ReadBatch globals_;
  ReadBatch rest_;
  std::vector<std::pair<const char*, std::size_t>> masks_;
  std::optional<std::size_t> sets_;                             // struct housekeeping
  std::optional<std::pair<std::size_t, std::size_t>> one_set_;  // its mask and its flags
  std::vector<Isolated> isolated_;
};

}  // namespace guestscope
