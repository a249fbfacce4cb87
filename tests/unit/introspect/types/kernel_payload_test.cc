// Kernels that are wrapped: compressed, in boot images, and without sections.
#include "introspect/kernel_payload.h"

#include <archive.h>
#include <archive_entry.h>
#include <doctest/doctest.h>
#include <elf.h>

#include "introspect/decompress.h"
#include "introspect/kernel_file.h"
#include "introspect/limits.h"
#include "tests/support/kernel_wrapping.h"
#include "tests/support/memory_file.h"
#include "type_test_support.h"

namespace guestscope {
namespace {

using namespace test;

const KallsymsShape& shape_named(std::string_view name) {
  for (const KallsymsShape& shape : KallsymsShape::all())
    if (shape.name == name) return shape;
  return KallsymsShape::all().front();
}

Bytes x86_elf(ImageParts parts = {}) {
  return elf_around(kernel_image(shape_named("6.12 x86-64"), kWrappedText, parts), kWrappedText,
                    EM_X86_64);
}
Bytes arm_image() {
  return aarch64_image(kernel_image(shape_named("6.12 arm64"), 0xffff800080000000));
}

using AddFilter = int (*)(archive*);
struct Compressor {
  const char* name;
  AddFilter add;
};
constexpr Compressor kCompressors[] = {
    {"gzip", archive_write_add_filter_gzip}, {"bzip2", archive_write_add_filter_bzip2},
    {"xz", archive_write_add_filter_xz},     {"lzma", archive_write_add_filter_lzma},
    {"zstd", archive_write_add_filter_zstd}, {"lz4", archive_write_add_filter_lz4},
};

Bytes compressed(ByteSpan bytes, AddFilter add) {
  Bytes out(bytes.size() * 2 + 4096);
  std::size_t used = 0;
  archive* handle = archive_write_new();
  archive_entry* entry = archive_entry_new();
  archive_entry_set_filetype(entry, AE_IFREG);
  archive_write_set_format_raw(handle);
  const bool good =
      add(handle) == ARCHIVE_OK && archive_write_set_bytes_in_last_block(handle, 1) == ARCHIVE_OK &&
      archive_write_open_memory(handle, out.data(), out.size(), &used) == ARCHIVE_OK &&
      archive_write_header(handle, entry) == ARCHIVE_OK &&
      archive_write_data(handle, bytes.data(), bytes.size()) ==
          static_cast<la_ssize_t>(bytes.size()) &&
      archive_write_close(handle) == ARCHIVE_OK;
  archive_entry_free(entry);
  archive_write_free(handle);
  REQUIRE(good);
  out.resize(used);
  return out;
}

constexpr std::string_view kOpened = "opened";

Error error_of(ByteSpan bytes) {
  const MemoryFile file(bytes);
  const auto opened = KernelFile::open(file.path());
  if (opened) return {.message = std::string(kOpened)};
  CHECK(opened.error().message.find(file.path()) != std::string::npos);
  CHECK(opened.error().message.find('\n') == std::string::npos);
  return opened.error();
}
bool says(const Error& error, std::string_view words) {
  INFO(error.message);
  return error.message.find(words) != std::string::npos;
}

std::shared_ptr<const KernelFile> opened(ByteSpan bytes) {
  const MemoryFile file(bytes);
  auto kernel = KernelFile::open(file.path());
  if (!kernel) FAIL(kernel.error().to_string());
  return *kernel;
}

void check_kernel(ByteSpan bytes, Machine machine) {
  const auto kernel = opened(bytes);
  CHECK(kernel->machine() == machine);
  CHECK(kernel->release() == kWrappedRelease);
  CHECK(kernel->build_id() == kWrappedBuildId);
  CHECK(kernel->symbols_from() == "kallsyms");
  CHECK(kernel->is_complete());
  const std::uint64_t base = machine == Machine::kX86_64 ? kWrappedText : 0;
  CHECK(kernel->has_link_addresses() == (base != 0));
  CHECK(kernel->symbols().require("map_idr") == base + 0x200000);
  CHECK(kernel->btf().find(BtfKind::kStruct, "task_struct"));
  CHECK(kernel->btf().find(BtfKind::kStruct, "more_39"));  // not those of a program
}

}  // namespace

TEST_CASE("an ELF file without sections is read by its segments") {
  check_kernel(x86_elf(), Machine::kX86_64);
}

TEST_CASE("an arm64 Image is read as it is") { check_kernel(arm_image(), Machine::kAarch64); }

TEST_CASE("a bzImage is read, however its kernel is compressed") {
  const Bytes elf = x86_elf();
  for (const auto& [name, add] : kCompressors) {
    CAPTURE(name);
    Bytes stream = compressed(elf, add);
    // gzip ends with the size by itself.
    if (std::string_view(name) != "gzip") stream = with_size_word(std::move(stream), elf.size());
    check_kernel(bz_image(stream), Machine::kX86_64);
  }
  check_kernel(bz_image(with_size_word(lz4_legacy(elf), elf.size())), Machine::kX86_64);
}

TEST_CASE("an EFI zboot image is read, and each kind may be compressed once more") {
  const Bytes image = arm_image();
  for (const auto& [name, add] : kCompressors) {
    CAPTURE(name);
    const Bytes zboot = zboot_image(compressed(image, add), name);
    check_kernel(zboot, Machine::kAarch64);
    check_kernel(compressed(zboot, add), Machine::kAarch64);
    check_kernel(compressed(image, add), Machine::kAarch64);
    check_kernel(compressed(compressed(image, add), add), Machine::kAarch64);
    check_kernel(compressed(x86_elf(), add), Machine::kX86_64);
  }
}

TEST_CASE("an ELF file with symbols is read the same when it is compressed") {
  const Bytes elf = file_bytes(fixture("kernel.elf"));
  const auto kernel = opened(compressed(elf, archive_write_add_filter_gzip));
  CHECK(kernel->symbols_from() == "ELF symbols");
  CHECK(kernel->release() == "6.99.0-test");
  CHECK(kernel->symbols().find("map_idr"));
}

TEST_CASE("a compressor that is not known is named, with what to pass instead") {
  Bytes lzo(200);
  put_text(lzo, 0, "\x89LZO");
  for (const Bytes& file : {lzo, bz_image(lzo)}) {
    const Error error = error_of(file);
    CHECK(error.code == ErrorCode::kUnsupported);
    CHECK(says(error, "(lzo) is not supported; pass its vmlinux"));
  }
  CHECK(says(error_of(zboot_image(Bytes(100), "brotli")), "compressed by brotli"));
  CHECK(says(error_of(zboot_image(Bytes(100), "\n\x1b")), "compressed by something"));
  CHECK(says(error_of(bz_image(Bytes(100))), "compression is unknown; pass its vmlinux"));
  Bytes old = bz_image(Bytes(100));
  put_number(old, 0x206, 0x207, 2);
  CHECK(says(error_of(old), "old protocol 0x207"));
}

TEST_CASE("a wrapped kernel cut off anywhere is an error that names it") {
  const Bytes elf = x86_elf();
  std::vector<Bytes> files = {elf, arm_image(),
                              bz_image(with_size_word(lz4_legacy(elf), elf.size()))};
  for (const auto& [name, add] : kCompressors) {
    files.push_back(compressed(elf, add));
    files.push_back(zboot_image(compressed(arm_image(), add), name));
  }
  std::size_t good = 0;
  for (const Bytes& file : files) {
    // What pads a boot image may be missing.
    const std::size_t end = file.size() - 65;
    for (std::size_t size = 1; size < end; size += size < 600 ? 23 : end / 30)
      if (error_of(ByteSpan(file).first(size)).message == kOpened) ++good;
  }
  CHECK(good == 0);
}

TEST_CASE("a stream that unpacks to more than the limit is stopped there") {
  const Bytes zeros(4 << 20);
  for (const auto& [name, add] : kCompressors) {
    CAPTURE(name);
    const Bytes stream = compressed(zeros, add);
    const auto unpacked = decompress(stream, compression_of(stream), 0, 1 << 20);
    REQUIRE_FALSE(unpacked);
    CHECK(unpacked.error().code == ErrorCode::kUnsupported);
    CHECK(decompress(stream, compression_of(stream), 0, 8 << 20)->size() == zeros.size());
  }
}

TEST_CASE("a boot image that contradicts its own size is damaged") {
  const Bytes elf = x86_elf();
  const Error error = error_of(bz_image(with_size_word(lz4_legacy(elf), elf.size() + 1)));
  CHECK(error.code == ErrorCode::kCorrupt);
  CHECK(says(error, "and not to"));
}

TEST_CASE("wrappings without end are refused") {
  Bytes file(100);
  for (unsigned i = 0; i <= kMaxKernelWrappings; ++i) file = zboot_image(lz4_legacy(file), "lz4");
  CHECK(says(error_of(file), "wrapped more than"));
}

TEST_CASE("a wrapped kernel may lack one piece, and not both") {
  const auto untyped = opened(x86_elf({.types = false}));
  CHECK(untyped->missing_types());
  CHECK(untyped->symbols().find("map_idr"));
  const auto stripped = opened(x86_elf({.symbols = false}));
  REQUIRE(stripped->missing_symbols());
  CHECK(says(*stripped->missing_symbols(), "-dbg"));
  CHECK(stripped->btf().find(BtfKind::kStruct, "task_struct"));
  const Error neither = error_of(x86_elf({.symbols = false, .types = false}));
  CHECK(neither.code == ErrorCode::kUnsupported);
  CHECK(says(neither, "neither symbols nor types"));
  const Error nothing = error_of(x86_elf({.banner = false, .symbols = false, .types = false}));
  CHECK(nothing.code == ErrorCode::kInvalidArgument);
}

TEST_CASE("segments spread over the address space are refused before memory is taken") {
  Bytes elf = x86_elf();
  constexpr std::size_t kSecond = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr);  // over the image
  put_number(elf, offsetof(Elf64_Ehdr, e_phnum), 2, 2);
  put_number(elf, kSecond + offsetof(Elf64_Phdr, p_type), PT_LOAD, 4);
  put_number(elf, kSecond + offsetof(Elf64_Phdr, p_offset), 0, 8);
  put_number(elf, kSecond + offsetof(Elf64_Phdr, p_vaddr), kWrappedText + (1ULL << 29), 8);
  put_number(elf, kSecond + offsetof(Elf64_Phdr, p_filesz), 4096, 8);
  const Error error = error_of(elf);
  CHECK(error.code == ErrorCode::kCorrupt);
  CHECK(says(error, "spread over 512 MB"));
}

}  // namespace guestscope
