#include "daemon/held_guest.h"

#include <thread>

namespace guestscope {

namespace {

// What is asked for between two looks at the clock: about 5 ms at the stub's usual speed.
constexpr std::size_t kStepBytes = 512 << 10;
constexpr std::size_t kStepReads = 512;

std::size_t step_length(std::span<const PhysRead> reads) {
  std::size_t bytes = 0;
  std::size_t count = 0;
  while (count < reads.size() && count < kStepReads && bytes < kStepBytes)
    bytes += reads[count++].into.size();
  return count;
}

}  // namespace

HeldGuest::HeldGuest(gdb::Client& client, std::chrono::milliseconds budget, PauseTotals& totals)
    : client_(client), budget_(budget), totals_(totals), before_(client.counters()) {}

Result<void> HeldGuest::begin(Clock::time_point since) {
  stopped_at_ = since == Clock::time_point{} ? Clock::now() : since;
  meta_.taken_at = std::chrono::system_clock::now();
  return client_.stop();
}

Result<void> HeldGuest::resume() {
  const bool held = client_.held();
  const Result<void> resumed = client_.resume();
  if (held) {
    const auto pause =
        std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - stopped_at_);
    meta_.paused += pause;
    ++meta_.stops;
    totals_.add(pause);
  }
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
  return client_.held() && Clock::now() - stopped_at_ >= budget_;
}

Result<void> HeldGuest::let_run() {
  GS_CHECK(resume());
  std::this_thread::sleep_for(budget_);
  stopped_at_ = Clock::now();
  meta_.consistent = false;
  return client_.stop();
}

void HeldGuest::read(std::span<PhysRead> reads) {
  while (!reads.empty()) {
    if (over_budget()) {
      if (const auto failed = let_run(); !failed) {
        for (PhysRead& read : reads) read.error = failed.error();
        return;
      }
    }
    const std::size_t n = step_length(reads);
    client_.read_physical(reads.first(n));
    reads = reads.subspan(n);
  }
}

}  // namespace guestscope
