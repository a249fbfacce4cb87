#include "introspect/symbols.h"

#include <elf.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "introspect/short_string.h"

namespace guestscope {
namespace {

struct WireSymbol {
  le32 name;
  std::uint8_t info;
  std::uint8_t other;
  le16 section;
  le64 value;
  le64 size;
};
static_assert(sizeof(WireSymbol) == sizeof(Elf64_Sym));

WireSymbol wire_symbol(ByteSpan symtab, std::size_t entry) {
  // In bounds: entries are counted from the table's size.
  return ByteReader(symtab).get<WireSymbol>(entry * sizeof(WireSymbol)).value_or(WireSymbol{});
}

bool can_be_looked_up(const WireSymbol& symbol) {
  const auto type = ELF64_ST_TYPE(symbol.info);
  return symbol.section != SHN_UNDEF && type != STT_SECTION && type != STT_FILE;
}

// Assembly code may leave its places without a type.
bool may_be_code(std::uint8_t info) {
  const auto type = ELF64_ST_TYPE(info);
  return type == STT_FUNC || type == STT_NOTYPE || type == STT_GNU_IFUNC;
}

// Of several symbols of one name, or at one address: the higher, the better.
int rank(const Symbol& symbol) { return (symbol.global ? 2 : 0) + (symbol.size != 0 ? 1 : 0); }

}  // namespace

Result<SymbolTable> SymbolTable::parse(ByteSpan symtab, ByteSpan strtab,
                                       std::vector<std::string_view> sections, std::string file) {
  SymbolTable table;
  table.symtab_ = symtab;
  table.strtab_ = strtab;
  table.sections_ = std::move(sections);
  table.source_ = "kernel file " + file;
  if (symtab.size() % sizeof(WireSymbol) != 0 || symtab.size() / sizeof(WireSymbol) >= UINT32_MAX)
    return fail(ErrorCode::kCorrupt, "{}: a symbol table of {} bytes", table.source_,
                symtab.size());
  const std::size_t entries = symtab.size() / sizeof(WireSymbol);
  table.index_ = NameIndex(entries);
  for (std::size_t entry = entries; entry-- > 0;) {
    const WireSymbol symbol = wire_symbol(symtab, entry);
    if (!can_be_looked_up(symbol)) continue;
    const std::string_view name = table.name_at(symbol.name);
    if (name.empty()) continue;
    table.index_.add(name, static_cast<std::uint32_t>(entry));
    ++table.size_;
  }
  return table;
}

SymbolTable SymbolTable::from_kallsyms(Kallsyms found, std::string source) {
  SymbolTable table;
  table.kallsyms_ = std::move(found);
  table.source_ = std::move(source);
  const auto& symbols = table.kallsyms_.symbols;
  table.index_ = NameIndex(symbols.size());
  table.size_ = symbols.size();
  for (std::size_t entry = symbols.size(); entry-- > 0;)
    table.index_.add(table.kallsyms_.name_of(symbols[entry]), static_cast<std::uint32_t>(entry));
  return table;
}

void SymbolTable::add(std::string name, std::uint64_t value) {
  added_.push_back({.name = std::move(name), .value = value});
  ++size_;
}

std::size_t SymbolTable::memory_bytes() const {
  return index_.memory_bytes() + kallsyms_.names.capacity() +
         kallsyms_.symbols.capacity() * sizeof(KallsymsSymbol);
}

std::string_view SymbolTable::name_at(std::size_t offset) const {
  return short_string_at(strtab_, offset);
}

Symbol SymbolTable::kallsyms_symbol(std::size_t entry) const {
  const KallsymsSymbol& symbol = kallsyms_.symbols[entry];
  // As nm prints types: capitals are global. 'W' and 'V', weak ones, are as well.
  return {.value = symbol.value,
          .size = 0,
          .name = kallsyms_.name_of(symbol),
          .section = {},
          .absolute = symbol.type == 'A',
          .global = symbol.type >= 'A' && symbol.type <= 'Z',
          .code = std::string_view("TtWw").contains(symbol.type)};
}

Symbol SymbolTable::symbol(std::size_t entry) const {
  if (!kallsyms_.symbols.empty()) return kallsyms_symbol(entry);
  const WireSymbol wire = wire_symbol(symtab_, entry);
  const std::size_t section = wire.section;
  return {.value = wire.value,
          .size = wire.size,
          .name = name_at(wire.name),
          .section = section < sections_.size() ? sections_[section] : std::string_view{},
          .absolute = section == SHN_ABS,
          .global = ELF64_ST_BIND(wire.info) != STB_LOCAL,
          .code = may_be_code(wire.info)};
}

std::optional<Symbol> SymbolTable::find(std::string_view name) const {
  std::optional<Symbol> best;
  for (const Symbol& candidate : find_all(name))
    if (!best || rank(candidate) > rank(*best)) best = candidate;
  return best;
}

std::vector<Symbol> SymbolTable::find_all(std::string_view name) const {
  std::vector<Symbol> found;
  index_.for_each_candidate(name, [&](std::uint32_t entry) {
    Symbol candidate = symbol(entry);
    if (candidate.name == name) found.push_back(candidate);
    return true;
  });
  for (const Added& symbol : added_)
    if (symbol.name == name)
      found.push_back({.value = symbol.value,
                       .size = 0,
                       .name = symbol.name,
                       .section = {},
                       .absolute = false,
                       .global = true,
                       .code = false});
  return found;
}

Result<std::uint64_t> SymbolTable::require(std::string_view name) const {
  if (const auto found = find(name)) return found->value;
  return fail(ErrorCode::kUnsupported, "{} has no symbol {}", source_, name);
}

std::optional<Symbol> SymbolTable::containing_in_kallsyms(std::uint64_t address) const {
  const auto& symbols = kallsyms_.symbols;
  // By address, but for the absolute ones, which come first.
  const auto first = std::ranges::find_if(symbols, [](const auto& s) { return s.type != 'A'; });
  const auto next =
      std::ranges::upper_bound(first, symbols.end(), address, {}, &KallsymsSymbol::value);
  if (next == first || next == symbols.end()) return std::nullopt;
  std::optional<Symbol> best;
  for (auto it = next; it != first && std::prev(it)->value == std::prev(next)->value; --it) {
    const auto entry = static_cast<std::size_t>(std::prev(it) - symbols.begin());
    if (const Symbol candidate = symbol(entry); !best || rank(candidate) >= rank(*best))
      best = candidate;
  }
  return best;
}

std::optional<Symbol> SymbolTable::containing(std::uint64_t address) const {
  return std::move(containing(std::span(&address, 1)).front());
}

std::vector<std::optional<Symbol>> SymbolTable::containing(
    std::span<const std::uint64_t> ascending) const {
  std::vector<std::optional<Symbol>> best(ascending.size());
  if (!kallsyms_.symbols.empty()) {
    std::ranges::transform(ascending, best.begin(),
                           [&](std::uint64_t address) { return containing_in_kallsyms(address); });
    return best;
  }
  const std::size_t entries = symtab_.size() / sizeof(WireSymbol);
  for (std::size_t entry = 0; entry < entries; ++entry) {
    const WireSymbol wire = wire_symbol(symtab_, entry);
    const std::uint64_t value = wire.value;
    const std::uint64_t size = wire.size;
    auto inside = std::ranges::lower_bound(ascending, value);
    if (inside == ascending.end() || *inside - value >= size) continue;
    if (!can_be_looked_up(wire) || wire.section == SHN_ABS) continue;
    const Symbol candidate = symbol(entry);
    for (; inside != ascending.end() && *inside - value < size; ++inside) {
      auto& found = best[static_cast<std::size_t>(inside - ascending.begin())];
      if (!found || rank(candidate) > rank(*found)) found = candidate;
    }
  }
  return best;
}

}  // namespace guestscope
