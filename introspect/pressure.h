// Pressure: what the kernel has of pressure stall information (PSI) for the whole system.
//
// The kernel brings its averages up to date when somebody reads them, and every two seconds while
// something stalls; memory has them as of then.
// Threads: pure functions. Source of truth: kernel/sched/psi.c. Internal to introspect/.
#pragma once

#include "introspect/facts.h"
#include "introspect/layouts.h"

namespace guestscope {

/// struct psi_group.
extern const StructNeed kPressureNeed;

/// "0.12", as the kernel prints its fixed-point numbers: with two decimals, rounded down.
double fixed_point(std::uint64_t value);

/// {"enabled": true, "updated_at_ns": …, "cpu": {"some": {…}}, "memory": {"some", "full"}, …}
Facts pressure_facts(Layouts& layouts, const StructView& group);

}  // namespace guestscope
