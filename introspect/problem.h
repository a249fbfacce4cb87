// Problem: something in an answer that could not be read. The rest of the answer stands.
#pragma once

#include <string>
#include <vector>

#include "arch/result.h"
#include "introspect/limits.h"

namespace guestscope {

struct Problem {
  std::string at;  ///< where in the answer: "maps[3].name"
  Error error;
};

/// A bounded list: a hostile guest cannot make an answer of nothing but problems.
class Problems {
 public:
  void add(std::string at, Error error) {
    if (list_.size() < kMaxProblems)
      list_.push_back({.at = std::move(at), .error = std::move(error)});
    else
      ++left_out_;
  }
  void add_all(const Problems& other) {
    for (const Problem& problem : other.list_) add(problem.at, problem.error);
    left_out_ += other.left_out_;
  }
  bool empty() const { return list_.empty(); }
  const std::vector<Problem>& list() const { return list_; }
  std::size_t left_out() const { return left_out_; }

 private:
  std::vector<Problem> list_;
  std::size_t left_out_ = 0;
};

}  // namespace guestscope
