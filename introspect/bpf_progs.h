// BPF programs and their run statistics. (Their code: prog_code.h.)
//
// Threads: called by the thread that owns the memory; the results are plain values.
// Source of truth: include/linux/bpf.h, include/linux/filter.h, bpf_prog_get_info_by_fd() in
// kernel/bpf/syscall.c.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "introspect/accessors.h"
#include "introspect/idr.h"
#include "introspect/layouts.h"
#include "introspect/problem.h"

namespace guestscope {

struct ProgRun {
  std::uint64_t runs = 0;
  std::uint64_t nanoseconds = 0;
  std::uint64_t recursion_misses = 0;
};

/// A piece of machine code: a program has one, or one for each of its subprograms (itself first).
struct ProgFunction {
  std::string symbol{};  ///< as in /proc/kallsyms: "bpf_prog_6deef7357e7b4530_on_switch"; or empty
  std::string name{};    ///< "on_switch"; may be empty
  GuestVirt address;
  std::uint64_t bytes = 0;
  std::uint64_t insns = 0;  ///< of the program's instructions, which are those of its functions
};

/// What a program was loaded for.
struct ProgAttach {
  std::optional<std::string> type{};  ///< "trace_fentry"; none for types of program that have none
  std::string target_name{};          ///< a function, tracepoint or member; empty: none
  std::uint64_t target_btf_id = 0;    ///< type id of the target; 0: none
  std::uint64_t target_obj_id = 0;    ///< the BTF object that it counts in; 0: not known
  std::uint64_t target_prog_id = 0;   ///< the program that is attached to; 0: none

  bool empty() const { return !type && target_btf_id == 0 && target_prog_id == 0; }
};

struct ProgInfo {
  std::uint64_t id = 0;
  GuestVirt address;
  std::string name;  ///< guest bytes; whole, though the kernel keeps 15 of them
  std::string type;  ///< "tracing"
  std::string tag;   ///< 16 hex digits
  bool jited = false;
  std::uint64_t xlated_bytes = 0;
  std::uint64_t jited_bytes = 0;
  std::optional<std::uint64_t> memlock_bytes{};
  std::optional<bool> gpl_compatible{};
  std::optional<bool> sleepable{};
  std::optional<std::uint64_t> verified_insns{};
  std::optional<std::uint64_t> exception_entries{};  ///< of its exception table
  std::uint64_t loaded_at_ns = 0;                    ///< since boot
  std::optional<std::uint64_t> uid{};
  std::uint64_t btf_id = 0;  ///< 0: none
  std::vector<std::uint64_t> map_ids{};
  std::vector<GuestVirt> map_addresses{};  ///< of the same maps
  ProgAttach attach{};
  bool offloaded = false;                 ///< to a device
  std::vector<ProgFunction> functions{};  ///< machine code; empty when not jited
  bool details_read = false;              ///< else only address, type, tag and sizes are known
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

/// What reading programs, links and BTF objects needs. Borrows all but the memory's reader.
struct ProgReadContext {
  KernelMemory memory;
  const ProgModel& model;
  Layouts& layouts;
  const ProgAccessor& accessor;
  const PerCpuOffsets& per_cpu;
};

Result<ProgList> read_progs(ProgReadContext& context);

/// Ids and addresses of all programs.
Result<std::vector<IdrEntry>> list_progs(ProgReadContext& context, Problems& problems);
/// Those programs only; stats_enabled is not asked for.
ProgList read_progs(ProgReadContext& context, std::span<const IdrEntry> entries);

}  // namespace guestscope
