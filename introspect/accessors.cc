#include "introspect/accessors.h"

#include <algorithm>

namespace guestscope {

std::vector<unsigned> PerCpuOffsets::possible_cpus() const {
  std::vector<unsigned> cpus;
  for (unsigned cpu = 0; cpu < offsets.size(); ++cpu)
    if (offsets[cpu]) cpus.push_back(cpu);
  return cpus;
}

std::vector<unsigned> cpus_in_mask(ByteSpan mask) {
  std::vector<unsigned> cpus;
  for (std::size_t byte = 0; byte < mask.size(); ++byte)
    for (unsigned bit = 0; bit < 8; ++bit)
      if ((std::to_integer<unsigned>(mask[byte]) >> bit & 1U) != 0)
        cpus.push_back(static_cast<unsigned>(byte * 8 + bit));
  return cpus;
}

Result<MapAccessor> try_init_map_accessor(PhysMemory& memory, const KernelModel& model,
                                          const PagingRegisterCell& registers) {
  if (!model.maps) return std::unexpected(model.maps.error());
  GS_ASSIGN(KernelLocation location, locate_kernel(memory, model, registers.load()));
  const GuestVirt map_idr = location.at(model.maps->idr_symbol);
  return MapAccessor{.location = std::move(location), .map_idr = map_idr};
}

Result<ProgAccessor> try_init_prog_accessor(PhysMemory& memory, const KernelModel& model,
                                            const PagingRegisterCell& registers) {
  if (!model.progs) return std::unexpected(model.progs.error());
  GS_ASSIGN(KernelLocation location, locate_kernel(memory, model, registers.load()));
  const GuestVirt prog_idr = location.at(model.progs->idr_symbol);
  return ProgAccessor{.location = std::move(location), .prog_idr = prog_idr};
}

namespace {

/// Slots of CPUs 0 to the last possible one, checked as the header says.
Result<std::vector<std::optional<std::uint64_t>>> check_offsets(ByteSpan table,
                                                                std::span<const unsigned> possible,
                                                                const PerCpuModel& model,
                                                                std::uint64_t slide) {
  std::vector<std::optional<std::uint64_t>> offsets(possible.back() + 1);
  std::vector<std::uint64_t> seen;
  for (const unsigned cpu : possible) {
    const std::uint64_t offset = load_le(table.data() + cpu * std::size_t{8}, 8);
    const bool load_address = model.unset_offset && (offset == *model.unset_offset ||
                                                     offset == *model.unset_offset + slide);
    if (offset == 0 || load_address)
      return fail(ErrorCode::kNotReady, "the per-CPU offset of CPU {} is not set yet", cpu);
    offsets[cpu] = offset;
    seen.push_back(offset);
  }
  std::ranges::sort(seen);
  if (std::ranges::adjacent_find(seen) != seen.end())
    return fail(ErrorCode::kNotReady, "two CPUs share a per-CPU offset: the table is not set yet");
  return offsets;
}

}  // namespace

Result<PerCpuOffsets> try_init_per_cpu_offsets(PhysMemory& memory, const KernelModel& model,
                                               const PagingRegisterCell& registers) {
  if (!model.per_cpu) return std::unexpected(model.per_cpu.error());
  const PerCpuModel& per_cpu = *model.per_cpu;
  GS_ASSIGN(KernelLocation location, locate_kernel(memory, model, registers.load()));
  KernelMemory kernel(memory, *location.regime, location.linear);
  GS_ASSIGN(const Bytes mask, kernel.read_bytes(location.at(per_cpu.possible), per_cpu.mask_bytes));
  const std::vector<unsigned> possible = cpus_in_mask(mask);
  if (possible.empty())
    return fail(ErrorCode::kNotReady, "the kernel has not counted its CPUs yet");
  GS_ASSIGN(const Bytes table, kernel.read_bytes(location.at(per_cpu.offsets),
                                                 (possible.back() + 1) * std::size_t{8}));
  GS_ASSIGN(auto offsets, check_offsets(table, possible, per_cpu, location.slide));
  return PerCpuOffsets{.location = std::move(location), .offsets = std::move(offsets)};
}

}  // namespace guestscope
