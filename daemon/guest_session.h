// GuestSession: one guest, its stub connection and the thread that owns both.
//
// The thread connects (and reconnects, with back-off), keeps trying to make the kernel's accessors
// ready while the guest boots, and takes snapshots that other threads ask for. Between these it
// sleeps: a ready guest about which nobody asks is not stopped at all.
//
// One snapshot is one stop. Requests for the same kind of snapshot that arrive before it is
// finished share it: while the guest stands still nothing can be newer.
//
// Threads: everything public may be called by any thread, before stop() too. Callers wait with a
// deadline.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "daemon/held_guest.h"
#include "daemon/memory_mode.h"
#include "daemon/paging_register_names.h"
#include "daemon/pause_share.h"
#include "daemon/renderings.h"
#include "daemon/replay.h"
#include "daemon/snapshot.h"
#include "daemon/wakeup.h"
#include "gdbproto/client.h"
#include "introspect/guest_kernel.h"

namespace guestscope {

struct GuestConfig {
  std::string name = "default";
  gdb::StubAddress gdb;
  std::string gdb_text;  ///< as the user wrote it
  std::string vmlinux;   ///< empty: the guest's own memory has to do
  MemoryMode memory = MemoryMode::kAuto;
  std::chrono::milliseconds max_pause{100};
  /// Of all time the guest is stopped for this share at most (0 to 1)…
  double max_pause_share = 0.04;
  /// …for which no snapshot waits longer than that.
  std::chrono::milliseconds longest_share_wait{250};
  bool resume = false;  ///< let a VM that waits (-S) start
  /// At the first attachment the VM is paused by its owner, where QEMU does not tell.
  bool paused = false;
};

enum class ConnectionState : std::uint8_t { kConnecting, kConnected, kLost };

/// What is known of the guest now, without asking it.
struct GuestStatus {
  ConnectionState connection = ConnectionState::kConnecting;
  std::optional<Error> connection_error{};
  bool paused = false;  ///< by its owner
  std::string qemu_version;
  bool from_process = false;  ///< memory is not read through the stub
  std::optional<Error> why_not_process{};
  KernelSummary kernel;
  PauseTotals pauses;
};

class GuestSession {
 public:
  /// `model`: of the kernel file; null when the guest's own memory has to do.
  GuestSession(GuestConfig config, std::shared_ptr<const KernelModel> model);
  ~GuestSession();

  const GuestConfig& config() const { return config_; }
  /// Starts the thread; returns at once.
  void start();
  /// Leaves the guest as its owner wants it and ends the thread. Waiting callers get kUnreachable.
  void stop();
  /// The first half of stop(), which returns at once.
  void request_stop();

  GuestStatus status() const;

  template <typename Work>
  using ValueOf = typename std::invoke_result_t<Work, GuestKernel&, PhysMemory&>::value_type;

  /// `work(kernel, memory)` (a Result<T>) within one stop of the guest. `kind` names what it reads,
  /// arguments included: callers with the same kind share one snapshot. Kinds that read much the
  /// same should differ only behind a '?': see ReplayPlans.
  /// Live: kInvalidArgument where the memory cannot be read so.
  template <typename Work>
  auto snapshot(const std::string& kind, Work work, std::chrono::milliseconds timeout,
                Consistency consistency = Consistency::kPaused) -> Result<Snapshot<ValueOf<Work>>>;
  /// What `make(value, meta)`, an Answer, makes of such a snapshot: made once for all who share it
  /// and say the same `as`, which tells `make` and what it makes use of.
  template <typename Work, typename Make>
  Result<std::shared_ptr<const Answer>> render(const std::string& kind, Work work,
                                               const std::string& as, Make make,
                                               std::chrono::milliseconds timeout,
                                               Consistency consistency = Consistency::kPaused);

 private:
  using Clock = std::chrono::steady_clock;

  /// A snapshot that somebody waits for.
  class Job {
   public:
    Job(std::string job_kind, Consistency wanted)
        : kind(std::move(job_kind)), consistency(wanted) {}
    virtual ~Job() = default;
    virtual void work(GuestKernel& kernel, PhysMemory& memory) = 0;
    /// Nothing was found to be wrong with what work() has read.
    virtual bool is_clean() const = 0;
    virtual void finish(const SnapshotMeta& meta) = 0;
    virtual void fail(const Error& error) = 0;
    const std::string kind;
    const Consistency consistency;
  };
  template <typename T, typename Work>
  class TypedJob;
  template <typename T>
  class ResultJob;
  /// Waits for the job of that kind, joined or new, to have its result.
  template <typename Work>
  Result<std::shared_ptr<ResultJob<ValueOf<Work>>>> done(const std::string& kind, Work work,
                                                         std::chrono::milliseconds timeout,
                                                         Consistency consistency);

  /// The job of that kind that is waiting or being taken, or the one that `make` creates; kBusy
  /// when too many wait.
  Result<std::shared_ptr<Job>> join(const std::string& kind,
                                    const std::function<std::shared_ptr<Job>()>& make);

