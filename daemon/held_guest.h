// HeldGuest: the guest while it is stopped for one snapshot, and its memory meanwhile.
//
// begin() stops the guest, end() lets it run again; reads in between go to the stub in steps.
// Whenever the guest has been held for the pause budget it is let go for a while and stopped anew:
// the snapshot then spans several instants and says so. A guest that its owner has paused costs no
// pause and has no budget. After the time limit, or when the daemon stops, every further read fails
// with kTimeout at once, so that no guest can make a snapshot last for ever.
//
// Threads: the session's. Errors of the connection stay in the client: end() returns them.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>

#include "daemon/read_pace.h"
#include "daemon/snapshot.h"
#include "gdbproto/client.h"

namespace guestscope {

class HeldGuest final : public PhysMemory {
 public:
  using Clock = std::chrono::steady_clock;

  struct Limits {
    std::chrono::milliseconds budget;    ///< longest time held at once
    Clock::time_point deadline;          ///< for the whole snapshot
    const std::atomic<bool>& cancelled;  ///< the daemon stops
  };

  /// `pace`: of this stub, so far. `before_running` is called once, before the guest runs for the
  /// first time after begin().
  HeldGuest(gdb::Client& client, Limits limits, PauseTotals& totals, ReadPace& pace,
            std::function<void()> before_running);

  /// `since`: when attaching stopped the guest, if it did and it has not run since; else the epoch.
  Result<void> begin(Clock::time_point since);
  Result<void> end();
  void read(std::span<PhysRead> reads) override;

  /// Complete after end().
  const SnapshotMeta& meta() const { return meta_; }
  /// The snapshot was cut short by its time limit or by the daemon's end.
  bool expired() const { return expired_; }
  /// Something was asked for that the RAM map does not have: memory may have been plugged in.
  bool missed_ram() const { return missed_ram_; }

 private:
  Result<void> resume();
  Result<void> let_run();
  bool over_budget() const;
  bool out_of_time();

  gdb::Client& client_;
  Limits limits_;
  PauseTotals& totals_;
  std::function<void()> before_running_;
  ReadPace& pace_;
  SnapshotMeta meta_;
  gdb::Counters before_;
  Clock::time_point stopped_at_{};
  bool expired_ = false;
  bool missed_ram_ = false;
};

}  // namespace guestscope
