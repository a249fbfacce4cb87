// The three accessors that exist only once the guest has booted far enough, and the functions that
// try to build them.
//
// Every try_init_… is a pure function of what it is given: it loads the paging registers from the
// cell itself, finds and proves the kernel with them, reads what it needs, and either succeeds
// completely or says why not. kNotReady (and every other transient code) means try again;
// kUnsupported and kMismatch are permanent.
//
// Threads: called by the thread that owns `memory`; the accessors are plain values.
#pragma once

#include <cstdint>
#include <vector>

#include "introspect/kernel_location.h"
#include "introspect/kernel_model.h"

namespace guestscope {

struct MapAccessor {
  KernelLocation location;
  GuestVirt map_idr;
};

struct ProgAccessor {
  KernelLocation location;
  GuestVirt prog_idr;
};

struct PerCpuOffsets {
  KernelLocation location;
  /// By CPU number: what a per-CPU address is off by on that CPU; empty for CPUs that are not
  /// possible.
  std::vector<std::optional<std::uint64_t>> offsets;

  std::vector<unsigned> possible_cpus() const;
  /// The CPU's instance of a per-CPU object. The CPU must be possible.
  GuestVirt on_cpu(GuestVirt per_cpu_address, unsigned cpu) const {
    return per_cpu_address.wrapping_add(*offsets[cpu]);
  }
};

Result<MapAccessor> try_init_map_accessor(PhysMemory& memory, const KernelModel& model,
                                          const PagingRegisterCell& registers);
Result<ProgAccessor> try_init_prog_accessor(PhysMemory& memory, const KernelModel& model,
                                            const PagingRegisterCell& registers);
/// Accepts the table only when every possible CPU's slot is set: a slot is unset when it is zero or
/// (x86-64 before 6.15) holds the address of __per_cpu_load, and two CPUs never share an offset. A
/// CPU that is not up yet would otherwise alias another one.
Result<PerCpuOffsets> try_init_per_cpu_offsets(PhysMemory& memory, const KernelModel& model,
                                               const PagingRegisterCell& registers);

/// The CPUs in a struct cpumask, in order.
std::vector<unsigned> cpus_in_mask(ByteSpan mask);

}  // namespace guestscope
