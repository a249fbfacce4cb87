// The values of kallsyms: which of four encodings the addresses have, proved, and what they are.
//
//   unsigned   u32 each, and relative_base behind them: base + offset      arm64 to 6.19; x86 6.15
//   on per CPU    the same, but s32: not negative: the value itself (x86-64 per-CPU symbols);
//   negative:
//              base - 1 - offset                                           x86-64 SMP to 6.14
//   place      s32 each: address of this very word + offset                the newest
//   absolute   u64 each                                                    !KALLSYMS_BASE_RELATIVE
//
// (The versions are for the reader; the code goes by what fits.) An encoding fits when the values
// ascend and the tables themselves lie between the first and the last symbol of the image: .rodata
// is behind .text and in front of .init.text, and the tables are about the image they lie in.
//
// Threads: pure functions. Source of truth: kallsyms_sym_address() in kernel/kallsyms.c,
// write_src() in scripts/kallsyms.c.
#pragma once

#include <cstddef>
#include <cstdint>

#include "arch/bytes.h"
#include "arch/machine.h"
#include "arch/result.h"
#include "introspect/kallsyms.h"

namespace guestscope {

struct KallsymsPlace {
  ByteSpan image;
  std::uint64_t address = 0;  ///< as in find_kallsyms()
  Machine machine = Machine::kOther;
  std::size_t num_syms = 0;    ///< where tables end that come first
  std::size_t tokens_end = 0;  ///< where tables begin that come last
};

/// Sets the values (and the type 'A') of `into.symbols`, and `into.begin` and `into.end`.
/// kNotFound: they may lie outside the image; kCorrupt: what is there fits no encoding.
Result<void> read_kallsyms_values(const KallsymsPlace& place, Kallsyms& into);

}  // namespace guestscope
