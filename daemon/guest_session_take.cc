// GuestSession: how a snapshot is taken; see docs/design.md, «A snapshot is one stop».
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "daemon/guest_session.h"

namespace guestscope {

namespace {

constexpr std::chrono::seconds kRamMapInterval{2};
constexpr std::chrono::seconds kSnapshotLimit{30};  // no caller waits longer
// Where the first glance has shown what was missing, another one may be enough.
constexpr int kMostGlances = 2;
constexpr int kMostLiveReads = 3;
// vCPUs whose registers an attempt asks for at once.
constexpr std::size_t kMostPeeked = 8;
constexpr std::chrono::seconds kStoppedClock{2};

/// The stub's, which leaves the connection as it is.
bool is_refusal(const Error& error) {
  return error.code == ErrorCode::kNotReady || error.code == ErrorCode::kNotFound ||
         error.code == ErrorCode::kUnsupported;
}

}  // namespace

/// Firmware moves and shadows parts of the address space, so a map made before the kernel ran may
/// be wrong.
bool GuestSession::ram_is_due() const {
  const bool wanted = !kernel_.ready() || missed_ram_;
  return wanted && last_attempt_ - ram_map_read_at_ >= kRamMapInterval;
}

Result<void> GuestSession::refresh_ram() {
  ram_map_read_at_ = last_attempt_;
  missed_ram_ = false;
  GS_CHECK(client_->refresh_ram());
  source_.refresh(*client_);
  return {};
}

std::vector<PagingRegisters> GuestSession::as_registers(const gdb::RegisterValues& values) const {
  std::vector<PagingRegisters> registers;
  for (const auto& of_thread : values) registers.push_back(register_names_.as_registers(of_thread));
  return registers;
}

std::vector<PagingRegisters> GuestSession::all_registers(HeldGuest& guest) {
  const auto values = guest.registers(client_->threads(), register_names_.names());
  return values ? as_registers(*values) : std::vector<PagingRegisters>();
}

/// Of the first vCPU that has paging on: it need not be the first that there is. False when none
/// has.
bool GuestSession::use_registers(std::span<const PagingRegisters> all) {
  const auto paging = std::ranges::find_if(all, [&](const PagingRegisters& registers) {
    return find_processor(machine_)->paging_enabled(registers);
  });
  if (paging != all.end()) kernel_.registers().store(*paging);
  return paging != all.end();
}

/// Refreshes what is known of the kernel and, if there is a job, does it. False: see
/// GuestKernel::refresh().
bool GuestSession::decode(Job* job, HeldGuest& guest, PhysMemory& memory) {
  const PagingRegisters first = kernel_.registers().load();
  if (!use_registers({&first, 1}) && client_->threads().size() > 1)
    use_registers(all_registers(guest));
  if (!kernel_.refresh(memory, [&] { return all_registers(guest); })) return false;
  if (job != nullptr) job->work(kernel_, memory);
  return true;
}

bool GuestSession::may_glance(const ReplayPlan& plan, bool first) const {
  // What is found out once and for all is found out while the guest stands still.
  return kernel_.ready() && client_->can_glance() && !ram_is_due() &&
         (first ? plan.foresees() : plan.complete());
}

/// One write that stops the guest, reads all that the plan has and lets it run: the registers then.
/// Empty when the guest has to be held instead.
Result<std::optional<gdb::RegisterValues>> GuestSession::glance(
    HeldGuest& guest, ReplayMemory& memory, std::span<const gdb::ThreadId> threads) {
  std::vector<PhysRead> reads = memory.wanted();
  if (!guest.fits(reads)) return std::nullopt;
  auto seen = guest.glance({.threads = threads, .names = register_names_.names(), .reads = reads});
  if (!seen && is_refusal(seen.error())) return std::nullopt;
  if (!seen) return std::unexpected(std::move(seen).error());
  memory.taken(reads);
  return *std::move(seen);
}

/// An attempt while there is no kernel yet: one write that reads what the last attempt has read.
/// False when that does not tell that there is still none.
Result<bool> GuestSession::peek(Job* job, HeldGuest& guest) {
  ReplayPlan& plan = plans_.of(std::string(ReplayPlans::kBase));
  const bool may = kernel_.is_unseen() && client_->can_glance() && !ram_is_due() && plan.foresees();
  const auto all = client_->threads();
  const bool first_will_do = find_processor(machine_)->paging_enabled(kernel_.registers().load());
  if (!may || (all.size() > kMostPeeked && !first_will_do)) return false;
  ReplayMemory memory(guest, plan);
  GS_ASSIGN(const auto seen, glance(guest, memory, all.size() <= kMostPeeked ? all : all.first(1)));
  if (!seen) return false;
  memory.ask_no_more();
  kernel_.registers().store(register_names_.as_registers(seen->front()));
  const bool paging = use_registers(as_registers(*seen));
  std::optional<Error> reason;
  if (paging || seen->size() == all.size()) reason = kernel_.absence(memory);
  const bool done = reason && !memory.missed();
  memory.finish(!done);
  if (!done) return false;
  kernel_.note_absence(*reason);
  if (job != nullptr) job->work(kernel_, memory);
  return true;
}

/// By what one write reads; the work is done while the guest runs. False when that needed more.
Result<bool> GuestSession::take_by_glance(Job* job, HeldGuest& guest, ReplayPlan& plan) {
  ReplayMemory memory(guest, plan);
  GS_ASSIGN(const auto seen, glance(guest, memory, client_->threads().first(1)));
  if (!seen) return false;
  kernel_.registers().store(register_names_.as_registers(seen->front()));
  kernel_.doubt();
  const bool done = decode(job, guest, memory) && !guest.mixed();
  kernel_.settle(done);
  memory.finish(!done);
  return done;
}

/// The guest stands still for all of it.
Result<void> GuestSession::take_held(Job* job, HeldGuest& guest, ReplayMemory& memory) {
  const auto since = std::exchange(attached_at_, {});
  std::vector<PhysRead> reads = memory.wanted();
  const bool with_reads = guest.fits(reads) && !ram_is_due();
  if (ram_is_due()) {
    GS_CHECK(guest.begin(since, {}));
    GS_CHECK(refresh_ram());
  }
  gdb::Look look{
      .threads = client_->threads().first(1), .names = register_names_.names(), .reads = {}};
  if (with_reads) look.reads = reads;
  GS_ASSIGN(const auto seen, guest.begin(since, look));
  kernel_.registers().store(register_names_.as_registers(seen.front()));
  if (!with_reads) guest.read(reads);
  memory.taken(reads);
  decode(job, guest, memory);
  return {};
}

/// The guest is never stopped. What changes while it is read may not fit together, so what comes
/// out with problems is read again.
Result<void> GuestSession::take_live(Job& job, HeldGuest& guest, ReplayPlan& plan) {
  guest.begin_live();
  for (int i = 0; i < kMostLiveReads && (i == 0 || !job.is_clean()); ++i) {
    ReplayMemory memory(guest, plan);
    std::vector<PhysRead> reads = memory.wanted();
    guest.read(reads);
    memory.taken(reads);
    kernel_.doubt();
    const bool known = kernel_.refresh(memory);
    doubt_stopped_clock();
    if (known) job.work(kernel_, memory);
    kernel_.settle(false);
    memory.finish();
    recheck_ = recheck_ || !known;
    if (!known) return fail(ErrorCode::kNotReady, "the guest seems to have rebooted: ask again");
  }
  return {};
}

/// After a reset, memory is as the last kernel has left it, and nothing in it says so but a clock
/// that stands still. So does that of a guest that sleeps: it is stopped for a look, now and then.
void GuestSession::doubt_stopped_clock() {
  const auto ticks = kernel_.ticks();
  const auto now = Clock::now();
  if (!ticks || ticks != live_ticks_) {
    live_ticks_ = ticks;
    if (ticks) live_ticks_at_ = now;
  }
  if (now < live_ticks_at_ + kStoppedClock) return;
  live_ticks_at_ = now;
  recheck_ = true;
}

/// Sees whether memory can be read from QEMU's process, for which the guest is held once.
Result<void> GuestSession::find_process() {
  last_attempt_ = Clock::now();
  if (source_.look_for_process(client_->fd())) {
    HeldGuest guest(*client_, source_,
                    {.budget = config_.max_pause,
                     .deadline = last_attempt_ + kSnapshotLimit,
                     .cancelled = stopping_},
                    pauses_, pace_, [] {});
    GS_CHECK(guest.begin({}, {}));
    source_.choose(*client_);
    GS_CHECK(guest.end());
    share_.paused(Clock::now(), guest.meta().paused);
  }
  if (source_.process() != nullptr)
    spdlog::info("guest {}: memory is read from {}", config_.name,
                 source_.process()->process().to_string());
  else if (config_.memory == MemoryMode::kProcess)
    spdlog::warn("guest {}: memory cannot be read from QEMU's process: {}", config_.name,
                 source_.reason()->to_string());
  publish();
  return {};
}

/// Why the job cannot be done with the memory that there is; empty when it can.
std::optional<Error> GuestSession::refusal(const Job& job) const {
  const bool live = job.consistency == Consistency::kLive;
  if (source_.process() != nullptr || (!live && !source_.is_missing())) return std::nullopt;
  if (!kernel_.ready())
    return Error{.code = ErrorCode::kNotReady, .message = "the guest's kernel is not ready"};
  const bool for_now = source_.reason()->code == ErrorCode::kNotReady;
  return Error{.code = for_now ? ErrorCode::kNotReady
                       : live  ? ErrorCode::kInvalidArgument
                               : ErrorCode::kUnsupported,
               .message = fmt::format("{} needs the memory of QEMU's process: {}",
                                      live ? "consistency=live" : "--memory=process",
                                      source_.reason()->to_string())};
}

/// An error means that the connection is lost. Whatever happens, the job gets its answer.
Result<void> GuestSession::take(const std::shared_ptr<Job>& job) {
  try {
    return take_snapshot(job);
  } catch (const std::exception& error) {  // allocation, and what libraries throw
    if (job != nullptr) job->fail({.code = ErrorCode::kSystem, .message = error.what()});
    throw;
  }
}

/// One snapshot of the guest, by a glance if all that it needs is foreseen.
Result<void> GuestSession::take_snapshot(const std::shared_ptr<Job>& job) {
  if (job != nullptr) {
    source_.check_mappings();
    if (auto refused = refusal(*job)) {
      finish_job(job);
      job->fail(*std::move(refused));
      return {};
    }
  }
  last_attempt_ = Clock::now();
  std::optional<ReplayMemory> held;
  const bool live = job != nullptr && job->consistency == Consistency::kLive;
  // Once the guest may have run, who asks must get a newer snapshot: nobody joins this one any
  // more.
  HeldGuest guest(*client_, source_,
                  {.budget = config_.max_pause,
                   .deadline = last_attempt_ + kSnapshotLimit,
                   .cancelled = stopping_},
                  pauses_, pace_, [&] {
                    if (held) held->forget();
                    finish_job(job);
                  });
  const bool was_ready = kernel_.ready();
  const std::uint64_t boots = kernel_.boots();
  Result<bool> done = false;
  if (!live) done = peek(job.get(), guest);
  ReplayPlan& plan = plans_.of(job ? job->kind : std::string(ReplayPlans::kBase));
  Result<void> seen_live;
  if (live) seen_live = take_live(*job, guest, plan);
  for (int i = 0; !live && i < kMostGlances && done && !*done && may_glance(plan, i == 0); ++i)
    done = take_by_glance(job.get(), guest, plan);
  Result<void> state;
  if (!done) {
    state = std::unexpected(done.error());
  } else if (!*done && !live) {
    held.emplace(guest, plan);
    state = take_held(job.get(), guest, *held);
  }
  missed_ram_ = missed_ram_ || guest.missed_ram();
  // A stop that was sent but not confirmed may hold the guest as well.
  lost_while_held_ = client_->held() || (!state && client_->run_state() == gdb::RunState::kRunning);
  const Result<void> resumed = guest.end();
  share_.paused(Clock::now(), guest.meta().paused);
  if (held) held->finish();
  if (state) state = resumed;
  if (!state) {
    if (job != nullptr)
      job->fail({.code = ErrorCode::kUnreachable, .message = state.error().message});
    return state;
  }
  lost_while_held_ = false;
  if (was_ready && !kernel_.ready()) boot_watch_began_ = Clock::now();
  // Firmware lays out memory anew for each boot.
  if (was_ready && (!kernel_.ready() || kernel_.boots() != boots)) source_.reset();
  digest();
  if (!was_ready && kernel_.ready()) {
    spdlog::info("guest {}: ready, Linux {}", config_.name, kernel_.summary().location->release);
    source_.kernel_is_ready();
  }
  publish();
  if (job != nullptr && !seen_live)
    job->fail(seen_live.error());
  else if (job != nullptr && guest.expired())
    job->fail({.code = ErrorCode::kTimeout, .message = "the snapshot took too long"});
  else if (job != nullptr)
    job->finish(guest.meta());
  return {};
}

}  // namespace guestscope
