#include "introspect/symbols.h"

#include <doctest/doctest.h>
#include <elf.h>

#include <tuple>

#include "introspect/kernel_file.h"
#include "type_test_support.h"

namespace guestscope {
namespace {

struct Entry {
  std::uint32_t name;
  unsigned bind;
  unsigned type;
  std::uint16_t section;
  std::uint64_t value;
  std::uint64_t size;
};

Bytes table_of(const std::vector<Entry>& entries) {
  Memory memory(entries.size() * 24);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const Entry& entry = entries[i];
    memory.put(i * 24, entry.name, 4).put(i * 24 + 4, entry.bind << 4 | entry.type, 1);
    memory.put(i * 24 + 6, entry.section, 2).put(i * 24 + 8, entry.value, 8);
    memory.put(i * 24 + 16, entry.size, 8);
  }
  const ByteSpan span = memory;
  return {span.begin(), span.end()};
}

// Offsets:              0   1        5         10       15
const std::string kText("\0one\0two\0abs\0", 13);
constexpr std::uint32_t kOne = 1;
constexpr std::uint32_t kTwo = 5;
constexpr std::uint32_t kAbs = 9;

Kallsyms kallsyms_of(
    const std::vector<std::tuple<std::uint64_t, char, std::string_view>>& symbols) {
  Kallsyms table;
  for (const auto& [value, type, name] : symbols) {
    table.symbols.push_back({.value = value,
                             .name = static_cast<std::uint32_t>(table.names.size()),
                             .name_size = static_cast<std::uint16_t>(name.size()),
                             .type = type});
    table.names += name;
  }
  return table;
}

ByteSpan names() { return std::as_bytes(std::span(kText)); }

}  // namespace

TEST_CASE("of several symbols of one name, a global one is preferred, then one with a size") {
  const Bytes symtab = table_of({{kOne, STB_LOCAL, STT_OBJECT, 1, 0x10, 0},
                                 {kOne, STB_LOCAL, STT_OBJECT, 1, 0x20, 8},
                                 {kTwo, STB_LOCAL, STT_OBJECT, 1, 0x30, 8},
                                 {kTwo, STB_GLOBAL, STT_OBJECT, 1, 0x40, 0},
                                 {kTwo, STB_GLOBAL, STT_OBJECT, 1, 0x50, 0}});
  const auto table = SymbolTable::parse(symtab, names(), {"", ".data"}, "f");
  REQUIRE(table);
  CHECK(table->size() == 5);
  CHECK(table->find("one")->value == 0x20);
  CHECK(table->find("two")->value == 0x40);
  std::vector<std::uint64_t> values;
  for (const Symbol& symbol : table->find_all("two")) values.push_back(symbol.value);
  CHECK(values == std::vector<std::uint64_t>{0x30, 0x40, 0x50});
}

TEST_CASE("a missing symbol is named, with its file") {
  const auto table = SymbolTable::parse({}, {}, {}, "vmlinux-6.1");
  REQUIRE(table);
  CHECK(table->size() == 0);
  const auto missing = table->require("map_idr");
  REQUIRE_FALSE(missing);
  CHECK(missing.error().code == ErrorCode::kUnsupported);
  CHECK(missing.error().message == "kernel file vmlinux-6.1 has no symbol map_idr");
}

TEST_CASE("undefined, section and file symbols cannot be found") {
  const Bytes symtab = table_of({{kOne, STB_GLOBAL, STT_NOTYPE, SHN_UNDEF, 1, 0},
                                 {kOne, STB_LOCAL, STT_FILE, SHN_ABS, 2, 0},
                                 {kOne, STB_LOCAL, STT_SECTION, 1, 3, 0},
                                 {kAbs, STB_GLOBAL, STT_NOTYPE, SHN_ABS, 4, 0}});
  const auto table = SymbolTable::parse(symtab, names(), {"", ".data"}, "f");
  REQUIRE(table);
  CHECK_FALSE(table->find("one"));
  CHECK(table->find("abs")->absolute);
  CHECK(table->find("abs")->section == "");
  CHECK(table->size() == 1);
}

TEST_CASE("a name or section outside its table leaves the symbol out, or without section") {
  const Bytes symtab = table_of({{999, STB_GLOBAL, STT_OBJECT, 1, 1, 4},
                                 {UINT32_MAX, STB_GLOBAL, STT_OBJECT, 1, 2, 4},
                                 {kOne, STB_GLOBAL, STT_OBJECT, 0xfe00, 3, 4}});
  const auto table = SymbolTable::parse(symtab, names(), {"", ".data"}, "f");
  REQUIRE(table);
  CHECK(table->size() == 1);
  CHECK(table->find("one")->section == "");
}

TEST_CASE("a symbol table whose size is not that of whole symbols is refused") {
  CHECK(SymbolTable::parse(Bytes(25), names(), {}, "f").error().code == ErrorCode::kCorrupt);
}

TEST_CASE("an address belongs to the symbol that covers it, a global one if there is one") {
  const Bytes symtab = table_of({{kOne, STB_LOCAL, STT_FUNC, 1, 0x1000, 0x10},
                                 {kTwo, STB_GLOBAL, STT_FUNC, 1, 0x1000, 0x10},
                                 {kAbs, STB_GLOBAL, STT_NOTYPE, SHN_ABS, 0x2000, 0x10},
                                 {kOne, STB_LOCAL, STT_FUNC, 1, UINT64_MAX - 3, 0x10}});
  const auto table = SymbolTable::parse(symtab, names(), {"", ".text"}, "f");
  REQUIRE(table);
  CHECK(table->containing(0x100f)->name == "two");
  CHECK_FALSE(table->containing(0x1010));
  CHECK_FALSE(table->containing(0xfff));
  CHECK_FALSE(table->containing(0x2000));
  CHECK(table->containing(UINT64_MAX)->name == "one");
}

