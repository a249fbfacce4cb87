// Replay: what snapshots of a kind read over and over is asked for at once.
//
// A decoder follows pointers, and every step down costs an exchange with the stub while the guest
// stands still. The next snapshot of the same kind mostly takes the same steps: ReplayPlan
// remembers which lines of physical memory were read, ReplayMemory has them read all together, then
// answers from that, and asks for what is missing as if there were no plan.
// A plan has addresses and no bytes: one that no longer fits costs time, and never a wrong answer.
//
// Large reads are left out: they cost their bytes and not their exchanges.
//
// Borrow: ReplayMemory borrows the memory below and the plan. Threads: one.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "arch/phys_memory.h"

namespace guestscope {

class ReplayPlan {
 public:
  static constexpr std::size_t kLineBytes = 64;
  static constexpr std::size_t kMaxLines = 16384;  ///< 1 MB: about 10 ms of a stub's time
  /// A line is forgotten when so many snapshots in a row have not asked for it. A task that runs
  /// every now and then costs its lines so often; to miss it costs a snapshot.
  static constexpr std::uint8_t kForgetAfter = 8;

  /// What a snapshot has asked for.
  struct Use {
    std::vector<std::uint64_t> lines;  ///< in any order, repeated or not
    bool all_noted = true;             ///< nothing of it was left out
    bool missed = false;               ///< something was not in the plan
  };

  ReplayPlan() = default;
  /// Foresees what the other one does, until it has been used itself.
  static ReplayPlan beginning_with(const ReplayPlan& other);

  /// Numbers of lines (address / kLineBytes), in order.
  std::vector<std::uint64_t> lines() const;
  std::size_t size() const { return lines_.size(); }
  void used(Use use);
  /// Everything that the last snapshot asked for is in the plan now.
  bool complete() const { return complete_; }
  /// The next snapshot will, by experience, ask for nothing that is not in the plan.
  bool foresees() const { return complete_ && credit_ > 0; }

 private:
  static constexpr int kMaxCredit = 3;

  struct Line {
    std::uint64_t number = 0;
    std::uint8_t age = 0;  // snapshots since it was asked for
  };

  std::vector<Line> lines_;  // in order
  int credit_ = 0;           // hits less misses, of late
  bool complete_ = false;
  bool used_before_ = false;
};

class ReplayMemory final : public PhysMemory {
 public:
  static constexpr std::size_t kLineBytes = ReplayPlan::kLineBytes;

  ReplayMemory(PhysMemory& below, ReplayPlan& plan)
      : below_(below), plan_(plan), lines_(plan.lines()), bytes_(lines_.size() * kLineBytes) {}

  /// What the plan has, to be read by the caller before the first read(), and taken() then.
  std::vector<PhysRead> wanted();
  void taken(std::span<const PhysRead> reads);
  void read(std::span<PhysRead> reads) override {
    read_while(reads, [] {});
  }
  void read_while(std::span<PhysRead> reads, const std::function<void()>& work) override;
  /// From now on, what the plan lacks fails with kNotReady.
  void ask_no_more() { asks_ = false; }
  /// Something was asked for that the plan lacks.
  bool missed() const { return use_.missed; }
  /// The guest runs: what was read before is not what is there.
  void forget() { lines_.clear(); }
  /// The snapshot is complete: tells the plan what it has asked for. `missed`: it was in vain for
  /// another reason than what read() knows of.
  void finish(bool missed = false) {
    use_.missed = use_.missed || missed;
    plan_.used(std::move(use_));
  }

 private:
  bool answer(PhysRead& request) const;
  void note(std::span<const PhysRead> reads);

  PhysMemory& below_;
  ReplayPlan& plan_;
  std::vector<std::uint64_t> lines_;  // that are known, in order
  Bytes bytes_;                       // theirs, one after the other
  ReplayPlan::Use use_;
  bool asks_ = true;
};

/// The plans of the kinds of snapshots that were taken last.
class ReplayPlans {
 public:
  static constexpr std::size_t kMaxPlans = 64;

  /// The plan of that kind, a new one if need be, which begins with what every kind reads; valid
  /// until the next call. What a kind's name has from the first '?' on are arguments: kinds that
  /// differ only there share a plan.
  ReplayPlan& of(const std::string& kind);
  /// The kind that does nothing else than what all kinds do.
  static constexpr std::string_view kBase = "attempt";
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
