// libFuzzer's entry; GUESTSCOPE_FUZZ_TARGET names the target of this executable.
#include <cstddef>
#include <cstdint>

#include "tests/fuzz/fuzz_targets.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  guestscope::fuzz::GUESTSCOPE_FUZZ_TARGET(std::as_bytes(std::span(data, size)));
  return 0;
}
