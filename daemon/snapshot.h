// Snapshot: what was read from a guest during one stop, and what the stop cost it.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace guestscope {

struct SnapshotMeta {
  std::chrono::system_clock::time_point taken_at{};
  std::chrono::microseconds
      paused{};  ///< the guest was held for so long, over all stops; 0 if its owner had paused it
  bool consistent = true;  ///< all of it was read within one stop
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
