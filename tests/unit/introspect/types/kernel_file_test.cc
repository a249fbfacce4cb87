#include "introspect/kernel_file.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "introspect/limits.h"
#include "type_test_support.h"

namespace guestscope {
namespace {

namespace fs = std::filesystem;

// A folder of its own for each test, gone afterwards.
class Folder {
 public:
  Folder() {
    std::string pattern = (fs::temp_directory_path() / "guestscope-elf-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { fs::remove_all(path_); }

  std::string path(const std::string& name = "") const { return (path_ / name).string(); }
  std::string write(const std::string& name, ByteSpan bytes) const {
    std::ofstream file(path(name), std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    return path(name);
  }

 private:
  fs::path path_;
};

Error open_error(const std::string& path) {
  const auto file = KernelFile::open(path);
  if (file) return {.message = "opened"};
  CHECK(file.error().message.find(path) != std::string::npos);
  CHECK(file.error().message.find('\n') == std::string::npos);
  return file.error();
}

}  // namespace

TEST_CASE("a kernel file has symbols, types, a build id, a release and a machine") {
  const auto file = KernelFile::open(fixture("kernel.elf"));
  if (!file) FAIL(file.error().to_string());
  CHECK((*file)->machine() == Machine::kX86_64);
  CHECK((*file)->build_id() == "00112233445566778899aabbccddeeff");
  CHECK((*file)->release() == "6.99.0-test");
  CHECK((*file)->path() == fixture("kernel.elf"));
  CHECK((*file)->symbols().find("map_idr"));
  CHECK((*file)->btf().find(BtfKind::kStruct, "everything"));
}

TEST_CASE("a file for another machine opens and says so") {
  const Folder folder;
  Bytes bytes = file_bytes(fixture("kernel.elf"));
  bytes[18] = std::byte{0xb7};  // EM_AARCH64
  const auto arm64 = KernelFile::open(folder.write("arm64", bytes));
  if (!arm64) FAIL(arm64.error().to_string());
  CHECK((*arm64)->machine() == Machine::kAarch64);
  bytes[18] = std::byte{0xf3};  // EM_RISCV
  const auto other = KernelFile::open(folder.write("riscv", bytes));
  if (!other) FAIL(other.error().to_string());
  CHECK((*other)->machine() == Machine::kOther);
}

TEST_CASE("an object file or a module is no kernel") {
  CHECK(open_error(fixture("types.bpf.o")).message.find("an object file or a kernel module") !=
        std::string::npos);
}

TEST_CASE("the content behind a link-time address is read from its section") {
  const auto file = KernelFile::open(fixture("kernel.elf"));
  REQUIRE(file);
  const auto address = [&](const char* name) { return (*file)->symbols().require(name).value(); };
  const auto numbers = (*file)->bytes_at(address("initialised") + 4, 8);
  REQUIRE(numbers);
  CHECK(load_le(numbers->data(), 8) == 0x300000002);
  CHECK(load_le((*file)->bytes_at(address("runqueues"), 4)->data(), 4) == 7);
  CHECK((*file)->bytes_at(address("zeroed"), 4).error().code == ErrorCode::kUnsupported);
  CHECK((*file)->bytes_at(address("initialised"), 1 << 20).error().code == ErrorCode::kNotFound);
  CHECK((*file)->bytes_at(address("initialised"), SIZE_MAX).error().code == ErrorCode::kNotFound);
  CHECK((*file)->bytes_at(UINT64_MAX, 1).error().code == ErrorCode::kNotFound);
  CHECK((*file)->bytes_at(0x5000, 1).error().code == ErrorCode::kNotFound);
}

TEST_CASE("what is not a file, or no ELF file, is refused for its reason") {
  const Folder folder;
  CHECK(open_error(folder.path("missing")).code == ErrorCode::kNotFound);
  const Error directory = open_error(folder.path("."));
  CHECK(directory.code == ErrorCode::kInvalidArgument);
  CHECK(directory.message.ends_with("is a directory"));
  CHECK(open_error(folder.write("empty", {})).message.ends_with("is empty"));
  const Error text = open_error(folder.write("text", Memory(200).text(0, "#!/bin/sh\n")));
  CHECK(text.code == ErrorCode::kInvalidArgument);
  CHECK(text.message.find("is no kernel: neither an ELF file nor a bzImage") != std::string::npos);
  CHECK(open_error(folder.write("short", Memory(2).text(0,
                                                        "\x7f"
                                                        "E")))
            .code == ErrorCode::kInvalidArgument);
}

TEST_CASE("a FIFO is refused at once and not waited for") {
  const Folder folder;
  REQUIRE(::mkfifo(folder.path("fifo").c_str(), 0600) == 0);
  CHECK(open_error(folder.path("fifo")).message.ends_with("is not a regular file"));
}

TEST_CASE("a 32-bit and a big-endian file are refused as such") {
  const Folder folder;
  Bytes bytes = file_bytes(fixture("kernel.elf"));
  bytes[4] = std::byte{1};
  CHECK(open_error(folder.write("narrow", bytes)).message.ends_with("is a 32-bit one"));
  bytes[4] = std::byte{2};
  bytes[5] = std::byte{2};
  const Error swapped = open_error(folder.write("swapped", bytes));
  CHECK(swapped.code == ErrorCode::kUnsupported);
  CHECK(swapped.message.ends_with("is big-endian"));
}

TEST_CASE("a file that lacks symbols or types opens, and says what it lacks and what to pass") {
  const auto stripped = KernelFile::open(fixture("kernel.stripped"));
  if (!stripped) FAIL(stripped.error().to_string());
  REQUIRE((*stripped)->missing_symbols());
  CHECK_FALSE((*stripped)->missing_types());
  CHECK_FALSE((*stripped)->is_complete());
  CHECK((*stripped)->missing_symbols()->code == ErrorCode::kUnsupported);
  CHECK((*stripped)->missing_symbols()->message.find("has no symbols of variables") !=
        std::string::npos);
  CHECK((*stripped)->missing_symbols()->message.find("-dbg") != std::string::npos);
  CHECK((*stripped)->types_from() == "BTF");
  CHECK((*stripped)->symbols_from().empty());

  const auto untyped = KernelFile::open(fixture("kernel.nobtf"));
  if (!untyped) FAIL(untyped.error().to_string());
  REQUIRE((*untyped)->missing_types());
  CHECK_FALSE((*untyped)->missing_symbols());
  CHECK((*untyped)->missing_types()->message.find(
            "neither BTF (CONFIG_DEBUG_INFO_BTF) nor DWARF") != std::string::npos);
  CHECK((*untyped)->symbols_from() == "ELF symbols");
}

TEST_CASE("a program is no kernel, even with symbols") {
  const Error program = open_error("/proc/self/exe");
  CHECK(program.code == ErrorCode::kInvalidArgument);
  CHECK(program.message.find("is no Linux kernel") != std::string::npos);
}

TEST_CASE("what a file lacks is taken from elsewhere, what it has is kept") {
  const auto stripped = KernelFile::open(fixture("kernel.stripped"));
  const auto untyped = KernelFile::open(fixture("kernel.nobtf"));
  REQUIRE(stripped);
  REQUIRE(untyped);
  const auto found = [] {
    KernelFile::Parts parts;
    parts.origin = "guest memory";
    parts.release = "6.0-elsewhere";
    Kallsyms table;
    table.names = "elsewhere";
    table.symbols.push_back({.value = 5, .name = 0, .name_size = 9, .type = 'T'});
    parts.symbols = SymbolTable::from_kallsyms(std::move(table), "guest memory");
    parts.symbols_from = "kallsyms";
    parts.types = fixture_btf();
    parts.types_from = "BTF in guest memory";
    return parts;
  };
  const auto named = KernelFile::complete(*stripped, found());
  CHECK(named->is_complete());
  CHECK(named->path() == fixture("kernel.stripped"));
  CHECK(named->release() == "6.99.0-test");
  CHECK(named->symbols().find("elsewhere"));
  CHECK_FALSE(named->has_link_addresses());
  CHECK(named->types_from() == "BTF");
  CHECK(&named->btf() == &(*stripped)->btf());
  const auto typed = KernelFile::complete(*untyped, found());
  CHECK(typed->is_complete());
  CHECK(typed->symbols().find("map_idr"));
  CHECK(typed->has_link_addresses());
  CHECK(typed->types_from() == "BTF in guest memory");
  CHECK(typed->btf().find(BtfKind::kStruct, "everything"));
  CHECK(KernelFile::complete(nullptr, found())->path() == "guest memory");
}

TEST_CASE("a file truncated at any length is refused and harms nothing") {
  const Folder folder;
  const Bytes whole = file_bytes(fixture("kernel.elf"));
  REQUIRE(whole.size() > 1000);
  std::size_t refused = 0;
  std::size_t tried = 0;
  for (std::size_t size = 1; size < whole.size(); size += size < 512 ? 1 : 61) {
    const std::string path = folder.write("cut", ByteSpan(whole).first(size));
    ++tried;
    if (!KernelFile::open(path)) ++refused;
  }
  CHECK(refused == tried);
  CHECK_FALSE(KernelFile::open(folder.write("cut", ByteSpan(whole).first(whole.size() - 1))));
}

TEST_CASE("headers with any one byte changed harm nothing") {
  const Folder folder;
  const Bytes whole = file_bytes(fixture("kernel.elf"));
  const std::size_t sections = load_le(&whole[0x28], 8);  // e_shoff
  const std::string path = folder.write("changed", whole);
  std::fstream changed(path, std::ios::binary | std::ios::in | std::ios::out);
  const auto put = [&](std::size_t at, int value) {
    changed.seekp(static_cast<std::streamoff>(at)).put(static_cast<char>(value)).flush();
  };
  const auto try_changing = [&](std::size_t at) {
    for (const int value : {0x00, 0x01, 0x7f, 0xff}) {
      put(at, value);
      const auto file = KernelFile::open(path);
      if (!file) continue;
      (void)(*file)->bytes_at(0xffffffff81000000, 16);
      (void)(*file)->symbols().find("map_idr");
    }
    put(at, std::to_integer<int>(whole[at]));
  };
  for (std::size_t at = 0; at < 64; ++at) try_changing(at);
  for (std::size_t at = sections; at < whole.size(); ++at) try_changing(at);
  CHECK(KernelFile::open(path));
}

TEST_CASE("a file that is truncated while it is open gives an error and no signal") {
  const Folder folder;
  const std::string path = folder.write("live", file_bytes(fixture("kernel.elf")));
  const auto file = KernelFile::open(path);
  REQUIRE(file);
  const std::uint64_t address = (*file)->symbols().require("initialised").value();
  fs::resize_file(path, 64);
  CHECK((*file)->bytes_at(address, 16).error().code == ErrorCode::kCorrupt);
  CHECK((*file)->symbols().find("map_idr"));
  CHECK((*file)->btf().find(BtfKind::kStruct, "everything"));
}

}  // namespace guestscope
