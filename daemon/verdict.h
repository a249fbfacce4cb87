// Verdict: whether a guest's scheduler behaves, judged by samples of its run queues.
//
// A rule is broken when a sample shows it broken; it counts only when it is broken in `sustained`
// samples in a row. Samples in which nothing has been set up yet, or whose figures cannot be, do
// not count and end every row, and neither does a guest that its owner has paused. A clock that
// stands on a CPU with work (and for longer than a second: the kernel itself looks after CPUs
// without a tick that seldom) is either a stalled CPU or a vCPU that the host did not run; from
// outside these cannot be told apart, so such a verdict is "inconclusive" and not "fail".
//
// Threads: pure functions on plain values.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "daemon/json_value.h"
#include "introspect/run_queues.h"

namespace guestscope {

/// What one snapshot says of a CPU. Empty: this kernel does not tell.
struct CpuSample {
  unsigned cpu = 0;
  std::uint64_t nr_running = 0;  ///< without those that sleep and are only taken off later
  bool idle = false;
  std::optional<std::uint64_t> clock{};         ///< ns
  std::optional<std::uint64_t> local_dsq_nr{};  ///< sched_ext
  std::optional<std::uint64_t> waiting_ns{};    ///< sched_ext: of the task that waits longest
  std::string waiting_task{};
};

struct SchedSample {
  std::uint64_t at_ms = 0;        ///< since the first sample
  bool paused = false;            ///< by the guest's owner: the same instant as long as that lasts
  std::vector<CpuSample> cpus{};  ///< that are online
  /// sched_ext's event counters, by the kernel's names.
  std::map<std::string, std::uint64_t> events{};
};

struct Thresholds {
  double imbalance_ratio = 4;    ///< longest queue to shortest, of which an empty one counts as 1
  std::uint64_t local_dsq = 50;  ///< tasks in one local dispatch queue
  double fallback_rate = 200;    ///< a second
  double keep_last_rate = 100;   ///< a second
  std::uint64_t starving_ms = 1000;  ///< a runnable task of sched_ext has not run
  std::size_t sustained = 5;         ///< samples in a row
};

struct Violation {
  std::string
      rule;  ///< "imbalance", "local_dsq", "stalled_cpu", "fallback", "keep_last", "starving"
  std::optional<unsigned> cpu{};
  double worst = 0;
  double threshold = 0;
  std::uint64_t from_ms = 0;
  std::uint64_t to_ms = 0;
  std::size_t samples = 0;
  std::string detail{};
  /// The host may be the cause.
  bool cause_unknown = false;
};

struct Verdict {
  enum class Kind : std::uint8_t { kPass, kFail, kInconclusive };
  Kind kind = Kind::kInconclusive;
  std::string reason;  ///< in a sentence
  std::size_t samples = 0;
  std::size_t not_counted = 0;
  double worst_imbalance = 1;
  std::vector<Violation> violations;
};

/// A sample of what was read. `scx`: as of a ScxReport; empty without sched_ext.
SchedSample make_sample(const RunQueueList& queues, const Facts& scx, std::uint64_t at_ms);

Verdict judge(const std::vector<SchedSample>& samples, const Thresholds& thresholds);

Json verdict_json(const Verdict& verdict, const Thresholds& thresholds);

}  // namespace guestscope
