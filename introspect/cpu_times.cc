#include "introspect/cpu_times.h"

#include <algorithm>

namespace guestscope {

namespace {

// On the newest kernels the idle times themselves are kept here, with when the present sleep began.
enum Stat : std::size_t { kTimes, kElapsing, kSince, kStolen };
constexpr FieldNeed kStatFields[] = {{"cpustat"},
                                     {"idle_elapse", kOptional},
                                     {"idle_entrytime", kOptional},
                                     {"idle_stealtime", kOptional}};
constexpr StructNeed kStat = {"kernel_cpustat", kStatFields};

// Before, they are kept by the code that stops the tick.
enum Tick : std::size_t { kIdleSleep, kIowaitSleep, kEntry, kWake, kExit, kActive, kTickFlags };
constexpr FieldNeed kTickFields[] = {{"idle_sleeptime", kOptional}, {"iowait_sleeptime", kOptional},
                                     {"idle_entrytime", kOptional}, {"idle_waketime", kOptional},
                                     {"idle_exittime", kOptional},  {"idle_active", kOptional},
                                     {"flags", kOptional}};
constexpr StructNeed kTick = {"tick_sched", kTickFields};
// TS_FLAG_IDLE_ACTIVE of kernel/time/tick-sched.h, a macro; a bit field before 6.9.
constexpr std::uint64_t kIdleActiveFlag = 1U << 2;

constexpr EnumNeed kKinds = {"CPUTIME_USER", "CPUTIME_"};
// The order of /proc/stat.
constexpr const char* kOrder[] = {"user",    "nice",  "system", "idle",       "iowait",   "irq",
                                  "softirq", "steal", "guest",  "guest_nice", "forceidle"};

const StructLayout kNoLayout;

std::uint64_t element(const StructView& view, std::size_t field, std::uint64_t index) {
  const ByteSpan all = view.bytes(field);
  return index < all.size() / 8 ? load_le(all.data() + index * 8, 8) : 0;
}

std::uint64_t since(std::uint64_t now, std::uint64_t begin) {
  return now > begin ? now - begin : 0;
}

}  // namespace

void add_on_cpus(SchedContext& context, StructBatch& batch, std::string_view symbol,
                 std::span<const unsigned> cpus) {
  const auto found = context.layouts.kernel().symbols().find(symbol);
  if (!found) return;
  const GuestVirt at = context.per_cpu_symbol(found->value);
  for (const unsigned cpu : cpus) batch.add(context.per_cpu.on_cpu(at, cpu));
}

const StructLayout& layout_or_none(SchedContext& context, const StructNeed& need) {
  const auto layout = context.layouts.get(need);
  return layout ? **layout : kNoLayout;
}

CpuTimes::CpuTimes(SchedContext& context, std::span<const unsigned> cpus)
    : context_(context),
      stats_(layout_or_none(context, kStat)),
      ticks_(layout_or_none(context, kTick)) {
  add_on_cpus(context, stats_, "kernel_cpustat", cpus);
  add_on_cpus(context, ticks_, "tick_cpu_sched", cpus);
}

std::uint64_t CpuTimes::latest() const {
  std::uint64_t latest = 0;
  for (std::size_t i = 0; i < ticks_.size(); ++i)
    if (const auto tick = ticks_[i])
      latest = std::max({latest, tick->u64(kEntry), tick->u64(kWake), tick->u64(kExit)});
  for (std::size_t i = 0; i < stats_.size(); ++i)
    if (const auto stat = stats_[i]) latest = std::max(latest, stat->u64(kSince));
  return latest;
}

Result<std::pair<std::uint64_t, std::uint64_t>> CpuTimes::idle_and_iowait(
    std::size_t index, const StructView& stat, const State& state) const {
  const EnumNames& kinds = *context_.layouts.names(kKinds);
  std::uint64_t times[] = {element(stat, kTimes, kinds.value("idle").value_or(UINT64_MAX)),
                           element(stat, kTimes, kinds.value("iowait").value_or(UINT64_MAX))};
  const std::size_t grows = state.waits_for_io ? 1 : 0;
  if (stat.has(kElapsing)) {
    if (stat.u64(kElapsing) != 0) {
      const std::uint64_t slept = since(state.now, stat.u64(kSince));
      times[grows] += slept - std::min(slept, element(stat, kStolen, grows));
    }
  } else if (state.online && state.tickless.value_or(false) && index < ticks_.size()) {
    GS_ASSIGN(const StructView tick, ticks_[index]);
    if (!tick.has(kIdleSleep) || !tick.has(kIowaitSleep)) return std::pair(times[0], times[1]);
    times[0] = tick.u64(kIdleSleep);
    times[1] = tick.u64(kIowaitSleep);
    const bool asleep =
        tick.has(kActive) ? tick.u64(kActive) != 0 : (tick.u64(kTickFlags) & kIdleActiveFlag) != 0;
    if (asleep) times[grows] += since(state.now, tick.u64(kEntry));
  }
  return std::pair(times[0], times[1]);
}

Result<Facts> CpuTimes::facts(std::size_t index, const State& state) const {
  const EnumNames* kinds = context_.layouts.names(kKinds);
  if (kinds == nullptr || index >= stats_.size()) return Facts{};
  GS_ASSIGN(const StructView stat, stats_[index]);
  if (!stat.has(kTimes)) return Facts{};
  GS_ASSIGN(const auto slept, idle_and_iowait(index, stat, state));
  const bool idle_known = state.tickless || stat.has(kElapsing);
  Facts facts;
  for (const std::string_view name : kOrder) {
    const auto kind = kinds->value(name);
    if (!kind || (!idle_known && (name == "idle" || name == "iowait"))) continue;
    std::uint64_t time = element(stat, kTimes, *kind);
    if (name == "idle") time = slept.first;
    if (name == "iowait") time = slept.second;
    facts.push_back({.name = std::string(name), .value = time});
  }
  return facts;
}

}  // namespace guestscope
