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
constexpr milliseconds kReconnectMin{100};
constexpr milliseconds kReconnectMax{2000};
// Where nothing is to be hoped for before another VM runs there: each attempt stops the guest.
constexpr milliseconds kUnsupportedReconnect{30'000};
// While the kernel is read from guest memory: the guest runs at least as long as it was held.
constexpr milliseconds kDiscoveryBreather{10};
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
      source_(config_.memory),
      share_(config_.max_pause_share, config_.longest_share_wait),
      pace_(config_.max_pause),
      reconnect_delay_(kReconnectMin) {}

GuestSession::~GuestSession() { stop(); }

void GuestSession::start() {
  thread_ = std::thread([this] { run(); });
}

void GuestSession::request_stop() {
  stopping_ = true;
  wakeup_.signal();
}

void GuestSession::stop() {
  request_stop();
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
    try {
      const auto attached = attach();
      const auto served = attached ? serve() : attached;
      if (!served) lose(served.error());
    } catch (const std::exception& error) {  // allocation, and what libraries throw
      lose({.code = ErrorCode::kSystem, .message = error.what()});
    }
    wait_before_reconnect();
  }
  if (client_) {
    if (const auto left = client_->detach(); !left)
      spdlog::warn("guest {}: leaving the stub: {}", config_.name, left.error().to_string());
  }
  lose({.code = ErrorCode::kUnreachable, .message = "guestscope is shutting down"});
}

/// Until the connection is lost or the daemon stops.
Result<void> GuestSession::serve() {
  GS_CHECK(take(nullptr));
  reconnect_delay_ = kReconnectMin;
  while (!stopping_) {
    const auto due = until_next_attempt();
    const std::shared_ptr<Job> job = next_job();
    const bool refused = job && refusal(*job);
    const bool live = job && job->consistency == Consistency::kLive;
    const bool its_turn = job && (refused || live || share_allows());
    const bool needs_process = source_.is_missing() || live;
    if (std::exchange(recheck_, false))
      GS_CHECK(take(nullptr));
    else if (kernel_.ready() && (!job || needs_process) && source_.wants_attempt(needs_process))
      GS_CHECK(find_process());
    else if (due && *due <= milliseconds(0) && (refused || !its_turn))
      GS_CHECK(take(nullptr));
    else if (its_turn)
      GS_CHECK(take(job));
    else
      GS_CHECK(wait_for_work());
  }
  return {};
}

Result<void> GuestSession::attach() {
  gdb::Options options;
  options.guest_was_held = lost_while_held_;
  options.start_waiting = config_.resume;
  // Whoever said so meant the VM that was there then, not the one of a later connection.
  options.assume_running = !config_.paused || ever_attached_;
  attached_at_ = Clock::now();
  auto client = gdb::Client::attach(config_.gdb, options);
  if (!client) return std::unexpected(std::move(client).error());
  client_ = *std::move(client);
  machine_ = machine_of_architecture(client_->architecture());
  if (find_processor(machine_) == nullptr)
    return fail(ErrorCode::kUnsupported,
                "the guest's processor is '{}'; guestscope understands x86-64 and arm64",
                client_->architecture());
  register_names_ = PagingRegisterNames(machine_, *client_);
  source_.reset();
  lost_while_held_ = false;
  ever_attached_ = true;
  boot_watch_began_ = ram_map_read_at_ = Clock::now();
  spdlog::info("guest {}: attached to {}, QEMU {}, {} vCPUs, {} MB of RAM", config_.name,
               config_.gdb.to_string(), client_->qemu_version(), client_->threads().size(),
               client_->ram().total() >> 20);
  return {};
}

/// What the stop has brought in of the kernel's symbols and types is looked through while the guest
/// runs.
void GuestSession::digest() {
  const auto began = last_attempt_;
  if (kernel_.digest()) {
    const auto file = kernel_.summary().file;
    spdlog::info("guest {}: Linux {}, symbols: {}, types: {}", config_.name, file->release(),
                 file->symbols_from(), file->types_from());
    last_attempt_ = {};  // nothing is to be waited for
  }
  last_stop_took_ = std::chrono::ceil<milliseconds>(Clock::now() - began);
}

std::optional<milliseconds> GuestSession::until_next_attempt() const {
  milliseconds interval = kAttemptInterval;
  if (kernel_.discovering())
    interval = last_stop_took_ + std::max(kDiscoveryBreather, last_stop_took_);
  else if (kernel_.wants_attempt())
    interval =
        Clock::now() - boot_watch_began_ < kYoungBoot ? kBootAttemptInterval : kAttemptInterval;
  else if (kernel_.waits_for_reboot())
    interval = kMismatchInterval;
  else
    return std::nullopt;
  return std::chrono::ceil<milliseconds>(last_attempt_ + interval - Clock::now());
}

Result<void> GuestSession::wait_for_work() {
  auto timeout = until_next_attempt();
  if (const auto first = source_.first_attempt_at(); first && kernel_.ready()) {
    const auto wait = std::chrono::ceil<milliseconds>(*first - Clock::now());
    timeout = std::min(timeout.value_or(wait), wait);
  }
  if (next_job()) {  // it waits for its share
    const auto wait = std::chrono::ceil<milliseconds>(share_.next() - Clock::now());
    timeout = std::min(timeout.value_or(wait), wait);
  }
  const bool readable = wakeup_.wait(client_->fd(), timeout);
  if (!readable) return {};
  GS_CHECK(client_->poll_idle());
  publish();
  return {};
}

void GuestSession::lose(Error error) {
  if (error.code == ErrorCode::kUnsupported) reconnect_delay_ = kUnsupportedReconnect;
  client_.reset();
  source_.reset();
  kernel_.forget();
  plans_.clear();
  pace_ = ReadPace(config_.max_pause);
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
             .from_process = source_.process() != nullptr,
             .why_not_process = source_.reason(),
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
