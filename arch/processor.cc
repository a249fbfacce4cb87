#include "arch/processor.h"

#include "arch/aarch64.h"
#include "arch/x86_64.h"

namespace guestscope {

std::string_view to_string(Machine machine) {
  switch (machine) {
    case Machine::kX86_64: return "x86_64";
    case Machine::kAarch64: return "aarch64";
    case Machine::kOther: break;
  }
  return "other";
}

const Processor* find_processor(Machine machine) {
  switch (machine) {
    case Machine::kX86_64: return &x86_64::processor();
    case Machine::kAarch64: return &aarch64::processor();
    case Machine::kOther: break;
  }
  return nullptr;
}

Machine machine_of_architecture(std::string_view gdb_name) {
  if (gdb_name == "i386:x86-64") return Machine::kX86_64;
  return gdb_name == "aarch64" ? Machine::kAarch64 : Machine::kOther;
}

}  // namespace guestscope
