// Client: one attachment to QEMU's gdb stub; reads registers and physical memory, stops and
// resumes the guest, asks the monitor.
//
// Life: attach() leaves the guest stopped (the stub does that by itself) and the client ready to
// read; resume() lets it run again. From then on every piece of work is
//     stop();  …registers(), read_physical(), monitor()…;  resume();
// or, with the shortest pause and when it is known beforehand what to read, glance(). What needs a
// stopped guest is refused with kInvalidArgument between resume() and stop(), for a single byte
// sent then would stop the guest and be swallowed. The destructor detaches: it leaves the guest
// running unless its owner had paused it, and resets what QEMU would remember beyond the
// connection.
//
// Whose pause it is. The guest is *held* while we stopped it; resume() continues a held guest and
// nothing else. A guest that was not running at attach, or that its owner stops later (QMP `stop`),
// is the owner's: run_state() is kPaused, it can be read between stop() and resume(), and is not
// continued. Should the owner continue it meanwhile, the next exchange notices. (Two things
// cannot be seen: QMP `stop` while we hold the guest changes nothing in QEMU, and leaves no trace;
// one in the moment before QEMU takes our interrupt looks like the interrupt's own stop.)
//
// Threads: one owns it. Every call blocks at most for its deadline (Options). After a timeout, a
// lost connection or an answer that makes no sense (kTimeout, kUnreachable, kProtocol) the client
// is broken: every later call returns kUnreachable; attach anew. A refusal by the stub (kNotMapped,
// kUnsupported) breaks nothing.
//
// Source of truth: «GDB Remote Serial Protocol» in the gdb manual; QEMU's gdbstub.c (7.2) and
// gdbstub/ (8.0 on). gdbproto/README.md says where they differ.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "arch/phys_memory.h"
#include "arch/ram_map.h"
#include "arch/result.h"
#include "gdbproto/stub_address.h"
#include "gdbproto/transport.h"

namespace guestscope::gdb {

struct Options {
  /// For connecting, and for the first answer: a stub that serves another client accepts the
  /// connection and says nothing.
  std::chrono::milliseconds connect_timeout{3000};
  /// For each exchange; large reads get a second more for each 4 MiB asked for.
  std::chrono::milliseconds timeout{5000};
  /// For leaving, in the destructor.
  std::chrono::milliseconds detach_timeout{500};
  /// The caller's last client broke while it held the guest: a guest found stopped is then taken to
  /// be held by us, not by its owner.
  bool guest_was_held = false;
  /// A VM that waits for its first start (`-S`, «prelaunch») counts as held: resume() starts it.
  bool start_waiting = false;
  /// QEMU 8.1 and later do not tell whether attaching stopped the guest or it was paused already.
  /// True: a guest found plainly «paused» there counts as stopped by attaching.
  bool assume_running = true;
};

/// What the guest's owner wants it to do, whether or not we hold it just now.
enum class RunState : std::uint8_t { kRunning, kPaused };

/// A thread of the stub is a vCPU.
struct ThreadId {
  std::uint32_t pid = 0;  ///< 0 unless the stub speaks of processes (multiprocess)
  std::uint32_t tid = 0;  ///< vCPU index + 1 in QEMU

