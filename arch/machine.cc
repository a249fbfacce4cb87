#include "arch/machine.h"

namespace guestscope {

std::string_view to_string(Machine machine) {
  switch (machine) {
    case Machine::kX86_64: return "x86_64";
    case Machine::kAarch64: return "aarch64";
    case Machine::kOther: break;
  }
  return "other";
}

}  // namespace guestscope
