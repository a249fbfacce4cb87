// Snapshot: what was read from a guest during one stop, and what the stop cost it.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace guestscope {

/// Whether the guest is stopped while it is read.
enum class Consistency : std::uint8_t {
  kPaused,  ///< so that all of an answer is of one instant
  kLive,    ///< never; needs memory that can be read while the guest runs
};

struct SnapshotMeta {
  std::chrono::system_clock::time_point taken_at{};
  std::chrono::microseconds
      paused{};  ///< the guest was held for so long, over all stops; 0 if its owner had paused it
  bool consistent = true;     ///< all of it was read within one stop
  bool from_process = false;  ///< not through the stub
  std::uint64_t stops = 0;
  std::uint64_t round_trips = 0;
  std::uint64_t packets = 0;
};

template <typename T>
struct Snapshot {
  T value;
  SnapshotMeta meta;
};

}  // namespace guestscope
