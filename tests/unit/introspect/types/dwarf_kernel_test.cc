// A whole kernel's DWARF against its BTF, which pahole made of the same DWARF when the kernel was
// built: every type, member and enumerator. Runs when GUESTSCOPE_TEST_VMLINUX names a kernel file.
#include <doctest/doctest.h>
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <set>
#include <string>

#include "dwarf_compare.h"
#include "introspect/dwarf_types.h"
#include "introspect/kernel_file.h"

namespace guestscope {
namespace {

void collect(Dwarf_Die* parent, bool in_function, std::set<std::string>& names) {
  Dwarf_Die at;
  if (dwarf_child(parent, &at) != 0) return;
  do {
    const int tag = dwarf_tag(&at);
    const bool is_type =
        tag == DW_TAG_structure_type || tag == DW_TAG_union_type || tag == DW_TAG_enumeration_type;
    const char* name = is_type && in_function ? dwarf_diename(&at) : nullptr;
    if (name != nullptr) names.insert(name);
    if (tag == DW_TAG_subprogram || tag == DW_TAG_lexical_block || tag == DW_TAG_inlined_subroutine)
      collect(&at, true, names);
  } while (dwarf_siblingof(&at, &at) == 0);
}

/// Names of the types that functions declare for themselves: read here, with libdw alone.
std::set<std::string> types_in_functions(const char* path) {
  std::set<std::string> names;
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  Dwarf* dwarf = dwarf_begin(fd, DWARF_C_READ);
  REQUIRE(dwarf != nullptr);
  Dwarf_CU* unit = nullptr;
  Dwarf_Die top;
  while (dwarf_get_units(dwarf, unit, &unit, nullptr, nullptr, &top, nullptr) == 0)
    collect(&top, false, names);
  dwarf_end(dwarf);
  ::close(fd);
  return names;
}

}  // namespace

TEST_CASE("on a whole kernel, every type that DWARF gives is the one that its BTF has") {
  const char* path = std::getenv("GUESTSCOPE_TEST_VMLINUX");
  if (path == nullptr) {
    MESSAGE("skipped: GUESTSCOPE_TEST_VMLINUX names no kernel file");
    REQUIRE(std::getenv("GUESTSCOPE_NO_SKIP") == nullptr);
    return;
  }
  const auto file = KernelFile::open(path);
  REQUIRE(file);
  const Btf& expected = (*file)->btf();
  const auto start = std::chrono::steady_clock::now();
  auto bytes = btf_from_dwarf(path);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  if (!bytes) FAIL(bytes.error().to_string());
  const auto made = Btf::parse(std::move(*bytes), path);
  if (!made) FAIL(made.error().to_string());
  MESSAGE("read " << std::string(path) << " in " << took.count() << " s");

  // What is left out on purpose: types that a function declares within itself.
  const std::set<std::string> in_functions = types_in_functions(path);
  REQUIRE_FALSE(in_functions.empty());
  std::size_t structures = 0;
  for (const BtfKind kind : {BtfKind::kStruct, BtfKind::kUnion, BtfKind::kEnum, BtfKind::kEnum64,
                             BtfKind::kTypedef, BtfKind::kInt, BtfKind::kFloat}) {
    const Comparison result = compare_all(expected, *made, kind);
    if (kind == BtfKind::kStruct) structures = result.compared;
    for (const std::string& line : result.different) FAIL_CHECK(line);
    for (const std::string& line : result.missing) {
      const std::string name = line.substr(line.find(' ') + 1, line.find(':') - line.find(' ') - 1);
      if (!in_functions.contains(name)) FAIL_CHECK("missing: " << line);
    }
  }
  CHECK(structures > 5000);

  // Names with several definitions: as many, and of the same sizes.
  for (TypeId id = 1; id < expected.type_count(); ++id) {
    const std::string_view name = expected.name_of(id);
    if (expected.kind(id) != BtfKind::kStruct || name.empty()) continue;
    const auto all = expected.find_all(BtfKind::kStruct, name);
    if (all.size() < 2 || all.front() != id || in_functions.contains(std::string(name))) continue;
    const auto ours = made->find_all(BtfKind::kStruct, name);
    CAPTURE(std::string(name));
    CHECK(ours.size() == all.size());
    std::multiset<std::uint32_t> sizes;
    for (const TypeId each : all) sizes.insert(expected.type(each).size);
    for (const TypeId each : ours) sizes.erase(made->type(each).size);
    CHECK(sizes.empty());
  }
}

}  // namespace guestscope
