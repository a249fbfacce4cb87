// Fuzz targets: functions that take any bytes at all, and abort when something that must hold does
// not. They are run by libFuzzer (one executable each, GUESTSCOPE_FUZZ=ON) and by fuzz_smoke, which
// every build has.
//
// seeds(): inputs that get far, made in code.
// Threads: none; libFuzzer calls from one.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>
#include <vector>

#include "arch/bytes.h"

namespace guestscope::fuzz {

struct Target {
  std::string_view name;
  void (*run)(ByteSpan input);
  std::vector<Bytes> (*seeds)();
  int mutations;  ///< how many the smoke run makes
};

std::span<const Target> all_targets();

// One pair in each *_target.cc.
void run_packets(ByteSpan input);
std::vector<Bytes> packet_seeds();
void run_description(ByteSpan input);
std::vector<Bytes> description_seeds();
void run_mtree(ByteSpan input);
std::vector<Bytes> mtree_seeds();
void run_btf(ByteSpan input);
std::vector<Bytes> btf_seeds();
void run_dwarf(ByteSpan input);
std::vector<Bytes> dwarf_seeds();
void run_kallsyms(ByteSpan input);
std::vector<Bytes> kallsyms_seeds();
void run_kernel_file(ByteSpan input);
std::vector<Bytes> kernel_file_seeds();
void run_request(ByteSpan input);
std::vector<Bytes> request_seeds();
void run_key(ByteSpan input);
std::vector<Bytes> key_seeds();

inline std::string_view as_text(ByteSpan bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
inline Bytes from_text(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

/// Not assert(): the fuzzers are built with NDEBUG.
inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

}  // namespace guestscope::fuzz