  void run();
  Result<void> serve();
  Result<void> attach();
  Result<void> take(const std::shared_ptr<Job>& job);
  Result<void> take_snapshot(const std::shared_ptr<Job>& job);
  bool may_glance(const ReplayPlan& plan, bool first) const;
  Result<std::optional<gdb::RegisterValues>> glance(HeldGuest& guest, ReplayMemory& memory,
                                                    std::span<const gdb::ThreadId> threads);
  Result<bool> peek(Job* job, HeldGuest& guest);
  Result<bool> take_by_glance(Job* job, HeldGuest& guest, ReplayPlan& plan);
  Result<void> take_held(Job* job, HeldGuest& guest, ReplayMemory& memory);
  Result<void> take_live(Job& job, HeldGuest& guest, ReplayPlan& plan);
  void doubt_stopped_clock();
  Result<void> find_process();
  std::optional<Error> refusal(const Job& job) const;
  bool decode(Job* job, HeldGuest& guest, PhysMemory& memory);
  bool ram_is_due() const;
  Result<void> refresh_ram();
  std::vector<PagingRegisters> as_registers(const gdb::RegisterValues& values) const;
  std::vector<PagingRegisters> all_registers(HeldGuest& guest);
  bool use_registers(std::span<const PagingRegisters> all);
  Result<void> wait_for_work();
  std::shared_ptr<Job> next_job();
  void finish_job(const std::shared_ptr<Job>& job);
  void lose(Error error);
  void digest();
  void publish();
  void wait_before_reconnect();
  std::optional<std::chrono::milliseconds> until_next_attempt() const;
  bool share_allows() const { return Clock::now() >= share_.next(); }

  const GuestConfig config_;
  std::atomic<bool> stopping_{false};
  Wakeup wakeup_;

  // The session thread's own.
  std::unique_ptr<gdb::Client> client_;
  GuestKernel kernel_;
  Machine machine_ = Machine::kOther;
  PagingRegisterNames register_names_;
  PauseTotals pauses_;
  MemorySource source_;
  PauseShare share_;
  ReadPace pace_;
  ReplayPlans plans_;
  Clock::time_point last_attempt_{};
  Clock::time_point attached_at_{};
  Clock::time_point boot_watch_began_{};
  Clock::time_point ram_map_read_at_{};
  std::chrono::milliseconds reconnect_delay_;
  std::chrono::milliseconds last_stop_took_{};  // digesting included
  bool lost_while_held_ = false;
  bool missed_ram_ = false;
  bool recheck_ = false;                     // another boot may run
  std::optional<std::uint64_t> live_ticks_;  // as live answers last saw them advance
  Clock::time_point live_ticks_at_{};
  bool ever_attached_ = false;

  mutable std::mutex mutex_;
  GuestStatus status_;                     // guarded by mutex_
  std::deque<std::shared_ptr<Job>> jobs_;  // guarded by mutex_; the front one may be under way
  std::thread thread_;
};

template <typename T>
class GuestSession::ResultJob : public Job {
 public:
  using Job::Job;
  std::shared_future<Result<Snapshot<T>>> future() const { return future_; }
  /// Once there is a result.
  Renderings& renderings() { return renderings_; }
  bool is_clean() const override {
    if constexpr (requires { result_->problems.empty(); })
      return result_ && result_->problems.empty();
    else
      return result_.has_value();
  }
  void finish(const SnapshotMeta& meta) override {
    if (result_)
      promise_.set_value(Snapshot<T>{.value = *std::move(result_), .meta = meta});
    else
      promise_.set_value(std::unexpected(std::move(result_).error()));
  }
  void fail(const Error& error) override { promise_.set_value(std::unexpected(error)); }

 protected:
  Result<T> result_ = std::unexpected(Error{.code = ErrorCode::kSystem, .message = "not taken"});

 private:
  std::promise<Result<Snapshot<T>>> promise_;
  std::shared_future<Result<Snapshot<T>>> future_{promise_.get_future().share()};
  Renderings renderings_;
};

template <typename T, typename Work>
class GuestSession::TypedJob final : public ResultJob<T> {
 public:
  TypedJob(std::string job_kind, Consistency wanted, Work job_work)
      : ResultJob<T>(std::move(job_kind), wanted), work_(std::move(job_work)) {}
  void work(GuestKernel& kernel, PhysMemory& memory) override {
    try {
      this->result_ = work_(kernel, memory);
    } catch (const std::exception& error) {  // allocation, and what libraries throw
      this->result_ = guestscope::fail(ErrorCode::kSystem, "{}", error.what());
    }
  }

 private:
  Work work_;
};

template <typename Work>
auto GuestSession::done(const std::string& kind, Work work, std::chrono::milliseconds timeout,
                        Consistency consistency)
    -> Result<std::shared_ptr<ResultJob<ValueOf<Work>>>> {
  using T = ValueOf<Work>;
  // They share a plan, but no snapshot.
  const std::string whole_kind = consistency == Consistency::kLive ? kind + "?live" : kind;
  GS_ASSIGN(const std::shared_ptr<Job> job, join(whole_kind, [&] {
              return std::make_shared<TypedJob<T, Work>>(whole_kind, consistency, std::move(work));
            }));
  auto typed = std::static_pointer_cast<ResultJob<T>>(job);
  if (typed->future().wait_for(timeout) != std::future_status::ready)
    return guestscope::fail(ErrorCode::kTimeout, "no snapshot of {} within {} ms", kind,
                            timeout.count());
  return typed;
}

template <typename Work>
auto GuestSession::snapshot(const std::string& kind, Work work, std::chrono::milliseconds timeout,
                            Consistency consistency) -> Result<Snapshot<ValueOf<Work>>> {
  GS_ASSIGN(const auto job, done(kind, std::move(work), timeout, consistency));
  return job->future().get();
}

template <typename Work, typename Make>
auto GuestSession::render(const std::string& kind, Work work, const std::string& as, Make make,
                          std::chrono::milliseconds timeout, Consistency consistency)
    -> Result<std::shared_ptr<const Answer>> {
  GS_ASSIGN(const auto job, done(kind, std::move(work), timeout, consistency));
  const auto future = job->future();
  const Result<Snapshot<ValueOf<Work>>>& taken = future.get();
  if (!taken) return std::unexpected(taken.error());
  return job->renderings().once(as, [&] { return make(taken->value, taken->meta); });
}

}  // namespace guestscope
