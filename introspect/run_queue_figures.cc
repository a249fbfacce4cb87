#include "introspect/run_queue_figures.h"

#include <array>
#include <utility>

namespace guestscope {

namespace {

enum class Kind : std::uint8_t { kUnsigned, kSigned, kBool };
constexpr auto kSigned = Kind::kSigned;
constexpr auto kBool = Kind::kBool;

struct Figure {
  const char* group;  ///< "": none
  const char* name;
  const char* path;  ///< in struct rq; alternatives as in FieldNeed
  Kind kind = Kind::kUnsigned;
  bool of_core = false;  ///< kept in the queue that rq.core points to
};

constexpr FieldNeed kFixed[] = {{"nr_running"},
                                {"curr"},
                                {"idle", kOptional},
                                {"cpu", kOptional},
                                {"clock_task", kOptional},
                                {"donor", kOptional},
                                {"idle_state", kOptional},
                                {"core", kOptional}};
static_assert(std::size(kFixed) == kRqFirstFigure);

// Figures of a group stand together. docs/interface.md has the same list, with what each means.
constexpr Figure kFigures[] = {
    {"", "nr_running", "nr_running"},
    {"", "nr_switches", "nr_switches"},
    // Unsigned in the kernel, int or long by version; a task may wake up on another CPU than it
    // slept on.
    {"", "nr_uninterruptible", "nr_uninterruptible", kSigned},
    {"", "nr_iowait", "nr_iowait.counter", kSigned},
    {"", "clock", "clock"},
    {"", "clock_task", "clock_task"},
    {"", "clock_pelt", "clock_pelt"},
    {"", "cpu_capacity", "cpu_capacity"},
    {"", "cpu_capacity_orig", "cpu_capacity_orig"},
    {"", "ttwu_pending", "ttwu_pending", kBool},
    {"", "nr_pinned", "nr_pinned"},
    {"", "tick_stopped", "nohz_tick_stopped", kBool},
    {"", "calc_load_active", "calc_load_active", kSigned},

    {"cfs", "nr_running", "cfs.nr_queued|cfs.nr_running"},
    {"cfs", "h_nr_running", "cfs.h_nr_queued|cfs.h_nr_running"},
    {"cfs", "h_nr_runnable", "cfs.h_nr_runnable"},
    {"cfs", "h_nr_delayed", "cfs.h_nr_delayed"},
    {"cfs", "h_nr_idle", "cfs.h_nr_idle|cfs.idle_h_nr_running"},
    {"cfs", "load_weight", "cfs.load.weight"},
    {"cfs", "min_vruntime", "cfs.min_vruntime"},
    {"cfs", "zero_vruntime", "cfs.zero_vruntime"},
    {"cfs", "sum_weight", "cfs.sum_weight|cfs.avg_load"},
    {"cfs", "sum_w_vruntime", "cfs.sum_w_vruntime|cfs.avg_vruntime", kSigned},
    {"cfs", "load_avg", "cfs.avg.load_avg"},
    {"cfs", "runnable_avg", "cfs.avg.runnable_avg"},
    {"cfs", "util_avg", "cfs.avg.util_avg"},
    // First the structure that it was before 6.8: its first member has its name, too.
    {"cfs", "util_est", "cfs.avg.util_est.enqueued|cfs.avg.util_est"},
    {"cfs", "h_load", "cfs.h_load"},

    {"rt", "nr_running", "rt.rt_nr_running"},
    {"rt", "rr_nr_running", "rt.rr_nr_running"},
    {"rt", "nr_migratory", "rt.rt_nr_migratory"},
    {"rt", "throttled", "rt.rt_throttled", kBool},
    {"rt", "time_ns", "rt.rt_time"},
    {"rt", "runtime_ns", "rt.rt_runtime"},
    {"rt", "highest_prio", "rt.highest_prio.curr", kSigned},
    {"rt", "overloaded", "rt.overloaded", kBool},
    {"rt", "load_avg", "avg_rt.load_avg"},
    {"rt", "util_avg", "avg_rt.util_avg"},

    {"dl", "nr_running", "dl.dl_nr_running"},
    {"dl", "nr_migratory", "dl.dl_nr_migratory"},
    {"dl", "running_bw", "dl.running_bw"},
    {"dl", "this_bw", "dl.this_bw"},
    {"dl", "extra_bw", "dl.extra_bw"},
    {"dl", "max_bw", "dl.max_bw"},
    {"dl", "earliest_deadline", "dl.earliest_dl.curr"},
    {"dl", "overloaded", "dl.overloaded", kBool},
    {"dl", "load_avg", "avg_dl.load_avg"},
    {"dl", "util_avg", "avg_dl.util_avg"},

    // What lends time to the classes below; throttled while it has none left.
    {"fair_server", "active", "fair_server.dl_server_active", kBool},
    {"fair_server", "deferred", "fair_server.dl_defer_armed", kBool},
    {"fair_server", "throttled", "fair_server.dl_throttled", kBool},
    {"fair_server", "runtime_ns", "fair_server.runtime", kSigned},
    {"fair_server", "deadline_ns", "fair_server.deadline"},
    {"fair_server", "dl_runtime_ns", "fair_server.dl_runtime"},
    {"fair_server", "dl_period_ns", "fair_server.dl_period"},
    {"ext_server", "active", "ext_server.dl_server_active", kBool},
    {"ext_server", "deferred", "ext_server.dl_defer_armed", kBool},
    {"ext_server", "throttled", "ext_server.dl_throttled", kBool},
    {"ext_server", "runtime_ns", "ext_server.runtime", kSigned},
    {"ext_server", "deadline_ns", "ext_server.deadline"},
    {"ext_server", "dl_runtime_ns", "ext_server.dl_runtime"},
    {"ext_server", "dl_period_ns", "ext_server.dl_period"},

    {"scx", "nr_running", "scx.nr_running"},
    {"scx", "flags", "scx.flags"},
    {"scx", "local_dsq_nr", "scx.local_dsq.nr"},

    {"irq", "util_avg", "avg_irq.util_avg"},
    {"hw_pressure", "load_avg", "avg_hw.load_avg|avg_thermal.load_avg"},

    {"balance", "next_balance", "next_balance"},
    {"balance", "active_balance", "active_balance", kBool},
    {"balance", "push_cpu", "push_cpu", kSigned},
    {"balance", "idle_stamp_ns", "idle_stamp"},
    {"balance", "avg_idle_ns", "avg_idle"},
    {"balance", "max_idle_balance_cost_ns", "max_idle_balance_cost"},
    {"balance", "misfit_task_load", "misfit_task_load"},
    {"balance", "has_blocked_load", "has_blocked_load", kBool},
    {"balance", "last_blocked_update", "last_blocked_load_update_tick"},

    {"numa", "nr_running", "nr_numa_running"},
    {"numa", "nr_preferred", "nr_preferred_running"},
    {"llc", "nr_running", "nr_llc_running"},
    {"llc", "nr_preferred", "nr_pref_llc_running"},

    {"core", "enabled", "core_enabled", kBool},
    {"core", "cookie", "core_cookie", Kind::kUnsigned, true},
    {"core", "forceidle_count", "core_forceidle_count", Kind::kUnsigned, true},
    {"core", "forceidle_occupation", "core_forceidle_occupation", Kind::kUnsigned, true},
};

constexpr auto kNeeds = [] {
  std::array<FieldNeed, std::size(kFixed) + std::size(kFigures)> needs{};
  std::size_t n = 0;
  for (const FieldNeed& need : kFixed) needs[n++] = need;
  for (const Figure& figure : kFigures) needs[n++] = {figure.path, kOptional};
  return needs;
}();

FactValue value_of(const StructView& rq, std::size_t field, Kind kind) {
  switch (kind) {
    case Kind::kUnsigned: return rq.u64(field);
    case Kind::kSigned: return rq.s64(field);
    case Kind::kBool: return rq.u64(field) != 0;
  }
  return {};
}

}  // namespace

const StructNeed kRunQueueNeed = {"rq", kNeeds};

Facts run_queue_figures(const StructView& rq, const StructView* core) {
  Facts figures;
  Facts group;
  for (std::size_t i = 0; i < std::size(kFigures); ++i) {
    const Figure& figure = kFigures[i];
    const std::size_t field = kRqFirstFigure + i;
    const bool in_group = *figure.group != '\0';
    const StructView* const from = figure.of_core ? core : &rq;
    if (from != nullptr && from->has(field))
      (in_group ? group : figures)
          .push_back({.name = figure.name, .value = value_of(*from, field, figure.kind)});
    const bool group_ends =
        i + 1 == std::size(kFigures) || std::string_view(kFigures[i + 1].group) != figure.group;
    if (in_group && group_ends && !group.empty())
      figures.push_back({.name = figure.group, .value = std::exchange(group, {})});
  }
  return figures;
}

}  // namespace guestscope
