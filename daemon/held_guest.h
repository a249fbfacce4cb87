// HeldGuest: the guest while a snapshot of it is taken, and its memory meanwhile. Two ways:
//
// - begin() stops the guest, end() lets it run again; reads in between go to the stub in steps.
//   Whenever the guest has been held for the pause budget it is let go for a while and stopped
//   anew: the snapshot then spans several instants and says so.
// - glance() stops it just for what is asked for. Whatever is read afterwards costs a glance of its
//   own and is of a later instant: mixed() tells, and the snapshot has to be taken again.
//
// - begin_live() does not stop it at all: memory is read from QEMU's process while it changes.
//
// Where the process can be read (MemorySource), memory comes from there in the other cases too, and
// what it lacks through the stub. A guest that its owner has paused costs no pause and has no
// budget. After the time limit, or when the daemon stops, every further read fails with kTimeout at
// once, so that no guest can make a snapshot last for ever.
//
// Threads: the session's. Errors of the connection stay in the client: end() returns them.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <optional>

#include "daemon/memory_source.h"
#include "daemon/pause_totals.h"
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

  /// `pace`: of this stub, so far. `before_running` is called whenever the guest is about to run.
  HeldGuest(gdb::Client& client, MemorySource& source, Limits limits, PauseTotals& totals,
            ReadPace& pace, std::function<void()> before_running);

  /// `since`: when attaching stopped the guest, if it did and it has not run since; else the epoch.
  /// What is asked for at once must fit the budget: see fits().
  Result<gdb::RegisterValues> begin(Clock::time_point since, const gdb::Look& look);
  /// kNotReady: its owner has paused it meanwhile, it is to be taken the other way.
  Result<gdb::RegisterValues> glance(const gdb::Look& look);
  void begin_live();
  Result<void> end();
  /// Of any vCPUs, at any time.
  Result<gdb::RegisterValues> registers(std::span<const gdb::ThreadId> threads,
                                        std::span<const std::string_view> names);
  void read(std::span<PhysRead> reads) override {
    read_while(reads, [] {});
  }
  void read_while(std::span<PhysRead> reads, const std::function<void()>& work) override;

  /// Whether it can be asked for without another look at the clock.
  bool fits(std::span<const PhysRead> reads) const { return pace_.fits_budget(reads); }
  /// Something was read since the last glance().
  bool mixed() const { return mixed_; }
  /// Complete after end().
  const SnapshotMeta& meta() const { return meta_; }
  /// The snapshot was cut short by its time limit or by the daemon's end.
  bool expired() const { return expired_; }
  /// Something was asked for that the RAM map does not have: memory may have been plugged in.
  bool missed_ram() const { return missed_ram_; }

 private:
  Result<void> resume();
  Result<gdb::RegisterValues> glance_counted(const gdb::Look& look);
  bool take_copied(ProcessMemory& process, bool copied);
  Clock::time_point stopped_at() const;
  void count_pause(Clock::time_point until);
  Result<void> let_run();
  using Work = std::function<void()>;
  void read_in_steps(std::span<PhysRead> reads, const Work& work);
  void read_now(std::span<PhysRead> reads, const Work& work);
  bool read_from_process(std::span<PhysRead> reads);
  void read_rest(std::span<PhysRead> reads);
  void read_from_stub(std::span<PhysRead> reads, const Work& work);
  bool over_budget() const;
  bool out_of_time();

  gdb::Client& client_;
  MemorySource& source_;
  Limits limits_;
  PauseTotals& totals_;
  std::function<void()> before_running_;
  ReadPace& pace_;
  SnapshotMeta meta_;
  gdb::Counters before_;
  Clock::time_point attached_at_ = Clock::now();  // if that is what stopped it
  std::optional<std::uint64_t> stops_;            // once it is held
  bool live_ = false;
  bool mixed_ = false;
  int late_reads_ = 0;        // since the last glance()
  Clock::duration worked_{};  // during the last step of reading
  bool expired_ = false;
  bool missed_ram_ = false;
};

}  // namespace guestscope
