// HostRam: where a guest's RAM lies in the memory of the QEMU process.
//
// Three sources are joined. The monitor's `info mtree -f` has the ranges of guest-physical memory:
// each is one piece of one memory region, and so of host memory; ranges that touch need not touch
// in the host (NUMA nodes, memory that was plugged in). Its `gpa2hva` has the host address of the
// first and the last byte of each. /proc/PID/maps has what is really mapped there, and so whether
// this is the process that holds the guest: behind a proxy nothing is.
//
// ROM is not taken, for it can be a device's; nor what the process has not mapped readable. Both
// can still be read through the stub.
//
// Threads: plain values. Finding blocks for two monitor commands a range; the guest is held by the
// stub meanwhile.
// Source of truth: QEMU's monitor/misc.c (hmp_gpa2hva), proc(5).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "arch/ram_map.h"
#include "arch/result.h"
#include "daemon/qemu_process.h"

namespace guestscope {

/// A command of QEMU's human monitor: its text.
using Monitor = std::function<Result<std::string>(std::string_view command)>;

/// What is mapped at an address: equal for two neighbouring areas when the second goes on where the
/// first ends. All 0 for anonymous memory.
struct Backing {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t base = 0;  ///< host address of the file's beginning
  bool operator==(const Backing&) const = default;
};

/// A line of /proc/PID/maps.
struct HostArea {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  bool readable = false;
  Backing backing{};
};
/// Those lines that are understood, in the file's order, which is by address.
std::vector<HostArea> parse_maps(std::string_view text);

/// `size` bytes of RAM at `guest` lie at `host`.
struct HostRange {
  std::uint64_t guest = 0;
  std::uint64_t size = 0;
  std::uint64_t host = 0;
  Backing backing{};
  bool operator==(const HostRange&) const = default;
};

struct HostRam {
  std::vector<HostRange> ranges;  ///< by guest address, disjoint
  RamMap left_out;                ///< RAM that the process cannot be read for
  std::string why_left_out;       ///< of the first such; empty when there is none
};

/// kMismatch: the process has nothing of the guest's memory. kUnsupported: no RAM map.
Result<HostRam> find_host_ram(const QemuProcess& process, const Monitor& monitor);

/// The parts of `range` that are mapped readable, in order, each of one backing.
std::vector<HostRange> mapped_parts(const HostRange& range, const std::vector<HostArea>& areas);

}  // namespace guestscope
