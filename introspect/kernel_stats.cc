#include "introspect/kernel_stats.h"

#include <algorithm>
#include <cctype>

#include "introspect/cpu_times.h"
#include "introspect/figures.h"
#include "introspect/pressure.h"
#include "introspect/run_queues.h"
#include "introspect/text_batch.h"

namespace guestscope {

namespace {

enum Rq : std::size_t { kRunning, kSwitches, kIowait, kRqFirstFigure };
constexpr FieldNeed kRqFixed[] = {
    {"nr_running"}, {"nr_switches", kOptional}, {"nr_iowait.counter", kOptional}};
// A line of /proc/schedstat, in its order (its second number is always 0). CONFIG_SCHEDSTATS.
constexpr Figure kRqFigures[] = {{"yld_count", "yld_count"},
                                 {"sched_count", "sched_count"},
                                 {"sched_goidle", "sched_goidle"},
                                 {"ttwu_count", "ttwu_count"},
                                 {"ttwu_local", "ttwu_local"},
                                 {"rq_cpu_time_ns", "rq_cpu_time"},
                                 {"run_delay_ns", "rq_sched_info.run_delay"},
                                 {"pcount", "rq_sched_info.pcount"}};
static_assert(std::size(kRqFixed) == kRqFirstFigure);
constexpr auto kRqFields = figure_needs(kRqFixed, kRqFigures);
constexpr StructNeed kRq = {"rq", kRqFields};
// Of CPUs that have been online: what totals count.
enum Total : std::size_t { kTotalSwitches, kTotalIowait };
constexpr FieldNeed kTotalFields[] = {{"nr_switches", kOptional}, {"nr_iowait.counter", kOptional}};
constexpr StructNeed kTotals = {"rq", kTotalFields};

enum Kstat : std::size_t { kInterrupts, kSoftirqs };
constexpr FieldNeed kKstatFields[] = {{"irqs_sum"}, {"softirqs"}};
constexpr StructNeed kKstat = {"kernel_stat", kKstatFields};
constexpr std::size_t kMaxSoftirqs = 64;

constexpr FieldNeed kKeyFields[] = {{"enabled.counter"}};
constexpr StructNeed kStaticKey = {"static_key", kKeyFields};
constexpr FieldNeed kPidSpaceFields[] = {{"idr.idr_next"}};
constexpr StructNeed kPidSpace = {"pid_namespace", kPidSpaceFields};

/// A kernel variable of one number.
struct Variable {
  const char* name;  ///< null: not told as it is
  const char* symbol;
  std::size_t size;
};
enum Known : std::size_t { kThreads, kForks, kTickless, kLastJiffy, kVariableCount };
constexpr Variable kVariables[] = {{"nr_threads", "nr_threads", 4},
                                   {"total_forks", "total_forks", 8},
                                   {nullptr, "tick_nohz_active", 4},
                                   {nullptr, "last_jiffies_update", 8}};
static_assert(std::size(kVariables) == kVariableCount);

// LOAD_FREQ's rounding in get_avenrun() for /proc/loadavg: FIXED_1 / 200.
constexpr std::uint64_t kLoadRounding = 2048 / 200;

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

class StatsReader {
 public:
  explicit StatsReader(SchedContext& context)
      : context_(context),
        cpus_(context.per_cpu.possible_cpus()),
        queues_(layout_or_none(context, kRq)),
        totals_(layout_or_none(context, kTotals)),
        kstats_(layout_or_none(context, kKstat)),
        pressure_(layout_or_none(context, kPressureNeed)) {}

  Result<FactReport> read() {
    GS_CHECK(context_.layouts.get(kRq));
    announce();
    read_together(context_.memory, single_, pressure_);
    GS_CHECK(find_cpus());
    CpuTimes times(context_, online_cpus_);
    read_cpus(times);
    now_ = std::max(times.latest(), variable(kLastJiffy).value_or(0));

    Facts facts;
    if (now_ != 0) facts.push_back({.name = "uptime_ns", .value = now_});
    add_load(facts);
    add_counts(facts);
    add_pressure(facts);
    add_cpus(facts, times);
    return FactReport{.facts = std::move(facts), .problems = std::move(problems_)};
  }

 private:
  std::optional<std::size_t> add_symbol(std::string_view symbol, std::size_t bytes,
                                        std::uint64_t offset = 0) {
    const auto found = context_.layouts.kernel().symbols().find(symbol);
    if (!found) return std::nullopt;
    return single_.add(context_.location().at(found->value).wrapping_add(offset), bytes);
  }

