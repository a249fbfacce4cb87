// Sequence: several exchanges as one, and the continue after them if it is wanted.
//
// Borrows the parts. Threads: one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "gdbproto/link.h"

namespace guestscope::gdb {

class Sequence final : public Exchange {
 public:
  enum class Then : std::uint8_t { kStay, kContinue };

  /// No part sends a continue.
  Sequence(std::vector<Exchange*> parts, Then then)
      : parts_(std::move(parts)), asked_(parts_.size()), continue_due_(then == Then::kContinue) {}

  Sent send_next(std::string& out) override {
    for (; sending_ < parts_.size(); ++sending_) {
      if (parts_[sending_]->send_next(out) == Sent::kNothing) continue;
      ++asked_[sending_];
      return Sent::kQuestion;
    }
    if (!std::exchange(continue_due_, false)) return Sent::kNothing;
    append_packet(out, "c");
    return Sent::kContinue;
  }

  Result<bool> on_answer(std::string_view payload) override {
    while (asked_[answering_] == 0) ++answering_;  // an answer comes to what was asked only
    GS_ASSIGN(const bool complete, parts_[answering_]->on_answer(payload));
    if (complete) --asked_[answering_];
    return complete;
  }

 private:
  std::vector<Exchange*> parts_;
  std::vector<std::uint64_t> asked_;  // of each part, what is not answered yet
  std::size_t sending_ = 0;
  std::size_t answering_ = 0;
  bool continue_due_;
};

}  // namespace guestscope::gdb
