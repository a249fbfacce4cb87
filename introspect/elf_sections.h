// ElfSections: the sections and segments of an ELF-64 file, on disk or in memory, read one at a
// time; the half of KernelFile that knows libelf.
//
// Reads through the file descriptor and maps nothing. A section's bytes are read once and live as
// long as this object. Threads: read_at() from any, the rest only while opening. Blocks on disk
// I/O.
#pragma once

#include <elf.h>
#include <libelf.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "arch/bytes.h"
#include "arch/result.h"
#include "introspect/input_file.h"

namespace guestscope {

struct ElfSection {
  std::string_view name;
  std::uint32_t type = 0;
  std::uint32_t link = 0;
  std::uint64_t flags = 0;
  std::uint64_t address = 0;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
};

struct ElfSegment {
  std::uint32_t type = 0;
  std::uint64_t address = 0;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;  ///< in the file
};

class ElfSections {
 public:
  static Result<ElfSections> open(const std::string& path);
  static Result<ElfSections> open(InputFile file);
  /// A file in memory. `path`: for messages.
  static Result<ElfSections> parse(Bytes file, const std::string& path);

  std::uint16_t machine() const { return machine_; }
  /// ET_EXEC, ET_DYN, ET_REL, …
  std::uint16_t type() const { return type_; }
  const std::vector<ElfSegment>& segments() const { return segments_; }
  /// May be empty: a stripped file needs no sections.
  const std::vector<ElfSection>& all() const { return sections_; }
  /// The first of that name, or of that type; nullptr when there is none.
  const ElfSection* named(std::string_view name) const;
  const ElfSection* of_type(std::uint32_t type) const;
  /// The section's content; an error when it has none, or is compressed.
  Result<ByteSpan> content(const ElfSection& section);
  /// `size` bytes of the file.
  Result<Bytes> read_at(std::uint64_t offset, std::size_t size) const;
  /// The content behind a link-time address. kNotFound when no section holds the whole range;
  /// kUnsupported when that section has no content (.bss).
  Result<Bytes> bytes_at(std::uint64_t link_address, std::size_t n) const;

 private:
  struct EndElf {
    void operator()(Elf* elf) const { elf_end(elf); }
  };

  ElfSections(std::optional<InputFile> file, Bytes memory, std::string path)
      : file_(std::move(file)), memory_(std::move(memory)), path_(std::move(path)) {}
  Result<void> read();
  std::unexpected<Error> damaged() const;
  Result<void> check_kind();
  Result<void> read_headers();
  Result<void> read_sections();
  Result<void> read_segments();

  std::optional<InputFile> file_;
  Bytes memory_;  // when there is no file
  std::unique_ptr<Elf, EndElf> elf_;
  std::string path_;
  std::uint64_t file_size_ = 0;
  std::uint16_t machine_ = EM_NONE;
  std::uint16_t type_ = ET_NONE;
  std::vector<ElfSegment> segments_;
  std::vector<ElfSection> sections_;
};

}  // namespace guestscope
