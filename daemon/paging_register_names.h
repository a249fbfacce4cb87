// PagingRegisterNames: the registers of a processor that decide paging, as far as a stub has them.
//
// Threads: none; a plain value.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "arch/processor.h"
#include "gdbproto/client.h"

namespace guestscope {

class PagingRegisterNames {
 public:
  PagingRegisterNames() = default;
  /// The processor is one that find_processor() knows.
  PagingRegisterNames(Machine machine, const gdb::Client& client) : machine_(machine) {
    const auto needs = find_processor(machine)->registers();
    for (std::size_t i = 0; i < needs.size(); ++i) {
      if (needs[i].optional && !client.has_register(needs[i].name)) continue;
      names_.push_back(needs[i].name);
      places_.push_back(i);
    }
  }

  std::span<const std::string_view> names() const { return names_; }
  /// `values`: of names(), in order.
  PagingRegisters as_registers(std::span<const std::uint64_t> values) const {
    PagingRegisters registers{.machine = machine_};
    for (std::size_t i = 0; i < values.size(); ++i) registers.values[places_[i]] = values[i];
    return registers;
  }

 private:
  Machine machine_ = Machine::kOther;
  std::vector<std::string_view> names_;
  std::vector<std::size_t> places_;  // of each name in PagingRegisters::values
};

}  // namespace guestscope
