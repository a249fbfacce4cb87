// QemuProcess: a process of this machine that may be the QEMU behind a stub, held so that no other
// can be taken for it.
//
// A pid is a number that the kernel gives to somebody else once its process has gone. So two things
// are opened by it, its folder in /proc first and a pidfd after. What is then read through the
// folder comes from the process that the folder was opened of, or fails, and only a process that is
// still alive answers: folder and pidfd are of the same one, and stay so.
//
// Threads: one at a time. Does not block. The process needs no permission to be named, but to be
// looked at: errors say which is missing, and what to do.
// Source of truth: proc(5), pidfd_open(2), ptrace(2) («Ptrace access mode checking»).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "arch/result.h"
#include "daemon/file_descriptor.h"

namespace guestscope {

class QemuProcess {
 public:
  /// kNotFound: there is no such process.
  static Result<QemuProcess> open(pid_t pid);

  pid_t pid() const { return pid_; }
  /// In clock ticks since the machine started.
  std::uint64_t started() const { return started_; }
  /// "qemu-system-x86 (pid 4711)".
  std::string to_string() const { return fmt::format("{} (pid {})", name_, pid_); }
  /// It has not ended, not even as a zombie.
  bool alive() const;
  /// A file of its /proc folder, for reading. kUnreachable: it has ended.
  Result<FileDescriptor> open_file(const char* name) const;
  /// All of one of its text files, which the kernel makes as it is read.
  Result<std::string> read_file(const char* name) const;
  /// It has the socket of that inode open.
  Result<bool> has_socket(std::uint64_t inode) const;
  /// What to tell the user when the kernel refuses (errno `reason`) to let us look at it.
  Error not_permitted(int reason) const;

 private:
  QemuProcess(pid_t pid, FileDescriptor folder, FileDescriptor pidfd)
      : pid_(pid), folder_(std::move(folder)), pidfd_(std::move(pidfd)) {}

  pid_t pid_;
  FileDescriptor folder_;
  FileDescriptor pidfd_;
  std::uint64_t started_ = 0;
  std::string name_;
};

/// Who has the other end of a stub's connection, oldest first: a parent comes before the children
/// that inherited the socket. Not necessarily QEMU: a proxy may stand between, and only its memory
/// tells. Errors: those of peer_of(); kUnsupported: in a pid namespace that we do not see; kSystem:
/// processes that might be it may not be looked at.
Result<std::vector<QemuProcess>> processes_behind(int socket);

}  // namespace guestscope
