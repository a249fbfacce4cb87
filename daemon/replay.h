// Replay: what snapshots of a kind read over and over is asked for at once.
//
// A decoder follows pointers, and every step down costs an exchange with the stub while the guest
// stands still. The next snapshot of the same kind mostly takes the same steps: ReplayPlan
// remembers which lines of physical memory were read, ReplayMemory reads them all in the first
// exchange and then answers from that, and asks for what is missing as if there were no plan.
// A plan has addresses and no bytes: one that no longer fits costs time, and never a wrong answer.
//
// Large reads are left out: they cost their bytes and not their exchanges.
//
// Borrow: ReplayMemory borrows the memory below and the plan. Threads: one.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "arch/phys_memory.h"

namespace guestscope {

class ReplayPlan {
 public:
  static constexpr std::size_t kLineBytes = 64;
  static constexpr std::size_t kMaxLines = 4096;  ///< 256 KB: about 3 ms of a stub's time
  /// A line is forgotten when so many snapshots in a row have not asked for it.
  static constexpr std::uint8_t kForgetAfter = 3;

  /// Numbers of lines (address / kLineBytes), in order.
  std::vector<std::uint64_t> lines() const;
  std::size_t size() const { return ages_.size(); }
  /// A snapshot has asked for these lines, in any order, repeated or not.
  void used(std::vector<std::uint64_t> lines);

 private:
  std::map<std::uint64_t, std::uint8_t> ages_;  // snapshots since it was asked for
};

class ReplayMemory final : public PhysMemory {
 public:
  static constexpr std::size_t kLineBytes = ReplayPlan::kLineBytes;

  ReplayMemory(PhysMemory& below, ReplayPlan& plan)
      : below_(below), plan_(plan), lines_(plan.lines()), bytes_(lines_.size() * kLineBytes) {}

  /// Reads what the plan has, in one batch. To be called once, before the first read().
  void prefetch();
  void read(std::span<PhysRead> reads) override;
  /// The guest runs: what was read before is not what is there.
  void forget() { lines_.clear(); }
  /// The snapshot is complete: tells the plan what it has asked for.
  void finish() { plan_.used(std::move(used_)); }

 private:
  bool answer(PhysRead& request) const;
  void note(std::span<const PhysRead> reads);

  PhysMemory& below_;
  ReplayPlan& plan_;
  std::vector<std::uint64_t> lines_;  // that are known, in order
  Bytes bytes_;                       // theirs, one after the other
  std::vector<std::uint64_t> used_;
};

/// The plans of the kinds of snapshots that were taken last.
class ReplayPlans {
 public:
  static constexpr std::size_t kMaxPlans = 64;

  /// The plan of that kind, a new one if need be; valid until the next call. What a kind's name has
  /// from the first '?' on are arguments: kinds that differ only there share a plan.
  ReplayPlan& of(const std::string& kind);
  void clear() { plans_.clear(); }

 private:
  struct Entry {
    ReplayPlan plan;
    std::uint64_t last_used = 0;
  };
  std::map<std::string, Entry> plans_;
  std::uint64_t uses_ = 0;
};

}  // namespace guestscope
