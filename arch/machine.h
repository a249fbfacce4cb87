// Machine: the processors whose guests are understood.
#pragma once

#include <cstdint>
#include <string_view>

namespace guestscope {

enum class Machine : std::uint8_t { kX86_64, kAarch64, kOther };

/// As `uname -m` prints it: "x86_64", "aarch64"; "other".
std::string_view to_string(Machine machine);

}  // namespace guestscope
