#include "daemon/verdict.h"

#include <algorithm>

namespace guestscope {

namespace {

// No guest has so many runnable tasks on a CPU: what says so is not set up yet, or no run queue.
constexpr std::uint64_t kMaxTasks = 1 << 20;

// A CPU of nohz_full that runs one task has no tick. Another CPU brings its clock up to date, once
// a second (sched_tick_remote() of kernel/sched/core.c).
constexpr std::uint64_t kMinStallMs = 1500;

/// One rule in one sample, broken.
struct Breach {
  std::string rule;
  std::optional<unsigned> cpu{};
  double value = 0;
  double threshold = 0;
  std::string detail{};
  bool cause_unknown = false;
};

bool is_set_up(const SchedSample& sample) {
  bool ticking = false;
  for (const CpuSample& cpu : sample.cpus) {
    if (cpu.nr_running > kMaxTasks || cpu.local_dsq_nr.value_or(0) > kMaxTasks) return false;
    ticking = ticking || !cpu.clock || *cpu.clock != 0;
  }
  return ticking;
}

const CpuSample* same_cpu(const SchedSample& sample, unsigned cpu) {
  const auto found = std::ranges::find(sample.cpus, cpu, &CpuSample::cpu);
  return found == sample.cpus.end() ? nullptr : &*found;
}

double imbalance(const SchedSample& sample) {
  if (sample.cpus.size() < 2) return 1;
  const auto [least, most] = std::ranges::minmax(sample.cpus, {}, &CpuSample::nr_running);
  return static_cast<double>(most.nr_running) /
         static_cast<double>(std::max<std::uint64_t>(1, least.nr_running));
}

void check_cpu(const CpuSample& cpu, const CpuSample* before, const Thresholds& thresholds,
               std::vector<Breach>& breaches) {
  if (cpu.local_dsq_nr && *cpu.local_dsq_nr > thresholds.local_dsq)
    breaches.push_back({.rule = "local_dsq",
                        .cpu = cpu.cpu,
                        .value = static_cast<double>(*cpu.local_dsq_nr),
                        .threshold = static_cast<double>(thresholds.local_dsq)});
  if (cpu.waiting_ns && *cpu.waiting_ns / 1'000'000 > thresholds.starving_ms)
    breaches.push_back({.rule = "starving",
                        .cpu = cpu.cpu,
                        .value = static_cast<double>(*cpu.waiting_ns / 1'000'000),
                        .threshold = static_cast<double>(thresholds.starving_ms),
                        .detail = cpu.waiting_task});
  const bool busy = !cpu.idle && cpu.nr_running != 0;
  if (before != nullptr && busy && !before->idle && before->nr_running != 0 && cpu.clock &&
      before->clock == cpu.clock)
    breaches.push_back(
        {.rule = "stalled_cpu",
         .cpu = cpu.cpu,
         .detail = "its clock stands: the CPU is stalled, or the host did not run it",
         .cause_unknown = true});
}

void check_rate(const char* rule, const char* event, double threshold, const SchedSample& sample,
                const SchedSample& before, std::vector<Breach>& breaches) {
  const auto now = sample.events.find(event);
  const auto then = before.events.find(event);
  if (now == sample.events.end() || then == before.events.end() || now->second < then->second ||
      sample.at_ms <= before.at_ms)
    return;
  const double rate = static_cast<double>(now->second - then->second) * 1000 /
                      static_cast<double>(sample.at_ms - before.at_ms);
  if (rate > threshold)
    breaches.push_back({.rule = rule, .value = rate, .threshold = threshold, .detail = event});
}

std::vector<Breach> check(const SchedSample& sample, const SchedSample* before,
                          const Thresholds& thresholds) {
  std::vector<Breach> breaches;
  if (const double ratio = imbalance(sample); ratio > thresholds.imbalance_ratio)
    breaches.push_back(
        {.rule = "imbalance", .value = ratio, .threshold = thresholds.imbalance_ratio});
  for (const CpuSample& cpu : sample.cpus)
    check_cpu(cpu, before == nullptr ? nullptr : same_cpu(*before, cpu.cpu), thresholds, breaches);
  if (before == nullptr) return breaches;
  check_rate("fallback", "select_cpu_fallback", thresholds.fallback_rate, sample, *before,
             breaches);
  check_rate("keep_last", "dispatch_keep_last", thresholds.keep_last_rate, sample, *before,
             breaches);
  return breaches;
}

/// A rule that has been broken in every sample up to the last one that was looked at.
struct Row {
  Violation violation;
  std::uint64_t before_ms = 0;  ///< when the sample before the first was taken
  bool again = false;
};

class Judge {
 public:
  explicit Judge(const Thresholds& thresholds) : thresholds_(thresholds) {}

