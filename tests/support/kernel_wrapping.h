// Kernel files put together in memory: an image with everything that is looked for in one, and what
// such an image is wrapped in.
#pragma once

#include <elf.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "arch/bytes.h"
#include "tests/support/btf_builder.h"
#include "tests/support/kallsyms_builder.h"

namespace guestscope::test {

constexpr std::uint64_t kWrappedText = 0xffffffff81000000;
constexpr std::string_view kWrappedRelease = "6.99.2-wrapped";
constexpr std::string_view kWrappedBuildId = "8877665544332211";

inline void put_text(Bytes& bytes, std::size_t at, std::string_view text) {
  std::memcpy(&bytes[at], text.data(), text.size());
}
inline void put_number(Bytes& bytes, std::size_t at, std::uint64_t value, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i)
    bytes[at + i] = static_cast<std::byte>(value >> (8 * i) & 0xff);
}
inline void append(Bytes& to, ByteSpan bytes) { to.insert(to.end(), bytes.begin(), bytes.end()); }

struct ImageParts {
  bool banner = true;
  bool symbols = true;
  bool types = true;
};

/// An image at `address`: banner, a build id, one in an ELF file inside, types of a program and
/// those of the kernel, and kallsyms as `shape` has them.
inline Bytes kernel_image(const KallsymsShape& shape, std::uint64_t address,
                          ImageParts parts = {}) {
  const bool per_cpu = shape.encoding == KallsymsShape::Encoding::kPerCpu;
  Bytes image = kallsyms_of(address, 300, per_cpu).image(shape, address);
  if (!parts.symbols) image.resize(KallsymsBuilder::kTables);
  std::fill_n(image.begin(), KallsymsBuilder::kTables, std::byte{});
  if (parts.banner) {
    put_text(image, 0x100, "Linux version %s (%s)\n");
    put_text(image, 0x200,
             "Linux version " + std::string(kWrappedRelease) + " (builder@host) #1\n");
  }
  const auto note = [&](std::size_t at, std::uint64_t id) {
    put_number(image, at, 4, 4);
    put_number(image, at + 4, 8, 4);
    put_number(image, at + 8, NT_GNU_BUILD_ID, 4);
    put_text(image, at + 12, "GNU");
    put_number(image, at + 16, id, 8);
  };
  put_text(image, 0x400, ELFMAG);  // a vDSO: its section table ends it
  put_number(image, 0x404, ELFCLASS64, 1);
  put_number(image, 0x400 + offsetof(Elf64_Ehdr, e_shoff), 0x200, 8);
  note(0x500, 0xdead);
  note(0x800, 0x1122334455667788);
  if (parts.types) {
    BtfBuilder program;
    const TypeId integer = program.integer("int", 4, 32, 1);
    program.aggregate(BtfKind::kStruct, "task_struct", 4, {{"what_a_program_reads", integer, 0}});
    BtfBuilder kernel;
    const TypeId pid = kernel.integer("int", 4, 32, 1);
    kernel.aggregate(BtfKind::kStruct, "task_struct", 4, {{"pid", pid, 0}});
    for (int i = 0; i < 40; ++i)
      kernel.aggregate(BtfKind::kStruct, "more_" + std::to_string(i), 4, {{"x", pid, 0}});
    const Bytes of_program = program.bytes();
    const Bytes of_kernel = kernel.bytes();
    std::ranges::copy(of_program, &image[0x1000]);
    std::ranges::copy(of_kernel, &image[0x4000]);
  }
  return image;
}

/// An ELF file of one segment and no sections, as a stripped kernel may be.
inline Bytes elf_around(ByteSpan image, std::uint64_t address, std::uint16_t machine) {
  Elf64_Ehdr header{};
  const unsigned char magic[] = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT};
  std::ranges::copy(magic, header.e_ident);
  header.e_type = ET_EXEC;
  header.e_machine = machine;
  header.e_version = EV_CURRENT;
  header.e_ehsize = sizeof header;
  header.e_phoff = sizeof header;
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = 1;
  Elf64_Phdr segment{};
  segment.p_type = PT_LOAD;
  segment.p_offset = sizeof header + sizeof segment;
  segment.p_vaddr = address;
  segment.p_filesz = image.size();
  segment.p_memsz = image.size();
  Bytes file;
  append(file, std::as_bytes(std::span(&header, 1)));
  append(file, std::as_bytes(std::span(&segment, 1)));
  append(file, image);
  return file;
}

/// The header of an arm64 Image over the image's first bytes, which is a PE file as well.
inline Bytes aarch64_image(Bytes image) {
  constexpr std::size_t kPe = 0x40;
  put_text(image, 0, "MZ");
  put_text(image, 56, "ARM\x64");
  put_number(image, 60, kPe, 4);
  put_text(image, kPe, "PE");
  put_number(image, kPe + 6, 1, 2);                         // one section
  put_number(image, kPe + 24 + 16, image.size() - 512, 4);  // its size
  put_number(image, kPe + 24 + 20, 512, 4);                 // its offset
  return image;
}

/// LZ4's legacy format, as kernels are compressed in it: one block, in which nothing is shorter.
inline Bytes lz4_legacy(ByteSpan bytes) {
  Bytes block{std::byte{0xf0}};
  std::size_t rest = bytes.size() - 15;
  for (; rest >= 255; rest -= 255) block.push_back(std::byte{255});
  block.push_back(static_cast<std::byte>(rest));
  append(block, bytes);
  Bytes stream(8);
  put_number(stream, 0, 0x184c2102, 4);
  put_number(stream, 4, block.size(), 4);
  append(stream, block);
  return stream;
}

inline Bytes with_size_word(Bytes stream, std::size_t size) {
  stream.resize(stream.size() + 4);
  put_number(stream, stream.size() - 4, size, 4);
  return stream;
}

inline Bytes bz_image(ByteSpan payload) {
  constexpr std::size_t kSectors = 2;
  constexpr std::size_t kOffset = 100;
  Bytes file((kSectors + 1) * 512 + kOffset);
  put_number(file, 0x1f1, kSectors, 1);
  put_text(file, 0x202, "HdrS");
  put_number(file, 0x206, 0x20f, 2);
  put_number(file, 0x248, kOffset, 4);
  put_number(file, 0x24c, payload.size(), 4);
  append(file, payload);
  file.resize(file.size() + 64);
  return file;
}

inline Bytes zboot_image(ByteSpan payload, std::string_view compression) {
  constexpr std::size_t kOffset = 0x400;
  Bytes file(kOffset);
  put_text(file, 0, "MZ");
  put_text(file, 4, "zimg");
  put_number(file, 8, kOffset, 4);
  put_number(file, 12, payload.size(), 4);
  put_text(file, 24, compression);
  append(file, payload);
  file.resize(file.size() + 64);
  return file;
}

}  // namespace guestscope::test
