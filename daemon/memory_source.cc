#include "daemon/memory_source.h"

#include <utility>

#include "gdbproto/stub_memory.h"

namespace guestscope {

namespace {

constexpr std::chrono::seconds kAttemptInterval{2};
constexpr std::chrono::milliseconds kFirstAttemptDelay{200};
constexpr std::chrono::seconds kCheckInterval{1};

Monitor monitor_of(gdb::Client& client) {
  return [&client](std::string_view command) { return client.monitor(command); };
}

}  // namespace

void MemorySource::reset() {
  process_.reset();
  candidates_.clear();
  may_try_ = mode_ != MemoryMode::kStub;
  tried_ = false;
  next_attempt_ = {};
  reason_ = Error{.code = may_try_ ? ErrorCode::kNotReady : ErrorCode::kUnsupported,
                  .message = may_try_ ? "not looked for yet" : "not wanted (--memory=stub)"};
}

void MemorySource::kernel_is_ready() { next_attempt_ = Clock::now() + kFirstAttemptDelay; }

std::optional<MemorySource::Clock::time_point> MemorySource::first_attempt_at() const {
  return may_try_ && !tried_ ? std::optional(next_attempt_) : std::nullopt;
}

bool MemorySource::wants_attempt(bool at_once) const {
  const bool due = Clock::now() >= next_attempt_ || (at_once && !tried_);
  return may_try_ && !process_ && due;
}

void MemorySource::give_up(Error reason) {
  process_.reset();
  candidates_.clear();
  may_try_ = may_try_ && reason.code == ErrorCode::kNotReady;
  next_attempt_ = Clock::now() + kAttemptInterval;
  reason_ = std::move(reason);
}

Result<void> MemorySource::look_for_process(int socket) {
  tried_ = true;
  auto found = processes_behind(socket);
  if (!found) {
    give_up(found.error());
    return std::unexpected(std::move(found).error());
  }
  candidates_ = *std::move(found);
  return {};
}

void MemorySource::choose(gdb::Client& client) {
  gdb::StubMemory stub(client);
  auto chosen = ProcessMemory::choose(std::exchange(candidates_, {}), monitor_of(client), stub);
  if (!chosen) return give_up(chosen.error());
  process_ = *std::move(chosen);
  reason_.reset();
  checked_at_ = Clock::now();
}

void MemorySource::refresh(gdb::Client& client) {
  if (!process_) return;
  gdb::StubMemory stub(client);
  auto fresh = process_->refresh(monitor_of(client));
  if (fresh) fresh = process_->prove(stub);
  if (!fresh) give_up(fresh.error());
}

void MemorySource::check_mappings() {
  if (!process_ || Clock::now() < checked_at_ + kCheckInterval) return;
  checked_at_ = Clock::now();
  if (auto same = process_->still_mapped(); !same) {
    // It may be found again at its new place.
    Error reason = std::move(same).error();
    reason.code = ErrorCode::kNotReady;
    give_up(std::move(reason));
    next_attempt_ = {};
  }
}

}  // namespace guestscope