  void look(const SchedSample& sample) {
    paused_ = paused_ || sample.paused;
    last_ms_ = sample.at_ms;
    if (sample.paused || !is_set_up(sample)) {
      ++verdict_.not_counted;
      end_rows(true);
      before_ = nullptr;
      return;
    }
    ++verdict_.samples;
    verdict_.worst_imbalance = std::max(verdict_.worst_imbalance, imbalance(sample));
    for (Breach& breach : check(sample, before_, thresholds_)) extend(std::move(breach), sample);
    end_rows(false);
    before_ = &sample;
  }

  Verdict finish() {
    end_rows(true);
    verdict_.kind = kind();
    return std::move(verdict_);
  }

 private:
  void extend(Breach breach, const SchedSample& sample) {
    Row& row = rows_[{breach.rule, breach.cpu.value_or(~0U)}];
    Violation& violation = row.violation;
    if (violation.samples == 0) {
      violation = {.rule = std::move(breach.rule),
                   .cpu = breach.cpu,
                   .threshold = breach.threshold,
                   .from_ms = sample.at_ms,
                   .cause_unknown = breach.cause_unknown};
      row.before_ms = before_ == nullptr ? sample.at_ms : before_->at_ms;
    }
    if (violation.samples == 0 || breach.value > violation.worst) {
      violation.worst = breach.value;
      violation.detail = std::move(breach.detail);
    }
    violation.to_ms = sample.at_ms;
    ++violation.samples;
    row.again = true;
  }

  void end_rows(bool all) {
    for (auto at = rows_.begin(); at != rows_.end();) {
      Row& row = at->second;
      if (std::exchange(row.again, false) && !all) {
        ++at;
        continue;
      }
      if (row.violation.samples >= thresholds_.sustained) {
        if (row.violation.cause_unknown && row.violation.to_ms - row.before_ms <= kMinStallMs)
          stood_ = true;
        else
          verdict_.violations.push_back(std::move(row.violation));
      }
      at = rows_.erase(at);
    }
  }

  Verdict::Kind kind() {
    const bool known = std::ranges::any_of(verdict_.violations,
                                           [](const Violation& one) { return !one.cause_unknown; });
    if (known) {
      verdict_.reason = "a rule was broken for long enough";
      return Verdict::Kind::kFail;
    }
    if (paused_) {
      verdict_.reason = "the guest is paused by its owner";
      return Verdict::Kind::kInconclusive;
    }
    if (!verdict_.violations.empty()) {
      verdict_.reason = "a CPU's clock stood, which may be the host's doing";
      return Verdict::Kind::kInconclusive;
    }
    // A clock is compared with the one before, so a row needs one sample more.
    if (verdict_.samples < thresholds_.sustained + 1) {
      verdict_.reason = fmt::format("only {} samples count, and a violation takes {} of them",
                                    verdict_.samples, thresholds_.sustained + 1);
      return Verdict::Kind::kInconclusive;
    }
    if (stood_ && last_ms_ <= kMinStallMs) {
      verdict_.reason = fmt::format(
          "a CPU's clock stood, which takes more than {} ms of samples to judge", kMinStallMs);
      return Verdict::Kind::kInconclusive;
    }
    verdict_.reason = "no rule was broken for long enough";
    return Verdict::Kind::kPass;
  }