TEST_CASE("functions are told from variables, places in assembly code among the functions") {
  const Bytes symtab = table_of({{kOne, STB_LOCAL, STT_FUNC, 1, 0x1000, 0x10},
                                 {kTwo, STB_GLOBAL, STT_OBJECT, 1, 0x2000, 0x10},
                                 {kAbs, STB_GLOBAL, STT_NOTYPE, 1, 0x3000, 0x10}});
  const auto table = SymbolTable::parse(symtab, names(), {"", ".text"}, "f");
  REQUIRE(table);
  CHECK(table->containing(0x1000)->code);
  CHECK_FALSE(table->containing(0x2000)->code);
  CHECK(table->containing(0x3000)->code);
  const auto read = SymbolTable::from_kallsyms(kallsyms_of({{0x1000, 't', "local"},
                                                            {0x2000, 'W', "weak"},
                                                            {0x3000, 'd', "variable"},
                                                            {0x4000, 'B', "_end"}}),
                                               "f");
  CHECK(read.containing(0x1000)->code);
  CHECK(read.containing(0x2000)->code);
  CHECK_FALSE(read.containing(0x3000)->code);
}

TEST_CASE("symbols of kallsyms are found by name, the table owning them") {
  auto table = SymbolTable::from_kallsyms(kallsyms_of({{0x31980, 'A', "runqueues"},
                                                       {0x1000, 'T', "_text"},
                                                       {0x1000, 't', "twice"},
                                                       {0x2000, 'D', "twice"}}),
                                          "kernel file vmlinuz");
  const SymbolTable moved = std::move(table);
  CHECK(moved.size() == 4);
  CHECK(moved.find("runqueues")->absolute);
  CHECK(moved.find("runqueues")->value == 0x31980);
  CHECK_FALSE(moved.find("_text")->absolute);
  CHECK(moved.find("_text")->global);
  CHECK(moved.find("_text")->section == "");
  CHECK(moved.find("twice")->value == 0x2000);
  CHECK(moved.find_all("twice").size() == 2);
  CHECK(moved.require("gone").error().message == "kernel file vmlinuz has no symbol gone");
}

TEST_CASE("in kallsyms a symbol reaches up to the next, and the last one nowhere") {
  const auto table = SymbolTable::from_kallsyms(kallsyms_of({{0x1800, 'A', "number"},
                                                             {0x1000, 't', "local"},
                                                             {0x1000, 'T', "first"},
                                                             {0x1000, 't', "alias"},
                                                             {0x2000, 't', "second"},
                                                             {0x3000, 'B', "_end"}}),
                                                "f");
  CHECK_FALSE(table.containing(0xfff));
  CHECK(table.containing(0x1000)->name == "first");
  CHECK(table.containing(0x1fff)->name == "first");
  CHECK(table.containing(0x2000)->name == "second");
  CHECK_FALSE(table.containing(0x3000));
}

TEST_CASE("a symbol known from elsewhere can be added to those of either kind") {
  auto table = SymbolTable::from_kallsyms(kallsyms_of({{0x1000, 'T', "_text"}}), "f");
  table.add("map_idr", 0x5000);
  CHECK(table.require("map_idr") == 0x5000);
  CHECK(table.size() == 2);
  const Bytes symtab = table_of({{kOne, STB_GLOBAL, STT_OBJECT, 1, 7, 0}});
  auto elf = SymbolTable::parse(symtab, names(), {"", ".data"}, "f");
  REQUIRE(elf);
  elf->add("map_idr", 0x5000);
  CHECK(elf->find("map_idr")->value == 0x5000);
  CHECK(elf->find("one")->value == 7);
}

TEST_CASE("two hundred thousand symbols of kallsyms take less than 12 MB") {
  Kallsyms many;
  for (std::uint32_t i = 0; i < 200'000; ++i)
    many.symbols.push_back({.value = i, .name = i * 25, .name_size = 25, .type = 't'});
  many.names.resize(200'000 * 25);
  many.names.shrink_to_fit();
  many.symbols.shrink_to_fit();
  CHECK(SymbolTable::from_kallsyms(std::move(many), "f").memory_bytes() < 12'000'000);
}

TEST_CASE("a hundred thousand symbols of one name are indexed without delay") {
  const std::vector<Entry> many(100'000, Entry{kOne, STB_LOCAL, STT_NOTYPE, 1, 7, 0});
  const auto table = SymbolTable::parse(table_of(many), names(), {"", ".text"}, "f");
  REQUIRE(table);
  CHECK(table->size() == many.size());
  CHECK_FALSE(table->find("two"));
}

TEST_CASE("symbols of a linked file have their sections, per-CPU ones included") {
  const auto file = KernelFile::open(fixture("kernel.elf"));
  REQUIRE(file);
  const SymbolTable& symbols = (*file)->symbols();
  CHECK(symbols.find("runqueues")->section == ".data..percpu");
  CHECK(symbols.find("runqueues")->value == 0);
  CHECK(symbols.find("linux_banner")->section == ".rodata");
  CHECK(symbols.find("absolute_number")->absolute);
  CHECK(symbols.require("absolute_number") == 0x1000);
  CHECK(symbols.find_all("twice").size() == 2);
  CHECK_FALSE(symbols.find("kernel.c"));
}

}  // namespace guestscope
