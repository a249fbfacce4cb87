// DwarfFile: an ELF file opened for libdw, after what libdw takes on trust has been checked.
//
// Reads the debug sections into memory (a mapping would become SIGBUS when a build truncates the
// file) and gives that back when destroyed: about 230 MB for a distribution's kernel. libdw
// uncompresses sections, and finds the file with what dwz has moved out of several.
//
// Threads: none; libdw is used by one thread at a time. Blocks on disk I/O.
// Source of truth: DWARF 5, 7.5 (unit headers); elfutils' libdw.h.
#pragma once

#include <elfutils/libdw.h>

#include <cstdint>
#include <memory>
#include <string>

#include "arch/result.h"
#include "introspect/elf_sections.h"

namespace guestscope {

/// The section with the types: .debug_info, or .zdebug_info as old tools name it when it is
/// compressed. nullptr when there is none, or only its header.
const ElfSection* debug_info_of(const ElfSections& sections);

class DwarfFile {
 public:
  /// kUnsupported: no DWARF in it; kCorrupt: damaged, or absurdly large; otherwise what
  /// ElfSections::open says.
  static Result<DwarfFile> open(const std::string& path);

  Dwarf* get() const { return dwarf_.get(); }
  /// What dwz has moved out to a file that several share; nullptr when there is none.
  Dwarf* shared() const { return shared_; }
  /// Bytes of all units: .debug_info and .debug_types, uncompressed, the shared file's included.
  std::uint64_t unit_bytes() const { return unit_bytes_; }
  const std::string& path() const { return path_; }

 private:
  struct CloseFile {
    void operator()(const int* fd) const;
  };
  struct EndElf {
    void operator()(Elf* elf) const { elf_end(elf); }
  };
  struct EndDwarf {
    void operator()(Dwarf* dwarf) const { dwarf_end(dwarf); }
  };

  DwarfFile() = default;
  /// Before libdw reads and uncompresses them all. Returns the size of the abbreviations.
  Result<std::uint64_t> check_sizes(Elf* elf) const;
  Result<void> check_strings(Elf* elf) const;
  Result<void> check_units(Dwarf* dwarf, std::uint64_t abbreviation_bytes);
  Result<void> open_shared();

  std::string path_;
  std::unique_ptr<int, CloseFile> fd_;
  std::unique_ptr<Elf, EndElf> elf_;
  std::unique_ptr<Dwarf, EndDwarf> dwarf_;
  Dwarf* shared_ = nullptr;  ///< libdw owns it, with dwarf_
  std::uint64_t unit_bytes_ = 0;
};

}  // namespace guestscope