  const Thresholds& thresholds_;
  Verdict verdict_;
  const SchedSample* before_ = nullptr;
  bool paused_ = false;
  bool stood_ = false;  ///< a clock, for too short a time to tell
  std::uint64_t last_ms_ = 0;
  std::map<std::pair<std::string, unsigned>, Row> rows_;
};

std::optional<std::uint64_t> figure(const RunQueue& queue, std::string_view path) {
  const FactValue* value = find_fact(queue.figures, path);
  const auto* number = value == nullptr ? nullptr : std::get_if<std::uint64_t>(&value->get());
  return number == nullptr ? std::nullopt : std::optional(*number);
}

/// Fair tasks that are queued and sleep already: since 6.12 the kernel takes them off, and out of
/// nr_running, only when it would be their turn (sched_delayed).
std::uint64_t delayed_tasks(const RunQueue& queue) {
  if (const auto delayed = figure(queue, "cfs.h_nr_delayed")) return *delayed;
  const auto queued = figure(queue, "cfs.h_nr_running");
  const auto runnable = figure(queue, "cfs.h_nr_runnable");
  return queued && runnable && *queued > *runnable ? *queued - *runnable : 0;
}

/// A fact of that form; null: there is none.
template <typename T>
const T* part(const Facts& facts, std::string_view path) {
  const FactValue* value = find_fact(facts, path);
  return value == nullptr ? nullptr : std::get_if<T>(&value->get());
}

/// The kernel's counters are of signed types, some of them.
std::optional<std::uint64_t> count_of(const FactValue& value) {
  if (const auto* count = std::get_if<std::uint64_t>(&value.get())) return *count;
  const auto* count = std::get_if<std::int64_t>(&value.get());
  if (count == nullptr || *count < 0) return std::nullopt;
  return static_cast<std::uint64_t>(*count);
}

/// What sched_ext says of one CPU: who has been waiting there for the longest time.
void add_waiting(const Facts& of_cpu, SchedSample& sample) {
  const auto* number = part<std::uint64_t>(of_cpu, "cpu");
  const auto* waiting = part<std::uint64_t>(of_cpu, "oldest_runnable.waiting_ns");
  if (number == nullptr || waiting == nullptr) return;
  const auto cpu = std::ranges::find(sample.cpus, *number, &CpuSample::cpu);
  if (cpu == sample.cpus.end()) return;
  cpu->waiting_ns = *waiting;
  const auto* comm = part<std::string>(of_cpu, "oldest_runnable.comm");
  const auto* pid = part<std::int64_t>(of_cpu, "oldest_runnable.pid");
  cpu->waiting_task = fmt::format("{} (pid {})", comm ? *comm : "?", pid ? *pid : 0);
}

const char* name_of(Verdict::Kind kind) {
  switch (kind) {
    case Verdict::Kind::kPass: return "pass";
    case Verdict::Kind::kFail: return "fail";
    case Verdict::Kind::kInconclusive: return "inconclusive";
  }
  return "inconclusive";
}

Json violation_json(const Violation& violation) {
  Json json = {{"rule", violation.rule}};
  if (violation.cpu) json["cpu"] = *violation.cpu;
  if (!violation.cause_unknown) {
    json["worst"] = violation.worst;
    json["threshold"] = violation.threshold;
  }
  json["from_ms"] = violation.from_ms;
  json["to_ms"] = violation.to_ms;
  json["samples"] = violation.samples;
  if (!violation.detail.empty()) json["detail"] = violation.detail;
  if (violation.cause_unknown) json["cause"] = "unknown";
  return json;
}

}  // namespace

SchedSample make_sample(const RunQueueList& queues, const Facts& scx, std::uint64_t at_ms) {
  SchedSample sample{.at_ms = at_ms};
  for (const RunQueue& queue : queues.run_queues) {
    if (!queue.online || !queue.readable) continue;
    const std::uint64_t delayed = delayed_tasks(queue);
    sample.cpus.push_back(
        {.cpu = queue.cpu,
         .nr_running = queue.nr_running - (delayed <= queue.nr_running ? delayed : 0),
         .idle = queue.idle,
         .clock = figure(queue, "clock"),
         .local_dsq_nr = figure(queue, "scx.local_dsq_nr")});
  }
  if (const Facts* events = part<Facts>(scx, "events"))
    for (const Fact& event : *events)
      if (const auto count = count_of(event.value)) sample.events[event.name] = *count;
  if (const FactList* cpus = part<FactList>(scx, "cpus"))
    for (const FactValue& cpu : *cpus)
      if (const Facts* facts = std::get_if<Facts>(&cpu.get())) add_waiting(*facts, sample);
  return sample;
}

Verdict judge(const std::vector<SchedSample>& samples, const Thresholds& thresholds) {
  Judge judge(thresholds);
  for (const SchedSample& sample : samples) judge.look(sample);
  return judge.finish();
}

Json verdict_json(const Verdict& verdict, const Thresholds& thresholds) {
  Json json = {{"verdict", name_of(verdict.kind)},
               {"reason", verdict.reason},
               {"samples", verdict.samples},
               {"not_counted", verdict.not_counted},
               {"worst_imbalance", verdict.worst_imbalance},
               {"violations", Json::array()}};
  for (const Violation& violation : verdict.violations)
    json["violations"].push_back(violation_json(violation));
  json["thresholds"] = {
      {"imbalance", thresholds.imbalance_ratio}, {"local_dsq", thresholds.local_dsq},
      {"fallback", thresholds.fallback_rate},    {"keep_last", thresholds.keep_last_rate},
      {"starving_ms", thresholds.starving_ms},   {"sustained", thresholds.sustained}};
  return json;
}

}  // namespace guestscope