  std::optional<std::size_t> add_key(std::string_view symbol) {
    const auto layout = context_.layouts.get(kStaticKey);
    return layout ? add_symbol(symbol, 4, (**layout)[0].offset) : std::nullopt;
  }

  void announce() {
    const PerCpuModel& per_cpu = *context_.model.per_cpu;
    online_ = single_.add(context_.location().at(per_cpu.online), per_cpu.mask_bytes);
    booted_ = add_symbol("cpus_booted_once_mask", per_cpu.mask_bytes);
    load_ = add_symbol("avenrun", 24);
    for (std::size_t i = 0; i < kVariableCount; ++i)
      variables_[i] = add_symbol(kVariables[i].symbol, kVariables[i].size);
    schedstats_ = add_key("sched_schedstats");
    pressure_off_ = add_key("psi_disabled");
    if (const auto layout = context_.layouts.get(kPidSpace))
      next_pid_ = add_symbol("init_pid_ns", 4, (**layout)[0].offset);
    if (const auto layout = context_.layouts.get(kKstat)) {
      softirqs_ = std::min<std::size_t>((**layout)[kSoftirqs].size / 4, kMaxSoftirqs);
      softirq_table_ = add_symbol("softirq_to_name", softirqs_ * 8);
    }
    const auto group = context_.layouts.kernel().symbols().find("psi_system");
    if (group && context_.layouts.get(kPressureNeed))
      pressure_.add(context_.location().at(group->value));
  }

  std::optional<std::uint64_t> number(std::optional<std::size_t> index) const {
    if (!index) return std::nullopt;
    const auto bytes = single_[*index];
    if (!bytes) return std::nullopt;
    return load_le(bytes->data(), bytes->size());
  }
  std::optional<std::uint64_t> variable(Known which) const { return number(variables_[which]); }

  /// A kernel that never stops ticks has no such variable, but one that every kernel has.
  std::optional<bool> tickless() const {
    if (const auto active = variable(kTickless)) return *active != 0;
    return variables_[kThreads] ? std::optional(false) : std::nullopt;
  }

  /// A guest may have hundreds of CPUs that have never been there: they have counted nothing.
  Result<void> find_cpus() {
    GS_ASSIGN(const ByteSpan mask, single_[online_]);
    const auto online = cpus_in_mask(mask);
    std::ranges::set_intersection(cpus_, online, std::back_inserter(online_cpus_));
    std::ranges::set_difference(cpus_, online, std::back_inserter(offline_cpus_));
    if (!booted_) return {};
    if (const auto once = single_[*booted_]) {
      const auto booted = cpus_in_mask(*once);
      std::erase_if(offline_cpus_,
                    [&](unsigned cpu) { return !std::ranges::binary_search(booted, cpu); });
    }
    return {};
  }

  void read_cpus(CpuTimes& times) {
    add_on_cpus(context_, queues_, "runqueues", online_cpus_);
    add_on_cpus(context_, totals_, "runqueues", offline_cpus_);
    add_on_cpus(context_, kstats_, "kstat", online_cpus_);
    add_softirq_names();
    read_together(context_.memory, queues_, totals_, kstats_, times.stats(), times.ticks(), names_);
    names_.finish(context_.memory);
  }

  void add_softirq_names() {
    if (!softirq_table_) return;
    const auto table = single_[*softirq_table_];
    if (!table) {
      problems_.add("cpus[0].softirqs", table.error());
      return;
    }
    for (std::size_t i = 0; i < softirqs_; ++i)
      names_.add(GuestVirt(load_le(table->data() + i * 8, 8)), kMaxKernelLabelBytes);
  }

  void add_load(Facts& facts) {
    if (!load_) return;
    const auto bytes = single_[*load_];
    if (!bytes) {
      problems_.add("load_average", bytes.error());
      return;
    }
    FactList load;
    for (std::size_t i = 0; i < 3; ++i)
      load.emplace_back(fixed_point(load_le(bytes->data() + i * 8, 8) + kLoadRounding));
    facts.push_back({.name = "load_average", .value = std::move(load)});
  }

