// ReadPlan: a batch of physical reads as an exchange of `m` packets.
//
// Sorted by address, reads that lie close together share packets, and long ones are split. The same
// walk over the sorted reads is made twice, by a cursor that makes packets and by one that takes
// answers: so nothing is kept per packet, and answers are decoded straight into the callers'
// buffers. Memory: one index per read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "arch/phys_memory.h"
#include "arch/ram_map.h"
#include "gdbproto/link.h"

namespace guestscope::gdb {

class ReadPlan final : public Exchange {
 public:
  /// Clears each read's error, or sets kNotRam. `gap`: how far apart reads may lie to be joined;
  /// the constructor for a retry takes the indices to read, and joins none.
  ReadPlan(std::span<PhysRead> reads, const RamMap& ram, std::uint64_t max_bytes,
           std::uint64_t gap);
  ReadPlan(std::span<PhysRead> reads, const RamMap& ram, std::uint64_t max_bytes,
           std::vector<std::size_t> only);

  bool empty() const { return order_.empty(); }
  /// What the stub reads, gaps included.
  std::uint64_t total_bytes() const { return total_bytes_; }

  /// To be called whenever the stub is at work. Borrowed.
  void set_work(const std::function<void()>& work) { work_ = &work; }

  Sent send_next(std::string& out) override;
  Result<bool> on_answer(std::string_view payload) override;
  void on_sent() override {
    if (work_ != nullptr) (*work_)();
  }

  /// Gives `error` to every read that has not been filled.
  void fail_unanswered(const Error& error);
  /// Reads that failed only because the stub refused a packet that they shared with others.
  std::vector<std::size_t> take_refused_together() { return std::move(refused_together_); }

 private:
  /// The bytes of one packet: [begin, end).
  struct Packet {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
  };
  /// Walks the sorted reads packet by packet. `next` is the first read that no packet so far
  /// touches; bytes up to `needed` of those before it are still to come, from `position` on.
  struct Cursor {
    std::size_t next = 0;
    std::uint64_t position = 0;
    std::uint64_t needed = 0;
  };

  bool advance(Cursor& cursor, Packet& packet) const;
  bool joins(const Packet& packet, const PhysRead& read) const;
  const PhysRead& sorted(std::size_t i) const { return reads_[order_[i]]; }
  bool fill(PhysRead& read, const Packet& packet, std::string_view digits) const;
  void refuse(std::size_t index, const Packet& packet, std::string_view payload, bool shared);

  std::span<PhysRead> reads_;
  const RamMap& ram_;
  std::uint64_t max_bytes_;
  std::uint64_t gap_;
  bool join_ = true;
  std::uint64_t total_bytes_ = 0;
  std::vector<std::size_t> order_;
  Cursor sender_;
  Cursor receiver_;
  std::vector<std::size_t> partial_;  ///< reads with bytes still to come in later packets
  std::vector<std::size_t> refused_together_;
  const std::function<void()>* work_ = nullptr;
};

}  // namespace guestscope::gdb
