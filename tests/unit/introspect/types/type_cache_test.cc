#include "introspect/type_cache.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>

#include "introspect/dwarf_types.h"
#include "temporary_folder.h"
#include "type_test_support.h"

namespace guestscope {
namespace {

namespace fs = std::filesystem;

constexpr const char* kId = "00112233445566778899aabbccddeeff00112233";

DwarfTypes types(const std::string& folder, std::string_view id = kId,
                 const std::string& file = fixture("dwarf.gcc5")) {
  auto result = types_from_dwarf(file, id, {.cache_folder = folder, .on_slow = {}});
  if (!result) FAIL(result.error().to_string());
  return std::move(*result);
}

std::size_t files_in(const fs::path& folder) {
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

fs::path only_file_in(const fs::path& folder) {
  REQUIRE(files_in(folder) == 1);
  return fs::directory_iterator(folder)->path();
}

void write(const fs::path& path, const Bytes& bytes) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

}  // namespace

TEST_CASE("types are read from DWARF once and then from the cache, the same bytes") {
  const TemporaryFolder folder;
  const std::string cache = folder.path() + "/new/folder";
  const DwarfTypes first = types(cache);
  CHECK_FALSE(first.from_cache);
  CHECK_FALSE(first.cache_error.has_value());
  CHECK((first.btf == *btf_from_dwarf(fixture("dwarf.gcc5"))));
  CHECK(fs::exists(only_file_in(cache)));
  CHECK(files_in(cache) == 1);
  const DwarfTypes second = types(cache);
  CHECK(second.from_cache);
  CHECK((second.btf == first.btf));
}

TEST_CASE("the caller is told before DWARF is read, and not when the cache has the types") {
  const TemporaryFolder folder;
  int told = 0;
  const DwarfTypesOptions options{.cache_folder = folder.path(),
                                  .on_slow = [&](std::chrono::seconds estimate) {
                                    ++told;
                                    CHECK(estimate.count() == 1);
                                  }};
  REQUIRE(types_from_dwarf(fixture("dwarf.gcc5"), kId, options));
  CHECK(told == 1);
  REQUIRE(types_from_dwarf(fixture("dwarf.gcc5"), kId, options));
  CHECK(told == 1);
  CHECK_FALSE(types_from_dwarf(fixture("dwarf.stripped"), kId, options));
  CHECK(told == 1);
}

TEST_CASE("a damaged, truncated or foreign copy counts as none, and is replaced") {
  const TemporaryFolder folder;
  const DwarfTypes first = types(folder.path());
  const fs::path path = only_file_in(folder.path());
  const Bytes good = file_bytes(path);
  for (std::size_t at = 0; at < good.size(); at += at < 64 ? 1 : 97) {
    Bytes bad = good;
    bad[at] ^= std::byte{0x10};
    write(path, bad);
    CAPTURE(at);
    CHECK_FALSE(types(folder.path()).from_cache);
    CHECK((file_bytes(path) == good));
  }
  for (const std::size_t n : {std::size_t{0}, std::size_t{10}, std::size_t{40}, good.size() - 1}) {
    write(path, Bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(n)));
    CHECK_FALSE(types(folder.path()).from_cache);
  }
  Bytes longer = good;
  longer.push_back(std::byte{0});
  write(path, longer);
  CHECK_FALSE(types(folder.path()).from_cache);
  CHECK((types(folder.path()).btf == first.btf));
}

TEST_CASE("two kernels that were given the same build id do not share types") {
  const TemporaryFolder folder;
  types(folder.path());
  const DwarfTypes other = types(folder.path(), kId, fixture("dwarf.clang5"));
  CHECK_FALSE(other.from_cache);
  CHECK((other.btf == *btf_from_dwarf(fixture("dwarf.clang5"))));
}

TEST_CASE("without a build id the file itself is the key: its path, size and time") {
  const TemporaryFolder folder;
  const std::string file = folder.path() + "/vmlinux";
  const std::string cache = folder.path() + "/cache";
  fs::copy_file(fixture("dwarf.gcc5"), file);
  CHECK_FALSE(types(cache, "", file).from_cache);
  CHECK(types(cache, "", file).from_cache);
  fs::last_write_time(file, fs::last_write_time(file) + std::chrono::seconds(1));
  CHECK_FALSE(types(cache, "", file).from_cache);
  CHECK_FALSE(types(cache, "", fixture("dwarf.gcc5")).from_cache);
  // What is no build id does not become a file name either.
  CHECK_FALSE(types(cache, "../../escaped", file).cache_error.has_value());
  CHECK(files_in(folder.path()) == 2);
}

TEST_CASE("a cache that cannot be written is told, and the types are there") {
  const TemporaryFolder folder;
  const std::string file = folder.path() + "/file";
  std::ofstream(file) << "no folder";
  const DwarfTypes found = types(file + "/types");
  CHECK_FALSE(found.btf.empty());
  REQUIRE(found.cache_error.has_value());
  CHECK(found.cache_error->message.find(file) != std::string::npos);
  // A folder in the copy's place: it can be neither read nor replaced, and nothing is left behind.
  const TemporaryFolder other;
  CHECK_FALSE(types(other.path()).cache_error.has_value());
  const fs::path path = only_file_in(other.path());
  fs::remove(path);
  fs::create_directory(path);
  CHECK(types(other.path()).cache_error.has_value());
  CHECK(files_in(other.path()) == 1);
  CHECK_FALSE(types("").cache_error.has_value());
}

TEST_CASE("the cache lies where the environment says") {
  struct Restore {
    std::string cache = std::getenv("XDG_CACHE_HOME") ? std::getenv("XDG_CACHE_HOME") : "";
    std::string home = std::getenv("HOME") ? std::getenv("HOME") : "";
    ~Restore() {
      cache.empty() ? ::unsetenv("XDG_CACHE_HOME") : ::setenv("XDG_CACHE_HOME", cache.c_str(), 1);
      home.empty() ? ::unsetenv("HOME") : ::setenv("HOME", home.c_str(), 1);
    }
  } const restore;
  ::setenv("HOME", "/home/somebody", 1);
  ::setenv("XDG_CACHE_HOME", "/elsewhere", 1);
  CHECK(default_type_cache_folder() == "/elsewhere/guestscope/types");
  ::setenv("XDG_CACHE_HOME", "relative", 1);
  CHECK(default_type_cache_folder() == "/home/somebody/.cache/guestscope/types");
  ::unsetenv("XDG_CACHE_HOME");
  ::unsetenv("HOME");
  REQUIRE_FALSE(default_type_cache_folder());
  const auto found = types_from_dwarf(fixture("dwarf.gcc5"), kId);
  REQUIRE(found);
  CHECK(found->cache_error.has_value());
}

}  // namespace guestscope
