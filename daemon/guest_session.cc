#include "daemon/guest_session.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

namespace guestscope {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kAttemptInterval{250};
constexpr milliseconds kBootAttemptInterval{
    100};  // while a boot is young: readiness should show at once
constexpr std::chrono::seconds kYoungBoot{20};
constexpr std::chrono::seconds kMismatchInterval{
    5};  // how often a guest with a foreign kernel is looked at for a reboot
constexpr std::chrono::seconds kRamMapInterval{2};  // while the guest boots
constexpr milliseconds kReconnectMin{100};
constexpr milliseconds kReconnectMax{2000};
constexpr std::size_t kMaxJobs = 64;

}  // namespace

GuestSession::GuestSession(GuestConfig config, std::shared_ptr<const KernelModel> model)
    : config_(std::move(config)),
      kernel_(std::move(model),
              [name = config_.name](std::string_view accessor, const AccessorStatus& status) {
                spdlog::warn(
                    "guest {}: {} not ready after {} attempts: {}", name, accessor, status.attempts,
                    status.last_error ? status.last_error->to_string() : "no reason given");
              }),
      reconnect_delay_(kReconnectMin) {}

GuestSession::~GuestSession() { stop(); }

void GuestSession::start() {
  thread_ = std::thread([this] { run(); });
}

void GuestSession::stop() {
  stopping_ = true;
  wakeup_.signal();
  if (thread_.joinable()) thread_.join();
}

GuestStatus GuestSession::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

Result<std::shared_ptr<GuestSession::Job>> GuestSession::join(
    const std::string& kind, const std::function<std::shared_ptr<Job>()>& make) {
  std::shared_ptr<Job> job;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return fail(ErrorCode::kUnreachable, "guestscope is shutting down");
    const auto same =
        std::ranges::find_if(jobs_, [&](const auto& other) { return other->kind == kind; });
    if (same != jobs_.end()) return *same;
    if (jobs_.size() >= kMaxJobs)
      return fail(ErrorCode::kBusy, "{} snapshots are waiting already", jobs_.size());
    job = make();
    jobs_.push_back(job);
  }
  wakeup_.signal();
  return job;
}

std::shared_ptr<GuestSession::Job> GuestSession::next_job() {
  const std::lock_guard lock(mutex_);
  return jobs_.empty() ? nullptr : jobs_.front();
}

/// Takes the job out of the queue, so that nobody joins it any more.
void GuestSession::finish_job(const std::shared_ptr<Job>& job) {
  const std::lock_guard lock(mutex_);
  if (job != nullptr) std::erase(jobs_, job);
}

void GuestSession::run() {
  while (!stopping_) {
    if (const auto attached = attach(); !attached) {
      lose(attached.error());
      wait_before_reconnect();
      continue;
    }
    serve();
  }
  if (client_) {
    if (const auto left = client_->detach(); !left)
      spdlog::warn("guest {}: leaving the stub: {}", config_.name, left.error().to_string());
    client_.reset();
  }
  lose({.code = ErrorCode::kUnreachable, .message = "guestscope is shutting down"});
}

/// Until the connection is lost or the daemon stops.
void GuestSession::serve() {
  Result<void> alive = take(nullptr);
  while (alive && !stopping_) {
    const auto due = until_next_attempt();
    if (const std::shared_ptr<Job> job = next_job())
      alive = take(job);
    else if (due && *due <= milliseconds(0))
      alive = take(nullptr);
    else
      alive = wait_for_work();
  }
  if (!alive) lose(alive.error());
}

Result<void> GuestSession::attach() {
  gdb::Options options;
  options.guest_was_held = lost_while_held_;
  options.start_waiting = config_.resume;
  attached_at_ = Clock::now();
  auto client = gdb::Client::attach(config_.gdb, options);
  if (!client) {
    // Nobody listens: QEMU is gone, and whoever answers next is another guest, which we never held.
    if (client.error().code == ErrorCode::kUnreachable) lost_while_held_ = false;
    return std::unexpected(std::move(client).error());
  }
  client_ = *std::move(client);
  lost_while_held_ = false;
  ever_attached_ = true;
  reconnect_delay_ = kReconnectMin;
  boot_watch_began_ = ram_map_read_at_ = Clock::now();
  spdlog::info("guest {}: attached to {}, QEMU {}, {} vCPUs, {} MB of RAM", config_.name,
               config_.gdb.to_string(), client_->qemu_version(), client_->threads().size(),
               client_->ram().total() >> 20);
  return {};
}

/// Firmware moves and shadows parts of the address space, so a map made before the kernel ran may
/// be wrong.
Result<void> GuestSession::refresh_ram() {
  if (kernel_.ready() || last_attempt_ - ram_map_read_at_ < kRamMapInterval) return {};
  ram_map_read_at_ = last_attempt_;
  return client_->refresh_ram();
}

