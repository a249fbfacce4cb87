#include "gdbproto/general_registers.h"

#include <algorithm>

namespace guestscope::gdb {

GeneralRegisters::GeneralRegisters(const TargetDescription& description) {
  std::vector<Register> sorted = description.registers();
  std::ranges::stable_sort(sorted, {}, &Register::number);
  std::size_t end = 0;
  for (const Register& reg : sorted) {
    if (reg.number != ends_.size() || reg.bits % 8 != 0) break;
    end += reg.bits / 4;
    ends_.push_back(end);
  }
}

std::string_view GeneralRegisters::digits_of(const Register& reg, std::string_view answer) const {
  if (reg.number >= ends_.size() || ends_[reg.number] > answer.size() ||
      !std::ranges::binary_search(ends_, answer.size()))
    return {};
  const std::size_t begin = ends_[reg.number] - reg.bits / 4;
  return answer.substr(begin, reg.bits / 4);
}

bool GeneralRegisters::has(const std::vector<const Register*>& wanted) const {
  return trusted_ && std::ranges::all_of(wanted, [&](const Register* reg) {
           return reg->number < ends_.size() && ends_[reg->number] <= *trusted_;
         });
}

}  // namespace guestscope::gdb
