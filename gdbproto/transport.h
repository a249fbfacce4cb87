// Transport: the byte stream to a stub, and the socket that is one.
//
// Never blocks but in wait(), and there not past its deadline: QEMU answers with blocking writes,
// so a writer that does not read meanwhile would wait for a peer that waits for it. The interface
// exists so that tests can play the stub, break the stream, and replay recorded sessions.
//
// Threads: one at a time. A lost connection is kUnreachable, and stays so.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "arch/result.h"
#include "gdbproto/stub_address.h"

namespace guestscope::gdb {

using Clock = std::chrono::steady_clock;
using Deadline = Clock::time_point;

class Transport {
 public:
  Transport() = default;
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;
  virtual ~Transport() = default;

  /// Takes what it can of `bytes` now; 0 when it can take none yet.
  virtual Result<std::size_t> write_some(std::string_view bytes) = 0;
  /// Puts what is there into `into` (not empty); 0 when nothing is there yet. The peer's close is
  /// kUnreachable.
  virtual Result<std::size_t> read_some(std::span<char> into) = 0;
  /// When the last bytes of the last read_some() came here, which may be long before there was a
  /// processor to read them; empty when nothing tells.
  virtual std::optional<Clock::time_point> arrived() const { return std::nullopt; }
  /// Until there is something to read or, if `or_writable`, room to write; kTimeout at `until`.
  /// `awake`: it is worth a processor not to be late.
  virtual Result<void> wait(bool or_writable, bool awake, Deadline until) = 0;
  /// For poll() by the owner; -1 when there is none (a fake).
  virtual int fd() const = 0;
};

/// Connects a non-blocking socket: TCP (with TCP_NODELAY, every address of the host tried in turn)
/// or Unix. kUnreachable when refused, kTimeout when nobody answers in time.
Result<std::unique_ptr<Transport>> connect_to(const StubAddress& address, Deadline until);

/// Wraps a connected stream socket and owns it.
std::unique_ptr<Transport> adopt_socket(int fd);

}  // namespace guestscope::gdb
