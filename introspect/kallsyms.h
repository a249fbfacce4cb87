// Kallsyms: the kernel's own symbol table, found in the bytes of its image by shape, without any
// symbol to start from.
//
// The tables, all in .rodata and one behind the other (n: number of symbols):
//
//   num_syms      u32
//   names         n times: length (one byte, or two when it is 128 or more), then so many token
//                 numbers; expanded: the type letter, and the name
//   markers       u32 each: where in `names` every 256th symbol begins
//   token_table   256 terminated strings; characters that occur in names stand for themselves
//   token_index   u16 each: where in `token_table` each of the 256 begins
//   addresses     of four kinds, see kallsyms_values.h
//
// The addresses come first in 5.10 to 6.3 and last from 6.4 on. seqs_of_names (symbols by name, 3
// bytes each) is before the tokens in 6.2 and 6.3, and behind the addresses from 6.4 on. It is not
// needed here and may be missing. No version decides: what is found must agree with itself, every
// length, marker and index of it.
//
// The digits, tokens 48 to 57, occur in the names of every kernel and are the anchor of the search:
// one pass with memmem(), which is all that it costs when the tables are not there.
//
// Owns what it returns. Threads: a pure function. Does not block; takes about 10 ms for 30 MB with
// 150,000 symbols. Hostile bytes cost at most about half a second, and memory in proportion to
// their size.
// Source of truth: scripts/kallsyms.c and kernel/kallsyms.c of 5.10, 6.1, 6.2, 6.4, 6.12 and 7.2.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "arch/bytes.h"
#include "arch/machine.h"
#include "arch/result.h"

namespace guestscope {

struct KallsymsSymbol {
  std::uint64_t value = 0;
  std::uint32_t name = 0;  ///< offset of its name in Kallsyms::names
  std::uint16_t name_size = 0;
  char type = '?';  ///< as nm prints it: 'T', 't', 'D' …; 'A': a number, not a place in the image
                    ///< (x86-64 per-CPU symbols before 6.15)
};

struct Kallsyms {
  std::vector<KallsymsSymbol> symbols;  ///< in the table's order: by address
  std::string names;
  bool has_data = false;  ///< data symbols are in it (CONFIG_KALLSYMS_ALL)
  std::size_t begin = 0;  ///< where in the image the tables begin and end
  std::size_t end = 0;

  std::string_view name_of(const KallsymsSymbol& symbol) const {
    return std::string_view(names).substr(symbol.name, symbol.name_size);
  }
};

/// `image`: consecutive bytes of a kernel image. `address`: the virtual address of the first of
/// them, in the sense of the tables: the run-time address when they come from a running guest's
/// memory, the link-time address in a file; 0 when a flat file does not tell: values are then
/// offsets from the first byte, which must be that of the image (_text).
/// kNotFound: the tables are not (completely) in these bytes; kCorrupt: found, but they contradict
/// themselves.
Result<Kallsyms> find_kallsyms(ByteSpan image, std::uint64_t address, Machine machine);

}  // namespace guestscope
