// /verdict: samples the run queues for a while and judges them.
#include <charconv>
#include <semaphore>
#include <thread>

#include "daemon/api.h"
#include "daemon/guest_json.h"
#include "daemon/verdict.h"

namespace guestscope {

namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

struct VerdictOptions {
  std::uint64_t seconds = 5;
  std::uint64_t interval_ms = 200;
  Thresholds thresholds{};
  bool pretty = false;

  static Result<VerdictOptions> parse(const Request& request);
};

/// Replaces `value` when the parameter is there.
template <typename T>
Result<void> take(const Request& request, const std::string& name, T least, T most, T& value) {
  const auto found = request.query.find(name);
  if (found == request.query.end()) return {};
  const std::string& text = found->second;
  T number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  // Written so that what is not a number at all (nan) is refused as well.
  if (text.empty() || error != std::errc{} || end != text.data() + text.size() ||
      !(number >= least && number <= most))
    return fail(ErrorCode::kInvalidArgument, "parameter {}: '{}' is no number from {} to {}", name,
                text, least, most);
  value = number;
  return {};
}

Result<VerdictOptions> VerdictOptions::parse(const Request& request) {
  GS_CHECK(request.allow_only({"pretty", "seconds", "interval_ms", "imbalance", "local_dsq",
                               "fallback", "keep_last", "starving_ms", "sustained"}));
  VerdictOptions options;
  Thresholds& thresholds = options.thresholds;
  GS_ASSIGN(options.pretty, request.flag("pretty"));
  constexpr double kMost = 1e9;
  GS_CHECK(take<std::uint64_t>(request, "seconds", 1, 60, options.seconds));
  // A request ends within an interval of the daemon's end.
  GS_CHECK(take<std::uint64_t>(request, "interval_ms", 10, 1000, options.interval_ms));
  GS_CHECK(take(request, "imbalance", 1.0, kMost, thresholds.imbalance_ratio));
  GS_CHECK(take<std::uint64_t>(request, "local_dsq", 0, 1'000'000'000, thresholds.local_dsq));
  GS_CHECK(take(request, "fallback", 0.0, kMost, thresholds.fallback_rate));
  GS_CHECK(take(request, "keep_last", 0.0, kMost, thresholds.keep_last_rate));
  GS_CHECK(take<std::uint64_t>(request, "starving_ms", 0, 1'000'000'000, thresholds.starving_ms));
  GS_CHECK(take<std::size_t>(request, "sustained", 1, 1000, thresholds.sustained));
  return options;
}

struct ReadSample {
  RunQueueList queues;
  ScxReport scx;
};

Result<Snapshot<ReadSample>> take_sample(const GuestView& session) {
  return session.snapshot(
      "verdict",
      [](GuestKernel& kernel, PhysMemory& memory) -> Result<ReadSample> {
        GS_ASSIGN(RunQueueList queues, kernel.run_queues(memory, false));
        ScxReport scx;
        if (auto read = kernel.scx(memory))
          scx = *std::move(read);
        else
          queues.problems.add("scx", std::move(read).error());
        return ReadSample{.queues = std::move(queues), .scx = std::move(scx)};
      },
      kSnapshotTimeout);
}

struct Samples {
  std::vector<SchedSample> list{};
  SnapshotMeta meta{};  ///< of all together; taken_at is the first one's
  Problems problems{};
};

// A verdict occupies one of the server's threads for as long as it takes.
constexpr std::ptrdiff_t kMaxAtOnce = 4;

/// The right to take one.
class Turn {
 public:
  Turn() : taken_(free_.try_acquire()) {}
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  ~Turn() {
    if (taken_) free_.release();
  }
  bool taken() const { return taken_; }

 private:
  static inline std::counting_semaphore<kMaxAtOnce> free_{kMaxAtOnce};
  bool taken_;
};

Result<Samples> take_samples(const GuestView& session, const VerdictOptions& options) {
  Samples samples;
  const auto begin = Clock::now();
  const auto end = begin + std::chrono::seconds(options.seconds);
  for (auto next = begin; next <= end;
       next = std::max(next + milliseconds(options.interval_ms), Clock::now())) {
    std::this_thread::sleep_until(next);
    GS_ASSIGN(auto taken, take_sample(session));
    if (samples.list.empty()) samples.meta.taken_at = taken.meta.taken_at;
    // By the steady clock: the host's time of day may be set meanwhile.
    const auto at = std::chrono::duration_cast<milliseconds>(Clock::now() - begin);
    const ReadSample& read = taken.value;
    samples.list.push_back(
        make_sample(read.queues, read.scx.facts, static_cast<std::uint64_t>(at.count())));
    samples.meta.paused += taken.meta.paused;
    samples.meta.consistent = samples.meta.consistent && taken.meta.consistent;
    samples.problems.add_all(read.queues.problems);
    samples.problems.add_all(read.scx.problems);
    // Nothing will be another way until its owner lets it run.
    samples.list.back().paused = taken.meta.stops == 0;
    if (samples.list.back().paused) break;
  }
  return samples;
}

}  // namespace

Answer answer_verdict(const GuestView& session, const Request& request) {
  const auto options = VerdictOptions::parse(request);
  if (!options) return problem_answer(options.error());
  const Turn turn;
  if (!turn.taken())
    return problem_answer(
        {.code = ErrorCode::kBusy,
         .message = fmt::format("{} verdicts are being taken already", kMaxAtOnce)});
  const auto samples = take_samples(session, *options);
  if (!samples) return snapshot_problem(samples.error(), session, "per_cpu_offsets");
  const Verdict verdict = judge(samples->list, options->thresholds);
  Json json = {{"snapshot", snapshot_json(samples->meta)}};
  json.update(verdict_json(verdict, options->thresholds));
  add_problems(json, samples->problems);
  return json_answer(json, options->pretty);
}

}  // namespace guestscope
