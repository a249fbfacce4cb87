// The code of one BPF program: its instructions as the verifier left them, or the machine code that
// they became.
//
// Instructions are shown as the kernel shows them to user space: what holds addresses of maps and
// their values names the map by its id, and calls and loads that only the kernel can express are
// turned back. Machine code is that of the program's functions, one after the other.
//
// Threads: called by the thread that owns the memory; the bytes are the caller's. All or nothing:
// kNotFound when the program is not compiled, kUnsupported when this kernel's types do not tell
// where its code is, kCorrupt for absurd sizes, and as reading memory fails.
// Source of truth: bpf_insn_prepare_dump() and bpf_prog_get_info_by_fd() in kernel/bpf/syscall.c,
// include/uapi/linux/bpf_common.h, include/linux/filter.h.
#pragma once

#include "introspect/bpf_progs.h"

namespace guestscope {

enum class ProgCode : std::uint8_t { kXlated, kJited };

/// `prog`: as read_progs() gave it, from the same stop of the guest.
Result<Bytes> read_prog_code(ProgReadContext& context, const ProgInfo& prog, ProgCode which);

/// A map that a program uses, as instructions may name it.
struct UsedMap {
  GuestVirt address;
  std::uint64_t id = 0;
  /// Where the address of its value lies, when instructions may hold that; else empty.
  GuestVirt value{};
  std::uint64_t value_bytes = 0;
};

/// Turns the kernel's instructions into what user space is shown. `functions`: the first
/// instruction of each function, when there are several.
void show_insns(std::span<std::byte> insns, std::span<const UsedMap> maps,
                std::span<const std::uint64_t> functions = {});

}  // namespace guestscope
