// The session that record_transcript records with a real QEMU and replay_test plays again.
//
// Only what is the same in every run is asked for, so that the bytes we send do not depend on the
// guest. Started with the firmware only, the guest's first vCPU idles in SeaBIOS or its boot loop.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "gdbproto/client.h"

namespace guestscope::gdb::testing {

struct SessionResult {
  std::vector<std::vector<std::uint64_t>> registers;
  std::array<std::byte, 16> reset_vector{};  ///< the last 16 bytes of the firmware
  std::vector<std::byte> untouched =
      std::vector<std::byte>(5000, std::byte{1});  ///< RAM that firmware leaves zero
  bool device_refused = false;
  std::string version;
  bool held_first = false;
  bool held_again = false;
};

inline Result<SessionResult> run_session(Client& client) {
  SessionResult result;
  result.version = client.qemu_version();
  result.held_first = client.held();
  const std::vector<std::string_view> names{"cr0", "cr3", "efer"};
  GS_ASSIGN(result.registers, client.registers(client.threads(), names));
  std::array<std::byte, 8> device{};
  std::vector<PhysRead> reads{
      {.address = GuestPhys(0xfffffff0), .into = result.reset_vector},
      {.address = GuestPhys(0x300000), .into = result.untouched},
      {.address = GuestPhys(0xfec00000), .into = device},
  };
  client.read_physical(reads);
  for (const PhysRead& read : {reads[0], reads[1]})
    if (read.error) return std::unexpected(*read.error);
  result.device_refused = reads[2].error && reads[2].error->code == ErrorCode::kNotRam;
  GS_CHECK(client.resume());
  GS_CHECK(client.stop());
  result.held_again = client.held();
  reads.resize(1);
  GS_CHECK(client.read_and_resume(reads));
  GS_CHECK(client.stop());
  GS_CHECK(client.resume());
  GS_CHECK(client.detach());
  return result;
}

}  // namespace guestscope::gdb::testing