  bool operator==(const ThreadId&) const = default;
};

/// What is asked for at once: of each thread the registers `names`, and memory.
struct Look {
  std::span<const ThreadId> threads;
  std::span<const std::string_view> names;
  std::span<PhysRead> reads;
  /// For a glance(): called when the guest has stopped for it, while the stub works at the answers.
  /// The guest is not continued before it returns. No vCPU runs then; what devices of the host
  /// still write may not have come to rest.
  std::function<void()> once_stopped = {};
};
/// For each thread asked its registers' values, in the order asked.
using RegisterValues = std::vector<std::vector<std::uint64_t>>;

/// What the connection has cost so far. Only ever grows.
struct Counters {
  std::uint64_t packets_sent = 0;
  std::uint64_t packets_received = 0;
  std::uint64_t round_trips = 0;  ///< an exchange, however many packets, is one
  std::uint64_t bytes_sent = 0;
  std::uint64_t bytes_received = 0;
  std::uint64_t stops = 0;  ///< times that we stopped the guest
};

class Client {
 public:
  /// Connects and negotiates. kUnreachable, kTimeout: try again later. kUnsupported: a stub that is
  /// not QEMU's. kProtocol: not a gdb stub at all.
  static Result<std::unique_ptr<Client>> attach(const StubAddress& address,
                                                const Options& options = {});
  /// The same over a stream that is connected already; `name` is what errors call it.
  static Result<std::unique_ptr<Client>> attach_over(std::unique_ptr<Transport> transport,
                                                     std::string name, const Options& options = {});

  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  ~Client();

  /// The vCPUs, in the stub's order.
  std::span<const ThreadId> threads() const;
  /// From the target description: "i386:x86-64", "aarch64".
  std::string_view architecture() const;
  /// QEMU's version as `info version` says it: "7.2.22 (Debian …)".
  std::string_view qemu_version() const;
  const RamMap& ram() const;
  bool has_register(std::string_view name) const;

  /// Ensures that the guest is stopped and can be read: interrupts it, unless its owner has it
  /// paused. No effect when it is stopped already.
  Result<void> stop();
  /// stop(), registers() and read_physical() in one exchange.
  Result<RegisterValues> stop(const Look& look);
  /// The same, and resume(): the guest is interrupted, looked at and continued by one exchange, in
  /// one write if that is not longer than kWriteChunk. Refused with kInvalidArgument where
  /// can_glance() is false, and with kNotReady when its owner has paused the guest meanwhile.
  Result<RegisterValues> glance(const Look& look);
  /// As far as is known the guest runs, and it was us who continued it.
  bool can_glance() const;
  /// Ends what stop() or attach() began: continues the guest if we hold it. No effect while it
  /// runs.
  Result<void> resume();
  /// We stopped the guest and have not resumed it.
  bool held() const;
  /// Between stop() (or attach()) and resume(), whoever stopped the guest.
  bool stopped() const;
  RunState run_state() const;

  /// For each thread the values of `names`, in the order given, in one exchange. A name that the
  /// target description lacks is kUnsupported and named; so is a register wider than 64 bits, or
  /// one without a value.
  Result<RegisterValues> registers(std::span<const ThreadId> threads,
                                   std::span<const std::string_view> names);

  /// Reads RAM, all of `reads` in one exchange; each one's `error` is cleared or set. Reads outside
  /// ram() fail with kNotRam and are not sent. Neighbouring reads are joined. Memory needed beyond
  /// the caller's buffers is one index per read, none per byte.
  /// `work`: see PhysMemory::read_while().
  void read_physical(std::span<PhysRead> reads, const std::function<void()>& work = {});

  /// Runs a command of QEMU's human monitor: its text, with CRLF as LF.
  Result<std::string> monitor(std::string_view command);
  /// Asks for the RAM map again (memory was plugged in, the guest rebooted).
  Result<void> refresh_ram();

  /// For poll(): readable means that poll_idle() has something to look at.
  int fd() const;
  /// Looks, without blocking, at what came unasked: the owner's stop, or the end of the connection
  /// (kUnreachable). Never sends a byte to a running guest but the one acknowledgement that is due.
  Result<void> poll_idle();

  /// Leaves now instead of in the destructor; the client is broken afterwards.
  Result<void> detach();

  Counters counters() const;
  /// Since when the guest has stood still that we stopped last: an estimate, by when the stub
  /// answered, never before we asked.
  Clock::time_point stopped_since() const;
  /// When the last answer came: before a continue, the end of the stop.
  Clock::time_point last_answer_at() const;

 private:
  class Impl;
  explicit Client(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace guestscope::gdb