  void add_counts(Facts& facts) {
    std::uint64_t running = 0, switches = 0;
    std::int64_t waiting = 0;
    for (std::size_t i = 0; i < queues_.size(); ++i) {
      if (const auto queue = queues_[i]) {
        running += queue->u64(kRunning);
        switches += queue->u64(kSwitches);
        waiting += queue->s64(kIowait);
      } else {
        problems_.add(fmt::format("the queue of CPU {}", online_cpus_[i]), queue.error());
      }
    }
    for (std::size_t i = 0; i < totals_.size(); ++i) {
      if (const auto queue = totals_[i]) {
        switches += queue->u64(kTotalSwitches);
        waiting += queue->s64(kTotalIowait);
      } else {
        problems_.add(fmt::format("the queue of CPU {}", offline_cpus_[i]), queue.error());
      }
    }
    facts.push_back({.name = "nr_running", .value = running});
    facts.push_back({.name = "nr_iowait", .value = waiting});
    facts.push_back({.name = "context_switches", .value = switches});
    for (std::size_t i = 0; i < kVariableCount; ++i)
      if (const auto value = number(variables_[i]); value && kVariables[i].name != nullptr)
        facts.push_back({.name = kVariables[i].name, .value = *value});
    if (const auto next = number(next_pid_); next && *next != 0)
      facts.push_back({.name = "last_pid", .value = *next - 1});
    if (const auto enabled = number(schedstats_))
      facts.push_back({.name = "schedstats", .value = *enabled != 0});
  }

  void add_pressure(Facts& facts) {
    if (pressure_.size() == 0) return;
    if (number(pressure_off_).value_or(0) != 0) {
      facts.push_back({.name = "pressure", .value = Facts{{.name = "enabled", .value = false}}});
      return;
    }
    const auto group = pressure_[0];
    if (!group) {
      problems_.add("pressure", group.error());
      return;
    }
    facts.push_back({.name = "pressure", .value = pressure_facts(context_.layouts, *group)});
  }

  Facts softirq_facts(const StructView& kstat) {
    Facts facts;
    const ByteSpan counts = kstat.bytes(kSoftirqs);
    for (std::size_t i = 0; i < softirqs_; ++i) {
      std::string name = fmt::format("softirq_{}", i);
      if (i < names_.size())
        if (auto found = names_[i]) name = lower(*std::move(found));
      facts.push_back({.name = std::move(name), .value = load_le(counts.data() + i * 4, 4)});
    }
    return facts;
  }

  Facts cpu_facts(std::size_t index, const CpuTimes& cpu_times) {
    const auto found = std::ranges::lower_bound(online_cpus_, cpus_[index]);
    const bool online = found != online_cpus_.end() && *found == cpus_[index];
    Facts facts = {{.name = "cpu", .value = cpus_[index]}, {.name = "online", .value = online}};
    if (!online) return facts;  // as the kernel's own files
    const auto place = static_cast<std::size_t>(found - online_cpus_.begin());
    const std::string at = fmt::format("cpus[{}]", index);
    const auto queue =
        place < queues_.size() ? queues_[place] : fail(ErrorCode::kUnsupported, "no run queues");
    auto times = cpu_times.facts(place, {.online = true,
                                         .tickless = tickless(),
                                         .waits_for_io = queue && queue->s64(kIowait) > 0,
                                         .now = now_});
    if (!times)
      problems_.add(at + ".time_ns", times.error());
    else if (!times->empty())
      facts.push_back({.name = "time_ns", .value = *std::move(times)});
    if (place < kstats_.size()) {
      if (const auto kstat = kstats_[place]) {
        facts.push_back({.name = "interrupts", .value = kstat->u64(kInterrupts)});
        facts.push_back({.name = "softirqs", .value = softirq_facts(*kstat)});
      } else {
        problems_.add(at + ".softirqs", kstat.error());
      }
    }
    if (queue) {
      Facts sched;
      add_figures(sched, *queue, kRqFigures, kRqFirstFigure);
      if (!sched.empty()) facts.push_back({.name = "sched", .value = std::move(sched)});
    }
    return facts;
  }

  void add_cpus(Facts& facts, const CpuTimes& times) {
    FactList list;
    for (std::size_t i = 0; i < cpus_.size(); ++i) list.emplace_back(cpu_facts(i, times));
    facts.push_back({.name = "cpus", .value = std::move(list)});
  }

  SchedContext& context_;
  std::vector<unsigned> cpus_;          ///< the possible ones
  std::vector<unsigned> online_cpus_;   ///< as in queues_ and kstats_
  std::vector<unsigned> offline_cpus_;  ///< that may have counted something: as in totals_
  ReadBatch single_;
  StructBatch queues_;
  StructBatch totals_;
  StructBatch kstats_;
  StructBatch pressure_;
  TextBatch names_;
  std::size_t online_ = 0;
  std::optional<std::size_t> booted_, load_, schedstats_, pressure_off_, next_pid_, softirq_table_;
  std::optional<std::size_t> variables_[kVariableCount];
  std::size_t softirqs_ = 0;
  std::uint64_t now_ = 0;
  Problems problems_;
};

}  // namespace

Result<FactReport> read_kernel_stats(SchedContext& context) { return StatsReader(context).read(); }

}  // namespace guestscope
