// StubAddress: where a gdb stub listens, as a user writes it.
//
// Accepted: "HOST:PORT", "tcp:HOST:PORT" (QEMU's spelling), "[::1]:PORT", ":PORT" and "tcp::PORT"
// (this machine), "unix:PATH". A plain value; parsing neither resolves nor connects.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "arch/result.h"

namespace guestscope::gdb {

struct StubAddress {
  enum class Kind : std::uint8_t { kTcp, kUnix };

  Kind kind = Kind::kTcp;
  std::string host{};      ///< name or numeric address, without brackets (kTcp)
  std::uint16_t port = 0;  ///< kTcp
  std::string path{};      ///< kUnix

  /// kInvalidArgument says what is wrong with `text` and what is accepted.
  static Result<StubAddress> parse(std::string_view text);

  /// As parse() reads it: "localhost:1234", "[::1]:1234", "unix:/run/vm.gdb".
  std::string to_string() const;

  bool operator==(const StubAddress&) const = default;
};

}  // namespace guestscope::gdb
