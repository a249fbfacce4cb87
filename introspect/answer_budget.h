// AnswerBudget: how much one answer may still hold of what a guest can make long: sets of CPUs,
// paths of groups, names of flags. Each has its own limit, but there can be one for each of many
// tasks.
//
// What does not fit any more is left out, and so is all that would come after it; report() says so
// once. Plain value; threads: one.
#pragma once

#include "introspect/facts.h"
#include "introspect/problem.h"

namespace guestscope {

class AnswerBudget {
 public:
  explicit AnswerBudget(std::size_t bytes = kMaxAnswerTextBytes) : left_(bytes) {}

  bool spent() const { return spent_; }
  /// False: there is no room for so much, nor will there be for anything else.
  bool take(std::size_t bytes) {
    spent_ = spent_ || bytes > left_;
    if (!spent_) left_ -= bytes;
    return !spent_;
  }
  /// The list, or null when there is no room for it.
  FactValue list(FactList values) {
    std::size_t bytes = 0;
    for (const FactValue& value : values) {
      const auto* text = std::get_if<std::string>(&value.get());
      bytes += sizeof(FactValue) + (text == nullptr ? 0 : text->size());
    }
    return take(bytes) ? FactValue(std::move(values)) : FactValue();
  }
  /// A problem when something has been left out, and none the next time.
  void report(std::string at, Problems& problems) {
    if (!spent_ || std::exchange(reported_, true)) return;
    problems.add(std::move(at), {.code = ErrorCode::kUnsupported,
                                 .message = "sets of CPUs, groups or flags are left out: too many "
                                            "for one answer",
                                 .path = {},
                                 .address = {}});
  }

 private:
  std::size_t left_;
  bool spent_ = false;
  bool reported_ = false;
};

}  // namespace guestscope
