// GeneralRegisters: where in the answer to `g` a register is.
//
// `g` gives the first registers of the description by number, each as wide as described. How many
// these are is only told by the answer's length, and in some modes a vCPU gives registers narrower
// than described (QEMU's control registers outside 64-bit mode), which moves those behind them. So
// nothing is taken from an answer before one of the same length has been seen to agree with `p`.
//
// Threads: none; a plain value.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>
#include <vector>

#include "gdbproto/target_description.h"

namespace guestscope::gdb {

class GeneralRegisters {
 public:
  explicit GeneralRegisters(const TargetDescription& description);

  /// The digits of a register in an answer; empty when an answer of that length does not have it,
  /// or ends within a register.
  std::string_view digits_of(const Register& reg, std::string_view answer) const;

  /// An answer of so many digits has been seen to agree.
  void trust(std::size_t digits) { trusted_ = digits; }
  void distrust() { trusted_.reset(); }
  /// An answer is trusted, and has all of these.
  bool has(const std::vector<const Register*>& wanted) const;
  bool is_trusted(std::string_view answer) const { return trusted_ == answer.size(); }

 private:
  std::vector<std::size_t> ends_;  // of register 0, 1, …: in digits; as far as numbers are unbroken
  std::optional<std::size_t> trusted_;
};

}  // namespace guestscope::gdb
