// The session that record_transcript records with a real QEMU and replay_test plays again.
//
// Only what is the same in every run is asked for, so that the bytes we send do not depend on the
// guest. Started without a kernel, an x86 guest's first vCPU idles in its firmware; an arm64 one
// takes exception after exception in empty flash.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "gdbproto/client.h"

namespace guestscope::gdb::testing {

struct SessionResult {
  std::vector<std::string_view> names;  ///< of registers: those wanted that there are
  std::vector<std::vector<std::uint64_t>> registers;
  std::array<std::byte, 16> known{};  ///< what QEMU puts there: see Places
  std::vector<std::byte> untouched =
      std::vector<std::byte>(5000, std::byte{1});  ///< RAM that firmware leaves zero
  bool device_refused = false;
  std::string version;
  bool held_first = false;
  bool held_again = false;
};

/// Where a machine has what the session reads.
struct Places {
  std::vector<std::string_view> registers;
  GuestPhys known;
  GuestPhys untouched;
  GuestPhys device;
};

inline Places places(std::string_view architecture) {
  // The device tree lies where RAM begins; the first serial port is a device.
  if (architecture == "aarch64")
    return {{"TCR_EL1", "TTBR1_EL1", "SCTLR", "SCTLR_EL1", "TPIDR_EL1", "cpsr", "HCR_EL2",
             "TCR_EL2", "TTBR1_EL2", "SCTLR_EL2"},
            GuestPhys(0x40000000),
            GuestPhys(0x40300000),
            GuestPhys(0x09000000)};
  // The last 16 bytes of the firmware; the I/O APIC.
  return {
      {"cr0", "cr3", "efer"}, GuestPhys(0xfffffff0), GuestPhys(0x300000), GuestPhys(0xfec00000)};
}

inline Result<SessionResult> run_session(Client& client) {
  SessionResult result;
  result.version = client.qemu_version();
  result.held_first = client.held();
  const Places machine = places(client.architecture());
  for (const std::string_view name : machine.registers)
    if (client.has_register(name)) result.names.push_back(name);
  GS_ASSIGN(result.registers, client.registers(client.threads(), result.names));
  std::array<std::byte, 8> device{};
  std::vector<PhysRead> reads{
      {.address = machine.known, .into = result.known},
      {.address = machine.untouched, .into = result.untouched},
      {.address = machine.device, .into = device},
  };
  client.read_physical(reads);
  for (const PhysRead& read : {reads[0], reads[1]})
    if (read.error) return std::unexpected(*read.error);
  result.device_refused = reads[2].error && reads[2].error->code == ErrorCode::kNotRam;
  GS_CHECK(client.resume());
  GS_CHECK(client.stop());
  result.held_again = client.held();
  reads.resize(1);
  GS_CHECK(client.resume());
  GS_CHECK(client.glance({.threads = {}, .names = {}, .reads = reads}));
  GS_CHECK(client.detach());
  return result;
}

}  // namespace guestscope::gdb::testing
