// QemuModel: QEMU's gdb stub as a state machine of bytes, with the traps of the real one.
//
// 7.2: attaching a running guest sends an unasked stop reply; an unacknowledged packet makes it
// drop every byte but `$` and `+`; any other byte stops a running guest and is swallowed. With
// `replies_on_demand` (8.1 and later) a stop reply is sent only for a 0x03 that stopped the guest,
// or after a continue. `continue` has no answer. Records what it was told, so that tests can count.
//
// ModelTransport is a Transport straight into a model: no threads, no clock, no waiting.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gdbproto/packet.h"
#include "gdbproto/transport.h"

namespace guestscope::gdb::testing {

class QemuModel {
 public:
  // The machine.
  bool running = true;
  bool is_qemu = true;
  bool multiprocess = false;
  bool physical = false;
  bool offers_no_ack = false;
  bool replies_on_demand = false;
  unsigned general = 0;  ///< `g` gives the registers of so many numbers
  bool lags = false;  ///< KVM: `p` gives zeros until `g` has asked the kernel since the last stop
  std::string packet_size = "1000";
  std::string version = "7.2.22 (model)";
  std::string status = "paused";
  unsigned cpus = 2;
  std::map<std::string, std::string> documents;
  std::string mtree;
  std::map<std::string, std::string> registers;  ///< "thread/number" -> digits
  std::set<std::uint64_t> refused_pages;         ///< m of these pages gets E14
  /// What is in memory; without it, memory_at().
  std::function<void(std::uint64_t address, std::span<std::byte> into)> guest_memory;
  /// Sees every packet; replaces its answer when it gives one.
  std::function<const char*(const std::string&)> override_answer;

  // What happened.
  std::vector<std::string> packets;
  int swallowed = 0;  ///< bytes other than 0x03 that stopped the guest
  int detached = 0;
  int acks = 0;

  QemuModel();
  static std::byte memory_at(std::uint64_t address) {
    return static_cast<std::byte>((address * 7 + (address >> 8)) & 0xff);
  }

  void attach();
  void owner_stops();
  void owner_continues() { let_run(); }
  void take(std::string_view bytes);
  std::string take_output() { return std::exchange(out_, {}); }
  std::size_t count(std::string_view prefix) const;
  bool unacknowledged() const { return unacknowledged_; }

 private:
  void let_run();
  void take_byte(char c);
  void stop(bool by_interrupt);
  void send(std::string_view payload);
  void handle(const std::string& packet);
  void handle_query(const std::string& packet);
  void read_memory(const std::string& packet);
  void read_register(const std::string& packet);
  std::string general_registers() const;
  void send_document(const std::string& packet);
  void monitor(std::string_view command);
  std::string thread(unsigned tid) const;

  std::string out_;
  PacketDecoder decoder_{4096};
  bool in_packet_ = false;
  bool no_ack_ = false;
  bool unacknowledged_ = false;
  bool may_reply_ = false;
  unsigned selected_ = 1;
  std::set<unsigned> up_to_date_;
  unsigned listed_ = 0;
};

class ModelTransport final : public Transport {
 public:
  explicit ModelTransport(QemuModel& model) : model_(model) { model_.attach(); }

  Result<std::size_t> write_some(std::string_view bytes) override;
  Result<std::size_t> read_some(std::span<char> into) override;
  Result<void> wait(bool or_writable, bool awake, Deadline until) override;
  std::optional<Clock::time_point> arrived() const override { return arrival; }
  int fd() const override { return -1; }

  std::optional<Clock::time_point> arrival;  ///< of all that comes
  Clock::duration between{};                 ///< arrivals, if there are any
  std::size_t chunk = 1 << 20;               ///< bytes at most per call, both ways
  bool closed = false;

 private:
  QemuModel& model_;
  std::string pending_;
};

/// What any x86 machine of QEMU says, shortened.
inline constexpr std::string_view kMtree = R"(FlatView #0
 AS "I/O", root: io
 Root memory region: io
  0000000000000000-0000000000000007 (prio 0, i/o): dma-chan

FlatView #1
 AS "memory", root: system
 AS "cpu-memory-0", root: system
 Root memory region: system
  0000000000000000-000000000009ffff (prio 0, ram): pc.ram
  00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem
  00000000000c0000-00000000000cafff (prio 0, rom): pc.ram @00000000000c0000
  0000000000100000-000000000fffffff (prio 0, ram): pc.ram @0000000000100000
  00000000fec00000-00000000fec00fff (prio 0, i/o): ioapic
  0000000100000000-000000013fffffff (prio 0, ram): pc.ram @0000000010000000

)";

}  // namespace guestscope::gdb::testing
