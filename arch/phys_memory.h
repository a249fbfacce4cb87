// PhysMemory: the one interface under all reads of guest memory.
//
// A caller hands over everything it can name now, as one batch, because the price of a read is the
// round trip and not the bytes: an implementation pipelines a batch. Each read succeeds or fails on
// its own. An implementation reads RAM only: a physical address outside RAM fails with kNotRam and
// is never sent to the guest, since reading a device has side effects.
//
// Threads: as the implementation says; none may be shared unless it says so. May block. Nothing is
// retried above it.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>

#include "arch/address.h"
#include "arch/bytes.h"
#include "arch/result.h"

namespace guestscope {

struct PhysRead {
  GuestPhys address;
  std::span<std::byte> into;     ///< filled completely on success, unspecified on failure
  std::optional<Error> error{};  ///< set by read() when this read failed
};

class PhysMemory {
 public:
  PhysMemory() = default;
  PhysMemory(const PhysMemory&) = delete;
  PhysMemory& operator=(const PhysMemory&) = delete;
  virtual ~PhysMemory() = default;

  /// Performs every read of the batch, in any order; clears or sets each one's `error`.
  virtual void read(std::span<PhysRead> reads) = 0;
  /// The same, with something to be done: `work` is called once before it returns, where somebody
  /// else works at the reads (a stub) while they do. It must not read from this memory, nor look at
  /// what is being read.
  virtual void read_while(std::span<PhysRead> reads, const std::function<void()>& work) {
    read(reads);
    work();
  }

  /// One range, as a batch of one.
  Result<void> read_one(GuestPhys address, std::span<std::byte> into) {
    PhysRead request{.address = address, .into = into};
    read({&request, 1});
    if (request.error) return std::unexpected(std::move(*request.error));
    return {};
  }
};

}  // namespace guestscope
