// Topology: the guest's CPUs as its scheduler sees them: sets of CPUs, root domains, and the
// scheduling domains of each CPU with their groups.
//
// Threads: called by the thread that owns the memory; the result is plain values. What cannot be
// read is null and a problem; kUnsupported when this kernel's types lack a run queue's domains.
// Source of truth: include/linux/sched/topology.h, kernel/sched/topology.c; docs/interface.md says
// which field is behind each figure.
#pragma once

#include "introspect/fact_report.h"
#include "introspect/sched_context.h"

namespace guestscope {

/// {"cpus": {…}, "root_domains": […], "domains": […]}. An exchange for each level of domains and
/// four or so for everything else.
Result<FactReport> read_topology(SchedContext& context);

}  // namespace guestscope
