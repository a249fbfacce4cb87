// The names of functions that values point to.
#include <elf.h>

#include "introspect/limits.h"
#include "tests/support/btf_builder.h"
#include "tests/unit/introspect/kernel/plain_guest.h"

namespace guestscope {
namespace {

constexpr std::uint64_t kProgram = 0xffffffffc0001000;
constexpr std::uint64_t kModule = 0xffffffffc0401000;
constexpr std::uint64_t kNowhere = 0xffffffffc0900000;
constexpr std::size_t kTree = offsetof(mini::latch_tree_root, tree);

/// An array of pointers, whose type is that of the map's only value type.
struct Functions : test::PlainGuest {
  Functions() {
    number = types.integer("u64", 8, 64);
    function = types.refer(BtfKind::kPtr, types.add(BtfKind::kFuncProto, "", 0, 0));
    pointer = types.refer(BtfKind::kPtr, number);
    handler = guest.link("mini_handler") + guest.where.slide;
    variable = guest.link("init_task") + guest.where.slide;
  }

  std::uint64_t array(TypeId type, const std::vector<std::uint64_t>& values) {
    mini::btf object{};
    const Bytes bytes = types.bytes();
    object.data = put_bytes(bytes);
    object.data_size = static_cast<std::uint32_t>(bytes.size());
    object.id = 9;
    mini::bpf_array map{};
    map.map = header(2, 4, 8, static_cast<std::uint32_t>(values.size()));
    map.map.btf = guest.put(object);
    map.map.btf_value_type_id = type;
    map.elem_size = 8;
    map.index_mask = ~0U;
    return put_map_with(map, offsetof(mini::bpf_array, value_start), values);
  }

  void put_program() {
    mini::bpf_ksym ksym{};
    ksym.start = kProgram;
    ksym.end = kProgram + 0x100;
    std::string_view("bpf_prog_0011223344556677_count").copy(ksym.name, sizeof ksym.name);
    guest.poke("bpf_tree", 0);
    guest.poke("bpf_tree", guest.put(ksym) + offsetof(mini::bpf_ksym, tnode), kTree);
  }

  /// Two functions of 16 bytes side by side, a variable, and a place without a size.
  void put_module() {
    const std::string names{"\0first\0second\0state\0place", 26};
    const auto symbol = [](unsigned name, unsigned type, std::uint64_t value, std::uint64_t size) {
      return Elf64_Sym{name, static_cast<unsigned char>(type), 0, 1, value, size};
    };
    const Elf64_Sym symbols[] = {{},
                                 symbol(1, STT_FUNC, kModule, 16),
                                 symbol(7, STT_FUNC, kModule + 16, 16),
                                 symbol(14, STT_OBJECT, kModule + 64, 16),
                                 symbol(20, STT_NOTYPE, kModule + 128, 0)};
    mini::mod_kallsyms table{};
    table.symtab = guest.put(symbols);
    table.num_symtab = std::size(symbols);
    table.strtab = put_bytes(std::as_bytes(std::span(names)));
    mini::module module{};
    std::string_view("mini_module").copy(module.name, sizeof module.name);
    module.kallsyms = guest.put(table);
    mini::module_memory part{};
    part.base = kModule;
    part.size = 0x1000;
    part.mtn.mod = guest.put(module);
    guest.poke("mod_tree", 0);
    guest.poke("mod_tree", guest.put(part) + offsetof(mini::module_memory, mtn.node), kTree);
  }

  static std::string name(const MapContents& contents, std::uint64_t address) {
    const auto found = contents.functions.find(address);
    return found == contents.functions.end() ? "" : found->second;
  }

  BtfBuilder types;
  TypeId number = 0, function = 0, pointer = 0;
  std::uint64_t handler = 0, variable = 0;
};

TEST_CASE_FIXTURE(Functions, "functions of the kernel are named where they begin, and inside") {
  const MapContents contents =
      read(array(function, {handler, handler + 0x1a, handler + 32, variable, 0, 0x401000, ~0ULL}));
  CHECK(contents.problems.empty());
  CHECK(contents.functions.size() == 2);
  CHECK(name(contents, handler) == "mini_handler");
  CHECK(name(contents, handler + 0x1a) == "mini_handler+0x1a");
}

TEST_CASE_FIXTURE(Functions, "functions of BPF programs and of modules are named") {
  put_program();
  put_module();
  const MapContents contents = read(array(
      function, {kProgram, kProgram + 0xff, kProgram + 0x100, kModule, kModule + 16, kModule + 31,
                 kModule + 32, kModule + 64, kModule + 128, kModule + 129, kNowhere, handler}));
  CHECK(name(contents, kProgram) == "bpf_prog_0011223344556677_count");
  CHECK(name(contents, kProgram + 0xff) == "bpf_prog_0011223344556677_count+0xff");
  CHECK(name(contents, kModule) == "first");
  CHECK(name(contents, kModule + 16) == "second");
  CHECK(name(contents, kModule + 31) == "second+0xf");
  CHECK(name(contents, kModule + 128) == "place");
  CHECK(name(contents, handler) == "mini_handler");
  CHECK(contents.functions.size() == 7);
}

TEST_CASE_FIXTURE(Functions, "one entry has the name of its function as well") {
  const auto map = array(function, {0, handler + 1});
  CHECK(name(find(map, {std::byte{1}, {}, {}, {}}), handler + 1) == "mini_handler+0x1");
}

TEST_CASE_FIXTURE(Functions, "without functions of the kernel's, nothing is read for names") {
  put_program();
  put_module();
  const std::vector<std::uint64_t> values = {kProgram, kModule, handler};
  for (int i = 0; i < 2; ++i)  // the first reading of all takes one more
    CHECK(read(array(number, values)).functions.empty());
  const std::size_t plain = exchanges;
  CHECK(read(array(pointer, values)).functions.empty());
  CHECK(exchanges == plain);
  CHECK(read(array(function, {0, 0x401000, 7})).functions.empty());
  CHECK(exchanges == plain);
  CHECK(read(array(function, {handler, handler + 1, handler + 2})).functions.size() == 3);
  CHECK(exchanges == plain);
  CHECK(read(array(function, values)).functions.size() == 3);
  CHECK(exchanges > plain);
}

TEST_CASE_FIXTURE(Functions, "no more functions are named than the limit says") {
  const std::vector<std::uint64_t> few = {handler, handler + 1};
  std::vector<std::uint64_t> many;
  for (std::size_t i = 0; i < kMaxNamedFunctions; ++i) many.push_back(kNowhere + i);
  many.insert(many.end(), few.begin(), few.end());
  CHECK(read(array(function, many)).functions.empty());
  many.erase(many.begin(), many.begin() + 2);
  CHECK(read(array(function, many)).functions.size() == 2);
}

}  // namespace
}  // namespace guestscope
