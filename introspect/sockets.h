// Sockets: facts of many `struct sock` at once, for whatever points to them (maps of sockets, the
// owners of socket storage, links).
//
// Facts, in this order; what a kind of socket does not have is left out:
//   family               "inet", "inet6", "unix", "xdp", …; "family_77" for an unknown one
//   type                 "stream", "dgram", "raw", "seqpacket", …
//   protocol             "tcp", "udp", …; "protocol_200"; left out when it is 0
//   state                "established", "listen", "close", … (as ss shows TCP's, in lower case)
//   source_address, source_port, destination_address, destination_port    inet and inet6
//   path                 unix: its file, or "@name" when that is abstract
//   ifindex              the device that it is bound to
//   cookie               as SO_COOKIE gives it; the kernel makes one when first asked
//   inode                that of its file, as /proc/net/tcp and /proc/PID/fd show it
//   netns                inode number of its network namespace
//
// One answer for each pointer, in the same order; an error for a null pointer, for what could not
// be read or is no socket, and for every one of them when the kernel's types lack the structure.
// A single fact that could not be read is null, and `problems` says why. Four exchanges, however
// many there are. Threads: the one that owns the memory. Source of truth: include/net/sock.h,
// include/net/af_unix.h, include/net/tcp_states.h.
#pragma once

#include <span>
#include <vector>

#include "introspect/facts.h"
#include "introspect/kernel_memory.h"
#include "introspect/layouts.h"
#include "introspect/problem.h"

namespace guestscope {

/// `pointers`: to struct sock (full sockets: no request or time-wait ones).
std::vector<Result<Facts>> describe_sockets(KernelMemory& memory, Layouts& layouts,
                                            std::span<const GuestVirt> pointers,
                                            Problems& problems);

}  // namespace guestscope
