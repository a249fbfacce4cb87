// PeerSocket: the other end of a connected socket, as this machine's kernel knows it.
//
// TCP: the row of /proc/net/tcp and tcp6 that has our two addresses swapped. Only a socket of this
// machine, in our network namespace, has one, so no list of local addresses is needed. An IPv4
// connection may end in an IPv6 socket that listens on both: addresses are compared as IPv6, IPv4
// ones mapped into it.
// Unix: the peer's inode from the kernel's socket diagnosis (sock_diag, UNIX_DIAG_PEER). The pid of
// SO_PEERCRED is who called listen(), which need not be who has the connection: management software
// listens first and hands the socket to QEMU.
//
// Threads: any. Does not block.
// Source of truth: proc(5), sock_diag(7), unix(7).
#pragma once

#include <sys/socket.h>
#include <sys/types.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "arch/result.h"

namespace guestscope {

/// An address and a port; IPv4 as ::ffff:a.b.c.d.
struct Endpoint {
  std::array<std::uint8_t, 16> address{};
  std::uint16_t port = 0;
  bool operator==(const Endpoint&) const = default;
};

/// Empty for anything but IPv4 and IPv6.
std::optional<Endpoint> endpoint_of(const sockaddr_storage& address);

/// A line of /proc/net/tcp or tcp6.
struct TcpRow {
  Endpoint local;
  Endpoint remote;
  unsigned state = 0;
  uid_t uid = 0;
  std::uint64_t inode = 0;
};
/// Empty for the heading and for every line that is not understood.
std::optional<TcpRow> parse_tcp_row(std::string_view line);

struct PeerSocket {
  std::optional<std::uint64_t> inode{};  ///< as /proc/PID/fd names it
  std::optional<pid_t> listener{};  ///< Unix: who called listen(), where we can see that process
  uid_t uid = 0;                    ///< whose it is
  std::string name;                 ///< "127.0.0.1:1234", "a Unix socket"
};

/// kNotReady: nobody has accepted the connection yet. kUnsupported: the other end is not on this
/// machine, or in a network namespace of its own.
Result<PeerSocket> peer_of(int socket);

}  // namespace guestscope
