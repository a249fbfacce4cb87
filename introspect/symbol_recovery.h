// Symbol recovery: addresses of variables that a kernel's own symbol table leaves out
// (CONFIG_KALLSYMS_ALL off: functions only), found by what else the image says.
//
// - What is exported to modules stands in __ksymtab: entries of three 32-bit numbers, each relative
//   to its own place (PREL32): the symbol's value, its name, its namespace.
// - Per-CPU variables stand in BTF with their offset in the per-CPU section; one that is exported
//   as well tells where the section begins, and with that all others.
//   Without that section in BTF, the run queues are what the code of two of their users forms the
//   address of.
// - map_idr, prog_idr and link_idr are the IDRs whose addresses the code of
//   bpf_{map,prog,link}_get_curr_or_next() forms, btf_idr that of btf_get_fd_by_id().
// - A scheduling class is a structure in read-only data that points to its own functions.
//
// Only what can be told without doubt is returned: a name with two different values is left out.
// Threads: pure functions but for `read`. Source of truth: include/linux/export-internal.h,
// kernel/bpf/syscall.c, include/linux/idr.h, kernel/sched/sched.h.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "arch/bytes.h"
#include "arch/machine.h"
#include "introspect/btf.h"
#include "introspect/symbols.h"

namespace guestscope {

struct RecoveredSymbol {
  std::string name;
  std::uint64_t value = 0;
};

/// The image of a kernel that runs: its pointers are relocated.
struct ImageView {
  Machine machine = Machine::kOther;
  std::uint64_t address = 0;  ///< of read_only[0]
  ByteSpan read_only{};       ///< .rodata up to the end of .BTF at least
  /// Bytes anywhere in the image.
  std::function<Result<Bytes>(std::uint64_t address, std::size_t size)> read{};
};

std::vector<RecoveredSymbol> recover_symbols(const ImageView& image, const SymbolTable& functions,
                                             const Btf& types);

}  // namespace guestscope
