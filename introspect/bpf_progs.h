// BPF programs and their run statistics.
//
// Threads: called by the thread that owns the memory; the results are plain values.
// Source of truth: include/linux/bpf.h, include/linux/filter.h, bpf_prog_get_info_by_fd() in
// kernel/bpf/syscall.c.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "introspect/accessors.h"
#include "introspect/problem.h"

namespace guestscope {

struct ProgRun {
  std::uint64_t runs = 0;
  std::uint64_t nanoseconds = 0;
  std::uint64_t recursion_misses = 0;
};

struct ProgInfo {
  std::uint64_t id = 0;
  GuestVirt address;
  std::string name;  ///< guest bytes
  std::string type;  ///< "tracing"
  std::string tag;   ///< 16 hex digits
  bool jited = false;
  std::uint64_t xlated_bytes = 0;
  std::uint64_t jited_bytes = 0;
  std::optional<std::uint64_t> verified_insns{};
  std::uint64_t loaded_at_ns = 0;  ///< since boot
  std::optional<std::uint64_t> uid{};
  std::uint64_t btf_id = 0;  ///< 0: none
  std::vector<std::uint64_t> map_ids{};
  bool details_read = false;  ///< else only address, type, tag and sizes are known
  /// Counters of each possible CPU; empty when they could not be read (see problems).
  std::vector<std::pair<unsigned, ProgRun>> per_cpu{};
  bool has_misses = false;  ///< this kernel counts recursion misses

  ProgRun total() const;
};

struct ProgList {
  std::vector<ProgInfo> progs;  ///< in id order
  std::optional<bool> stats_enabled;
  Problems problems;
};

Result<ProgList> read_progs(KernelMemory& memory, const ProgModel& model,
                            const ProgAccessor& accessor, const PerCpuOffsets& per_cpu);

}  // namespace guestscope
