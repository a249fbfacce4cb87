#include "daemon/held_guest.h"

#include <algorithm>
#include <exception>
#include <thread>
#include <utility>

namespace guestscope {

namespace {

// How long the guest runs, at most, before it is held again for the rest of the same snapshot.
constexpr std::chrono::milliseconds kMaxBreather{100};

// After a glance. With more than that missing, the guest is better held.
constexpr int kMostLateReads = 16;

void fail_all(std::span<PhysRead> reads, const Error& error) {
  for (PhysRead& read : reads) read.error = error;
}

/// Not of the process as a whole.
bool is_of_one_place(const Error& error) {
  return error.code == ErrorCode::kNotRam || error.code == ErrorCode::kNotMapped;
}

}  // namespace

HeldGuest::HeldGuest(gdb::Client& client, MemorySource& source, Limits limits, PauseTotals& totals,
                     ReadPace& pace, std::function<void()> before_running)
    : client_(client),
      source_(source),
      limits_(limits),
      totals_(totals),
      before_running_(std::move(before_running)),
      pace_(pace),
      before_(client.counters()) {}

Result<gdb::RegisterValues> HeldGuest::begin(Clock::time_point since, const gdb::Look& look) {
  if (since != Clock::time_point{}) attached_at_ = since;
  meta_.taken_at = std::chrono::system_clock::now();
  mixed_ = false;
  if (source_.process() == nullptr) {
    const auto before = Clock::now();
    auto seen = client_.stop(look);
    stops_ = client_.counters().stops;
    pace_.took(look.reads, Clock::now() - before);
    return seen;
  }
  auto seen = client_.stop({.threads = look.threads, .names = look.names, .reads = {}});
  stops_ = client_.counters().stops;
  if (seen) read(look.reads);
  return seen;
}

Result<gdb::RegisterValues> HeldGuest::glance(const gdb::Look& look) {
  before_running_();
  ProcessMemory* const process = source_.process();
  gdb::Look asked = look;
  bool copied = false;
  if (process != nullptr) {
    process->prepare(look.reads);
    asked.reads = {};
    asked.once_stopped = [&] {
      process->copy();
      copied = true;
    };
  }
  meta_.taken_at = std::chrono::system_clock::now();
  mixed_ = false;
  late_reads_ = 0;
  const auto before = Clock::now();
  auto seen = glance_counted(asked);
  if (process == nullptr)
    pace_.took(look.reads, Clock::now() - before);
  else if (seen && !take_copied(*process, copied))
    return fail(ErrorCode::kNotReady, "it has to be read the other way");
  return seen;
}

/// A glance whose pause counts.
Result<gdb::RegisterValues> HeldGuest::glance_counted(const gdb::Look& look) {
  const std::uint64_t stops = client_.counters().stops;
  auto seen = client_.glance(look);
  if (client_.counters().stops > stops) count_pause(client_.last_answer_at());
  return seen;
}

/// False when the copy is not to be used.
bool HeldGuest::take_copied(ProcessMemory& process, bool copied) {
  if (!copied) return false;  // the guest's owner has paused it
  if (const auto same = process.confirm(); !same) {
    source_.give_up(same.error());
    return false;
  }
  meta_.from_process = true;
  return true;
}

Result<gdb::RegisterValues> HeldGuest::registers(std::span<const gdb::ThreadId> threads,
                                                 std::span<const std::string_view> names) {
  if (client_.stopped()) return client_.registers(threads, names);
  if (live_) return fail(ErrorCode::kNotReady, "the guest is not stopped for its registers");
  auto seen = glance({.threads = threads, .names = names, .reads = {}});
  mixed_ = true;
  return seen;
}

void HeldGuest::begin_live() {
  before_running_();
  live_ = true;
  meta_.taken_at = std::chrono::system_clock::now();
  meta_.consistent = false;
}

/// Any exchange may have found that the guest's owner had continued it, and stopped it anew.
HeldGuest::Clock::time_point HeldGuest::stopped_at() const {
  return client_.counters().stops == before_.stops ? attached_at_ : client_.stopped_since();
}

void HeldGuest::count_pause(Clock::time_point until) {
  const auto pause = std::max(std::chrono::ceil<std::chrono::microseconds>(until - stopped_at()),
                              std::chrono::microseconds(0));
  meta_.paused += pause;
  ++meta_.stops;
  totals_.add(pause);
}

Result<void> HeldGuest::resume() {
  before_running_();
  const bool held = client_.held();
  const Result<void> resumed = client_.resume();
  // Without an answer nobody knows until when.
  if (held) count_pause(resumed ? client_.last_answer_at() : Clock::now());
  return resumed;
}

Result<void> HeldGuest::end() {
  const Result<void> resumed = resume();
  const gdb::Counters after = client_.counters();
  // Its owner has continued it in between.
  if (stops_ && *stops_ != after.stops) meta_.consistent = false;
  meta_.round_trips = after.round_trips - before_.round_trips;
  meta_.packets = after.packets_sent - before_.packets_sent;
  return resumed;
}

bool HeldGuest::over_budget() const {
  return client_.held() && Clock::now() - stopped_at() >= limits_.budget;
}

bool HeldGuest::out_of_time() {
  expired_ = expired_ || limits_.cancelled || Clock::now() >= limits_.deadline;
  return expired_;
}

Result<void> HeldGuest::let_run() {
  GS_CHECK(resume());
  std::this_thread::sleep_for(std::min(limits_.budget, kMaxBreather));
  meta_.consistent = false;
  const auto held = client_.stop();
  stops_ = client_.counters().stops;
  return held;
}

/// False when there is none, or no longer.
bool HeldGuest::read_from_process(std::span<PhysRead> reads) {
  ProcessMemory* const process = source_.process();
  if (process == nullptr) return false;
  process->read(reads);
  for (const PhysRead& read : reads) {
    if (!read.error || is_of_one_place(*read.error)) continue;
    source_.give_up(*read.error);
    return false;
  }
  if (!live_) read_rest(reads);
  return true;
}

/// What the process lacks: ROM, pages that are not there.
void HeldGuest::read_rest(std::span<PhysRead> reads) {
  std::vector<PhysRead> rest;
  std::vector<PhysRead*> owners;
  for (PhysRead& read : reads) {
    if (!read.error || !is_of_one_place(*read.error)) continue;
    rest.push_back({.address = read.address, .into = read.into});
    owners.push_back(&read);
  }
  if (rest.empty()) return;
  read_from_stub(rest, {});
  for (std::size_t i = 0; i < rest.size(); ++i) owners[i]->error = std::move(rest[i].error);
}

void HeldGuest::read_from_stub(std::span<PhysRead> reads, const Work& work) {
  if (client_.stopped()) return client_.read_physical(reads, work);
  if (std::ranges::none_of(reads, [&](const PhysRead& read) {
        return client_.ram().contains(read.address, read.into.size());
      }))
    return fail_all(reads, {.code = ErrorCode::kNotRam, .message = "not RAM"});
  before_running_();
  const auto seen = glance_counted({.threads = {}, .names = {}, .reads = reads});
  if (!seen) fail_all(reads, seen.error());
}

void HeldGuest::read_now(std::span<PhysRead> reads, const Work& work) {
  if (!client_.stopped() && !live_) {
    mixed_ = true;
    // Nobody will see what comes of it.
    if (++late_reads_ > kMostLateReads)
      return fail_all(reads, {.code = ErrorCode::kNotReady, .message = "to be read again"});
  }
  if (read_from_process(reads)) {
    meta_.from_process = true;
    return;
  }
  if (live_)
    return fail_all(reads, {.code = ErrorCode::kNotReady,
                            .message = "QEMU's process can no longer be read: " +
                                       source_.reason().value_or(Error{}).message});
  read_from_stub(reads, work);
}

void HeldGuest::read_while(std::span<PhysRead> reads, const Work& work) {
  bool due = true;
  std::exception_ptr thrown;  // not through the client: it would give up the connection
  const auto once = [&] {
    if (!std::exchange(due, false)) return;
    const auto before = Clock::now();
    try {
      work();
    } catch (...) {
      thrown = std::current_exception();
    }
    worked_ += Clock::now() - before;
  };
  read_in_steps(reads, once);
  once();
  if (thrown) std::rethrow_exception(thrown);
}

void HeldGuest::read_in_steps(std::span<PhysRead> reads, const Work& work) {
  while (!reads.empty()) {
    if (out_of_time())
      return fail_all(reads,
                      {.code = ErrorCode::kTimeout, .message = "the snapshot took too long"});
    if (over_budget())
      if (const auto held = let_run(); !held) return fail_all(reads, held.error());
    const auto step = reads.first(pace_.next(reads));
    const auto before = Clock::now();
    worked_ = {};
    read_now(step, work);
    pace_.took(step, Clock::now() - before - worked_);
    for (const PhysRead& read : step)
      missed_ram_ = missed_ram_ || (read.error && read.error->code == ErrorCode::kNotRam);
    reads = reads.subspan(step.size());
  }
}

}  // namespace guestscope
