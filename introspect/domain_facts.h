// What is told of a scheduling domain by the kernel's own names: its flags, and how often it was
// balanced. Internal to introspect/.
//
// Threads: as the layouts. Source of truth: include/linux/sched/sd_flags.h, show_schedstat() in
// kernel/sched/stats.c.
#pragma once

#include "introspect/facts.h"
#include "introspect/layouts.h"

namespace guestscope {

/// struct sched_domain, for domain_balance().
extern const StructNeed kDomainBalanceNeed;

/// {"idle": {"lb_count": …}, "not_idle": …, "newly_idle": …, "alb_count": …}; empty on kernels
/// without CONFIG_SCHEDSTATS.
Facts domain_balance(const Btf& btf, const StructView& domain);

/// ["balance_newidle", …]; "bit_30" for one without a name. Empty when the kernel has no names.
FactList domain_flag_names(Layouts& layouts, std::uint64_t flags);

}  // namespace guestscope