Result<void> GuestSession::load_registers() {
  const auto threads = client_->threads();
  GS_ASSIGN(auto values, client_->registers(threads.first(1), x86_64::kPagingRegisterNames));
  const auto as_registers = [](const std::vector<std::uint64_t>& v) {
    return PagingRegisters{.cr0 = v[0], .cr3 = v[1], .cr4 = v[2], .efer = v[3]};
  };
  PagingRegisters chosen = as_registers(values.front());
  if (!chosen.paging_enabled() && threads.size() > 1) {
    // The first vCPU need not be the one that boots, or that is still running.
    GS_ASSIGN(values, client_->registers(threads, x86_64::kPagingRegisterNames));
    for (const auto& of_thread : values)
      if (const auto registers = as_registers(of_thread);
          registers.paging_enabled() && registers.long_mode()) {
        chosen = registers;
        break;
      }
  }
  kernel_.registers().store(chosen);
  return {};
}

/// One stop of the guest: refreshes what is known of its kernel and, if there is a job, does it. An
/// error means that the connection is lost.
Result<void> GuestSession::take(const std::shared_ptr<Job>& job) {
  HeldGuest guest(*client_, config_.max_pause, pauses_);
  last_attempt_ = Clock::now();
  const bool was_ready = kernel_.ready();
  Result<void> state = guest.begin(std::exchange(attached_at_, {}));
  if (state) state = refresh_ram();
  if (state) state = load_registers();
  if (state) {
    kernel_.refresh(guest);
    if (job != nullptr) job->work(kernel_, guest);
  }
  // From here on the guest may run: who asks now must get a newer snapshot.
  finish_job(job);
  lost_while_held_ = client_->held();
  const Result<void> resumed = guest.end();
  if (state) state = resumed;
  if (!state) {
    if (job != nullptr) job->fail(state.error());
    return state;
  }
  lost_while_held_ = false;
  if (was_ready && !kernel_.ready()) boot_watch_began_ = Clock::now();
  if (!was_ready && kernel_.ready())
    spdlog::info("guest {}: ready, Linux {}", config_.name, kernel_.summary().location->release);
  publish();
  if (job != nullptr) job->finish(guest.meta());
  return {};
}

std::optional<milliseconds> GuestSession::until_next_attempt() const {
  milliseconds interval = kAttemptInterval;
  if (kernel_.wants_attempt())
    interval =
        Clock::now() - boot_watch_began_ < kYoungBoot ? kBootAttemptInterval : kAttemptInterval;
  else if (kernel_.mismatched())
    interval = kMismatchInterval;
  else
    return std::nullopt;
  return std::chrono::ceil<milliseconds>(last_attempt_ + interval - Clock::now());
}

Result<void> GuestSession::wait_for_work() {
  const bool readable = wakeup_.wait(client_->fd(), until_next_attempt());
  if (!readable) return {};
  GS_CHECK(client_->poll_idle());
  publish();
  return {};
}

void GuestSession::lose(Error error) {
  client_.reset();
  kernel_.forget();
  std::deque<std::shared_ptr<Job>> jobs;
  {
    const std::lock_guard lock(mutex_);
    const bool first =
        !status_.connection_error || status_.connection_error->message != error.message;
    if (first && !stopping_) spdlog::warn("guest {}: {}", config_.name, error.to_string());
    status_.connection = ever_attached_ ? ConnectionState::kLost : ConnectionState::kConnecting;
    status_.connection_error = error;
    status_.kernel = kernel_.summary();
    std::swap(jobs, jobs_);
  }
  error.code = ErrorCode::kUnreachable;
  for (const auto& job : jobs) job->fail(error);
}

void GuestSession::publish() {
  const std::lock_guard lock(mutex_);
  status_ = {.connection = ConnectionState::kConnected,
             .connection_error = std::nullopt,
             .paused = client_->run_state() == gdb::RunState::kPaused,
             .qemu_version = std::string(client_->qemu_version()),
             .kernel = kernel_.summary(),
             .pauses = pauses_};
}

/// Requests that come meanwhile are answered at once: there is no guest to ask.
void GuestSession::wait_before_reconnect() {
  const auto until = Clock::now() + reconnect_delay_;
  reconnect_delay_ = std::min(reconnect_delay_ * 2, kReconnectMax);
  while (!stopping_ && Clock::now() < until) {
    wakeup_.wait(-1, std::chrono::ceil<milliseconds>(until - Clock::now()));
    if (next_job()) lose(*status().connection_error);
  }
}

}  // namespace guestscope
