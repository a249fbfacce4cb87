#include "introspect/debug_file.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <filesystem>

#include "introspect/elf_notes.h"
#include "introspect/elf_sections.h"
#include "temporary_folder.h"
#include "type_test_support.h"

namespace guestscope {
namespace {

namespace fs = std::filesystem;

std::string build_id(const std::string& path) {
  auto sections = ElfSections::open(path);
  REQUIRE(sections);
  const ElfSection* note = sections->named(".note.gnu.build-id");
  REQUIRE(note != nullptr);
  return find_build_id(*sections->content(*note));
}

void put(const std::string& name, const fs::path& to) {
  fs::create_directories(to.parent_path());
  fs::copy_file(fixture(name), to, fs::copy_options::overwrite_existing);
}

/// A kernel file in a folder of its own, and where debug files would be.
struct Place {
  TemporaryFolder folder;
  fs::path kernel = fs::canonical(folder.path()) / "boot" / "vmlinux";
  fs::path debug = fs::canonical(folder.path()) / "debug";

  Place() { put("dwarf.stripped", kernel); }
  std::string id() const { return build_id(kernel); }
  fs::path by_id() const {
    return debug / ".build-id" / id().substr(0, 2) / (id().substr(2) + ".debug");
  }
  std::string find(std::string_view with_id) const {
    const auto found = find_debug_file(kernel, with_id, {debug});
    if (!found) return "ERROR " + found.error().message;
    return found->value_or("none");
  }
};

}  // namespace

TEST_CASE("a debug file is found by build id") {
  const Place place;
  CHECK(place.id().size() == 40);
  CHECK(place.find(place.id()) == "none");
  put("dwarf.debug", place.by_id());
  CHECK(place.find(place.id()) == place.by_id());
  CHECK(place.find("") == "none");
}

TEST_CASE("a debug file of another build id is not taken, wherever it lies") {
  const Place place;
  put("dwarf.gcc4", place.by_id());
  put("dwarf.gcc4", place.kernel.parent_path() / "dwarf.debug");
  CHECK(place.find(place.id()) == "none");
  CHECK(place.find("") == "none");
}

TEST_CASE("a debug file is found by its name: beside, in .debug, and in the debug folder") {
  const Place place;
  const fs::path here = place.kernel.parent_path();
  const fs::path candidates[] = {place.debug / here.relative_path() / "dwarf.debug",
                                 here / ".debug" / "dwarf.debug", here / "dwarf.debug"};
  for (const fs::path& candidate : candidates) {
    put("dwarf.debug", candidate);
    CHECK(place.find("") == candidate);
    CHECK(place.find(place.id()) == candidate);
  }
  // Whoever passes a build id that it does not have wants another file.
  CHECK(place.find("00112233") == "none");
}

TEST_CASE("a debug file found by name counts only with the checksum that was written down") {
  const Place place;
  const fs::path beside = place.kernel.parent_path() / "dwarf.debug";
  put("dwarf.debug", beside);
  REQUIRE(place.find("") == beside);
  std::ofstream(beside, std::ios::binary | std::ios::app) << 'x';
  CHECK(place.find("") == "none");
  CHECK(place.find(place.id()) == "none");
}

TEST_CASE("what is no ELF file, or would block, or is the file itself, is no debug file") {
  const Place place;
  const fs::path beside = place.kernel.parent_path() / "dwarf.debug";
  std::ofstream(beside) << "text";
  CHECK(place.find("") == "none");
  fs::remove(beside);
  REQUIRE(::mkfifo(beside.c_str(), 0600) == 0);
  CHECK(place.find("") == "none");
  fs::remove(beside);
  fs::create_symlink(place.kernel, beside);
  CHECK(place.find(place.id()) == "none");
  fs::create_directories(place.by_id().parent_path());
  fs::create_symlink(place.kernel, place.by_id());
  CHECK(place.find(place.id()) == "none");
  CHECK(place.find("../../../etc") == "none");
  CHECK(find_debug_file((place.kernel / "x").string(), "").error().code != ErrorCode::kNotFound);
  CHECK(find_debug_file("/nonexistent", "").error().code == ErrorCode::kNotFound);
}

}  // namespace guestscope
