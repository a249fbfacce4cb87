// HeldGuest: the guest while it is stopped for one snapshot, and its memory meanwhile.
//
// begin() stops the guest, end() lets it run again; reads in between go to the stub in steps, and
// whenever the guest has been held for the pause budget, it is let go for as long as it was held
// and stopped anew: the snapshot then spans several instants and says so. A guest that its owner
// has paused costs no pause and has no budget.
//
// Threads: the session's. Errors of the connection stay in the client: end() returns them.
#pragma once

#include <chrono>

#include "daemon/snapshot.h"
#include "gdbproto/client.h"

namespace guestscope {

class HeldGuest final : public PhysMemory {
 public:
  using Clock = std::chrono::steady_clock;

  HeldGuest(gdb::Client& client, std::chrono::milliseconds budget, PauseTotals& totals);

  /// `since`: when attaching stopped the guest, if it did and it has not run since; else the epoch.
  Result<void> begin(Clock::time_point since);
  Result<void> end();
  void read(std::span<PhysRead> reads) override;

  /// Complete after end().
  const SnapshotMeta& meta() const { return meta_; }

 private:
  Result<void> resume();
  Result<void> let_run();
  bool over_budget() const;

  gdb::Client& client_;
  std::chrono::milliseconds budget_;
  PauseTotals& totals_;
  SnapshotMeta meta_;
  gdb::Counters before_;
  Clock::time_point stopped_at_{};
};

}  // namespace guestscope
