// MemorySource: from where a guest's memory is read: from the QEMU process, or through the stub.
//
// Every connection begins with the stub. Where the user's choice allows it, the process is sought
// once the kernel is ready (before that there is hardly a page that could prove anything), proven,
// and used from then on, until it fails, the guest reboots or the connection is lost. What failed
// for a reason that stays is not tried again before the next connection: each attempt stops the
// guest.
//
// Threads: the session's. reason() is what /status shows.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include "daemon/memory_mode.h"
#include "daemon/process_memory.h"
#include "gdbproto/client.h"

namespace guestscope {

class MemorySource {
 public:
  using Clock = std::chrono::steady_clock;

  explicit MemorySource(MemoryMode mode) : mode_(mode) { reset(); }

  /// A new connection, or another boot.
  void reset();
  /// The first attempt is due a moment later: whoever has waited for the kernel is answered first.
  void kernel_is_ready();
  /// Worth an attempt now.
  bool wants_attempt(bool at_once) const;
  /// When the first one is due; empty when it has been made. Further ones follow requests, so that
  /// a guest about which nobody asks is left alone.
  std::optional<Clock::time_point> first_attempt_at() const;
  /// The first half of one, for which the guest may run: who has the other end of that socket?
  Result<void> look_for_process(int socket);
  /// The second half, while the client holds the guest: which of them has its memory?
  void choose(gdb::Client& client);
  /// The RAM map is another one, or may be; the guest is held.
  void refresh(gdb::Client& client);
  /// Looks, now and then, whether the process has mapped anything else in place of the guest's
  /// memory.
  void check_mappings();
  /// The process can no longer be read.
  void give_up(Error reason);

  /// Null: through the stub.
  ProcessMemory* process() const { return process_.get(); }
  /// Why not from the process; empty when it is.
  const std::optional<Error>& reason() const { return reason_; }
  /// The user wants nothing but the process, and it is not there.
  bool is_missing() const { return mode_ == MemoryMode::kProcess && !process_; }

 private:
  MemoryMode mode_;
  std::vector<QemuProcess> candidates_;
  std::unique_ptr<ProcessMemory> process_;
  std::optional<Error> reason_;
  bool may_try_ = false;
  bool tried_ = false;
  Clock::time_point next_attempt_{};
  Clock::time_point checked_at_{};
};

}  // namespace guestscope
