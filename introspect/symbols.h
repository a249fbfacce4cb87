// SymbolTable: the symbols of a kernel file, found by name.
//
// Borrows the .symtab and .strtab bytes, which must outlive it (KernelFile sees to that), and adds
// an index of about 12 bytes for each symbol. Values are link-time values: adding the KASLR slide,
// or not, is the caller's business, and `section` helps with it (x86-64 per-CPU symbols are offsets
// into ".data..percpu" before 6.15). Undefined, section and file symbols are left out.
//
// Threads: immutable. Does not block. Damaged entries are left out; only a table that is no symbol
// table is refused. Source of truth: the ELF-64 object file format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "arch/bytes.h"
#include "arch/result.h"
#include "introspect/name_index.h"

namespace guestscope {

struct Symbol {
  std::uint64_t value = 0;
  std::uint64_t size = 0;  ///< 0 when the file does not say (symbols made by the linker script)
  std::string_view name;
  std::string_view section;  ///< ".data..percpu"; empty for absolute symbols
  bool absolute = false;     ///< SHN_ABS: a number and not a place in the image
  bool global = false;
};

class SymbolTable {
 public:
  SymbolTable() = default;
  /// `sections`: section names by index. `file`: for messages.
  static Result<SymbolTable> parse(ByteSpan symtab, ByteSpan strtab,
                                   std::vector<std::string_view> sections, std::string file);

  /// The symbol of that name. Of several, a global one is preferred, then one that has a size, then
  /// the first.
  std::optional<Symbol> find(std::string_view name) const;
  /// Every symbol of that name, in the file's order.
  std::vector<Symbol> find_all(std::string_view name) const;
  /// The value of find(), or kUnsupported "kernel file FILE has no symbol NAME".
  Result<std::uint64_t> require(std::string_view name) const;
  /// The function or object that contains the link-time address; of aliases, a global one. Looks at
  /// every symbol (about 0.2 ms): for a handful of addresses, not for millions.
  std::optional<Symbol> containing(std::uint64_t link_address) const;

  /// Symbols that can be found.
  std::size_t size() const { return size_; }
  std::size_t memory_bytes() const { return index_.memory_bytes(); }

 private:
  Symbol symbol(std::size_t entry) const;
  std::string_view name_at(std::size_t offset) const;

  ByteSpan symtab_;
  ByteSpan strtab_;
  std::vector<std::string_view> sections_;
  std::string file_;
  NameIndex index_;
  std::size_t size_ = 0;
};

}  // namespace guestscope
