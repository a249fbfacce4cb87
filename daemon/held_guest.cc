#include "daemon/held_guest.h"

#include <algorithm>
#include <thread>
#include <utility>

namespace guestscope {

namespace {

// How long the guest runs, at most, before it is held again for the rest of the same snapshot.
constexpr std::chrono::milliseconds kMaxBreather{100};

void fail_all(std::span<PhysRead> reads, const Error& error) {
  for (PhysRead& read : reads) read.error = error;
}

}  // namespace

HeldGuest::HeldGuest(gdb::Client& client, Limits limits, PauseTotals& totals, ReadPace& pace,
                     std::function<void()> before_running)
    : client_(client),
      limits_(limits),
      totals_(totals),
      before_running_(std::move(before_running)),
      pace_(pace),
      before_(client.counters()) {}

Result<gdb::RegisterValues> HeldGuest::begin(Clock::time_point since, const gdb::Look& look) {
  if (since != Clock::time_point{})
    stopped_at_ = since;
  else if (!client_.stopped())
    stopped_at_ = Clock::now();
  meta_.taken_at = std::chrono::system_clock::now();
  mixed_ = false;
  return client_.stop(look);
}

Result<gdb::RegisterValues> HeldGuest::glance(const gdb::Look& look) {
  before_running_();
  const std::uint64_t stops = client_.counters().stops;
  stopped_at_ = Clock::now();
  meta_.taken_at = std::chrono::system_clock::now();
  mixed_ = false;
  auto seen = client_.glance(look);
  if (client_.counters().stops > stops) count_pause();
  return seen;
}

Result<gdb::RegisterValues> HeldGuest::registers(std::span<const gdb::ThreadId> threads,
                                                 std::span<const std::string_view> names) {
  if (client_.stopped()) return client_.registers(threads, names);
  auto seen = glance({.threads = threads, .names = names, .reads = {}});
  mixed_ = true;
  return seen;
}

void HeldGuest::count_pause() {
  const auto pause =
      std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - stopped_at_);
  meta_.paused += pause;
  ++meta_.stops;
  totals_.add(pause);
}

Result<void> HeldGuest::resume() {
  before_running_();
  const bool held = client_.held();
  const Result<void> resumed = client_.resume();
  if (held) count_pause();
  return resumed;
}

Result<void> HeldGuest::end() {
  const Result<void> resumed = resume();
  const gdb::Counters after = client_.counters();
  meta_.round_trips = after.round_trips - before_.round_trips;
  meta_.packets = after.packets_sent - before_.packets_sent;
  return resumed;
}

bool HeldGuest::over_budget() const {
  return client_.held() && Clock::now() - stopped_at_ >= limits_.budget;
}

bool HeldGuest::out_of_time() {
  expired_ = expired_ || limits_.cancelled || Clock::now() >= limits_.deadline;
  return expired_;
}

Result<void> HeldGuest::let_run() {
  GS_CHECK(resume());
  std::this_thread::sleep_for(std::min(limits_.budget, kMaxBreather));
  stopped_at_ = Clock::now();
  meta_.consistent = false;
  return client_.stop();
}

void HeldGuest::read(std::span<PhysRead> reads) {
  while (!reads.empty()) {
    if (out_of_time())
      return fail_all(reads,
                      {.code = ErrorCode::kTimeout, .message = "the snapshot took too long"});
    if (over_budget())
      if (const auto held = let_run(); !held) return fail_all(reads, held.error());
    const auto step = reads.first(pace_.next(reads));
    const auto before = Clock::now();
    if (client_.stopped()) {
      client_.read_physical(step);
    } else {
      const auto seen = glance({.threads = {}, .names = {}, .reads = step});
      mixed_ = true;
      if (!seen) return fail_all(reads, seen.error());
    }
    pace_.took(step, Clock::now() - before);
    for (const PhysRead& read : step)
      missed_ram_ = missed_ram_ || (read.error && read.error->code == ErrorCode::kNotRam);
    reads = reads.subspan(step.size());
  }
}

}  // namespace guestscope
