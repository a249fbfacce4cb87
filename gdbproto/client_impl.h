// The inside of Client; see client.h for what it promises, link.h for how packets travel.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "gdbproto/client.h"
#include "gdbproto/general_registers.h"
#include "gdbproto/link.h"
#include "gdbproto/sequence.h"
#include "gdbproto/target_description.h"

namespace guestscope::gdb {

/// A question that any stub answers and that changes nothing: its answer tells that all before it
/// has been dealt with.
inline constexpr std::string_view kFence = "qC";

class Client::Impl {
 public:
  Impl(std::unique_ptr<Transport> transport, std::string name, const Options& options);

  // client_attach.cc: the steps of attaching, in order, and leaving.
  Result<void> attach();
  Result<void> detach();
  void leave_broken();

  // client.cc
  Result<void> stop();
  Result<void> resume();
  Result<void> poll_idle();
  Result<std::string> monitor(std::string_view command);
  Result<void> refresh_ram();
  void read_physical(std::span<PhysRead> reads, const std::function<void()>& work);
  // client_look.cc
  Result<RegisterValues> registers(std::span<const ThreadId> threads,
                                   std::span<const std::string_view> names);
  Result<RegisterValues> stop(const Look& look);
  Result<RegisterValues> glance(const Look& look);
  bool can_glance() const { return !stopped && run_state == RunState::kRunning; }

  Link link;
  const std::string name;
  const Options options;
  TargetDescription description;
  GeneralRegisters general{description};
  std::vector<ThreadId> threads;
  std::string version;
  RamMap ram;
  RunState run_state = RunState::kRunning;
  bool stopped = true;  ///< the stub stops the guest when one attaches
  bool held = false;

 private:
  Result<void> greet();
  Result<void> negotiate(std::string_view features);
  Result<void> require_qemu();
  Result<void> list_threads();
  Result<void> judge_run_state();
  Result<void> load_description();
  Result<std::string> fetch_document(const std::string& document);
  Result<void> use_physical_memory();
  void note_foreign_stop();

  Result<void> require_stopped() const;
  Result<void> exchange(Exchange& exchange, std::uint64_t bytes = 0);
  Result<void> ask_ok(const std::string& question);
  using Registers = std::vector<const Register*>;
  Result<Registers> find_registers(std::span<const std::string_view> names) const;
  Result<RegisterValues> look_at(const Look& look, Registers wanted, Sequence::Then then);
  Result<void> pause_again();
  // The answer takes two digits a byte; framing and a margin come off first.
  std::uint64_t most_in_a_read() const { return (packet_size_ - 16) / 2; }
  void note_interrupt();
  void retry_refused(std::span<PhysRead> reads, std::vector<std::size_t> refused);
  std::string detach_packet() const;

  std::size_t packet_size_;
  bool is_qemu_ = false;
  bool judged_ = false;  ///< whether the guest was running at attach is known
  bool stop_at_attach_ = false;
  bool left_ = false;
};

}  // namespace guestscope::gdb
