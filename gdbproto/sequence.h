// Sequence: several exchanges as one, and the continue after them if it is wanted.
//
// With something to be done while the guest stands still, what comes last and the continue wait for
// the stop and for that to be done: the stub works at the other answers meanwhile. A guest that
// stood still before is not continued then.
//
// Borrows the parts. Threads: one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gdbproto/link.h"

namespace guestscope::gdb {

class Sequence final : public Exchange {
 public:
  enum class Then : std::uint8_t { kStay, kContinue };

  /// No part sends a continue.
  Sequence(std::vector<Exchange*> parts, Then then)
      : parts_(std::move(parts)), asked_(parts_.size()), continue_due_(then == Then::kContinue) {}
  /// `last` and the continue come after `once_stopped`.
  Sequence(std::vector<Exchange*> parts, std::function<void()> once_stopped, Exchange& last)
      : Sequence(std::move(parts), Then::kContinue) {
    once_stopped_ = std::move(once_stopped);
    last_ = &last;
  }

  Sent send_next(std::string& out) override {
    for (; sending_ < parts_.size(); ++sending_) {
      if (parts_[sending_]->send_next(out) == Sent::kNothing) continue;
      ++asked_[sending_];
      return Sent::kQuestion;
    }
    if (last_ != nullptr) return begin_last(out);
    if (!std::exchange(continue_due_, false)) return Sent::kNothing;
    append_packet(out, "c");
    return Sent::kContinue;
  }

  Result<bool> on_answer(std::string_view payload) override {
    answered_ = true;
    while (asked_[answering_] == 0) ++answering_;  // an answer comes to what was asked only
    GS_ASSIGN(const bool complete, parts_[answering_]->on_answer(payload));
    if (complete) --asked_[answering_];
    return complete;
  }

  void on_stopped() override {
    stopped_ = true;
    if (once_stopped_) once_stopped_();
  }

 private:
  Sent begin_last(std::string& out) {
    if (!stopped_) return answered_ ? Sent::kNothing : Sent::kLater;
    parts_.push_back(std::exchange(last_, nullptr));
    asked_.push_back(0);
    return send_next(out);
  }

  std::vector<Exchange*> parts_;
  std::vector<std::uint64_t> asked_;  // of each part, what is not answered yet
  std::size_t sending_ = 0;
  std::size_t answering_ = 0;
  bool continue_due_;
  std::function<void()> once_stopped_;
  Exchange* last_ = nullptr;  // not among the parts yet
  bool stopped_ = false;
  bool answered_ = false;
};

}  // namespace guestscope::gdb
