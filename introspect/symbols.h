// SymbolTable: the symbols of a kernel, found by name: an ELF file's, or those of kallsyms.
//
// Borrows the .symtab and .strtab bytes, which must outlive it (KernelFile sees to that), and adds
// an index of about 12 bytes for each symbol. Kallsyms it owns: 50 bytes for each symbol, names and
// index included. Values are as they stand there (link-time values in a file): adding the KASLR
// slide, or not, is the caller's business, and `section` and `absolute` help with it (x86-64
// per-CPU symbols are offsets before 6.15: in ".data..percpu", or absolute in kallsyms). Undefined,
// section and file symbols are left out.
//
// Threads: immutable once filled. Does not block. Damaged entries are left out; only a table that
// is no symbol table is refused. Source of truth: the ELF-64 object file format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "arch/bytes.h"
#include "arch/result.h"
#include "introspect/kallsyms.h"
#include "introspect/name_index.h"

namespace guestscope {

struct Symbol {
  std::uint64_t value = 0;
  std::uint64_t size = 0;  ///< 0 when the file does not say (symbols made by the linker script)
  std::string_view name;
  std::string_view section;  ///< ".data..percpu"; empty for absolute symbols and in kallsyms
  bool absolute = false;     ///< SHN_ABS, or 'A': a number and not a place in the image
  bool global = false;
  bool code = false;  ///< a function, or a place in assembly code; not a variable
};

class SymbolTable {
 public:
  SymbolTable() = default;
  /// `sections`: section names by index. `file`: for messages.
  static Result<SymbolTable> parse(ByteSpan symtab, ByteSpan strtab,
                                   std::vector<std::string_view> sections, std::string file);

  static SymbolTable from_kallsyms(Kallsyms found, std::string source);
  /// One more symbol, global and of unknown size, that is known from elsewhere.
  void add(std::string name, std::uint64_t value);

  /// The symbol of that name. Of several, a global one is preferred, then one that has a size, then
  /// the first.
  std::optional<Symbol> find(std::string_view name) const;
  /// Every symbol of that name, in the file's order.
  std::vector<Symbol> find_all(std::string_view name) const;
  /// The value of find(), or kUnsupported "SOURCE has no symbol NAME".
  Result<std::uint64_t> require(std::string_view name) const;
  /// The function or object that contains the address; of aliases, a global one. In kallsyms a
  /// symbol reaches up to the next one. Looks at every symbol of an ELF file (about 0.2 ms): for a
  /// handful of addresses, not for millions.
  std::optional<Symbol> containing(std::uint64_t address) const;
  /// The same of many addresses, in ascending order: looks at every symbol once.
  std::vector<std::optional<Symbol>> containing(std::span<const std::uint64_t> ascending) const;

  /// Symbols that can be found.
  std::size_t size() const { return size_; }
  std::size_t memory_bytes() const;

 private:
  struct Added {
    std::string name;
    std::uint64_t value = 0;
  };

  Symbol symbol(std::size_t entry) const;
  Symbol kallsyms_symbol(std::size_t entry) const;
  std::optional<Symbol> containing_in_kallsyms(std::uint64_t address) const;
  std::string_view name_at(std::size_t offset) const;

  Kallsyms kallsyms_;  // has symbols: then symtab_ has none
  std::vector<Added> added_;
  ByteSpan symtab_;
  ByteSpan strtab_;
  std::vector<std::string_view> sections_;
  std::string source_;  // for messages
  NameIndex index_;
  std::size_t size_ = 0;
};

}  // namespace guestscope
