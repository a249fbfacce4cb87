// Kernel types from DWARF, for kernels without BTF: the DWARF of a kernel file becomes BTF bytes,
// so that everything else reads one format.
//
// What becomes of C's types: base types (INT, FLOAT), pointers, typedefs, const, volatile,
// restrict, arrays (one ARRAY for each dimension), structures and unions with bit fields, enums
// (ENUM64 when their values need it), function prototypes, and FWD for what is declared and nowhere
// defined, or defined in several ways. Each different definition of a name is kept, once. Left out:
// types that a function declares within itself, variables, functions, and units that are neither C
// nor assembler (Rust).
//
// Threads: any; nothing is shared. Blocks: 3 seconds of one processor for a distribution's kernel,
// with 300 MB while it runs. Fails with one line that names the file; a hostile file costs time in
// proportion to its size.
// Source of truth: DWARF 5, chapter 5; Documentation/bpf/btf.rst.
#pragma once

#include <string>

#include "arch/bytes.h"
#include "arch/result.h"

namespace guestscope {

/// BTF of the kernel file's DWARF. kUnsupported: it has none, or none of C; kCorrupt: damaged;
/// otherwise what ElfSections::open says.
Result<Bytes> btf_from_dwarf(const std::string& path);

/// Whether the file has .debug_info. Cheap: reads section headers.
bool has_dwarf(const std::string& path);

}  // namespace guestscope
