// ElfSections: the sections of an ELF-64 file, read one at a time; the half of KernelFile that
// knows libelf.
//
// Reads through the file descriptor and maps nothing. A section's bytes are read once and live as
// long as this object. Threads: read_at() from any, the rest only while opening. Blocks on disk
// I/O.
#pragma once

#include <elf.h>
#include <libelf.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "arch/bytes.h"
#include "arch/result.h"

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

class ElfSections {
 public:
  static Result<ElfSections> open(const std::string& path);

  std::uint16_t machine() const { return machine_; }
  const std::vector<ElfSection>& all() const { return sections_; }
  /// The first of that name, or of that type; nullptr when there is none.
  const ElfSection* named(std::string_view name) const;
  const ElfSection* of_type(std::uint32_t type) const;
  /// The section's content; an error when it has none, or is compressed.
  Result<ByteSpan> content(const ElfSection& section);
  /// `size` bytes of the file.
  Result<Bytes> read_at(std::uint64_t offset, std::size_t size) const;

 private:
  class File {
   public:
    explicit File(int fd) : fd_(fd) {}
    File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    File& operator=(File&&) = delete;
    ~File();
    int get() const { return fd_; }

   private:
    int fd_;
  };
  struct EndElf {
    void operator()(Elf* elf) const { elf_end(elf); }
  };

  ElfSections(File file, std::string path) : file_(std::move(file)), path_(std::move(path)) {}
  Result<void> check_kind();
  Result<void> read_headers();

  File file_;
  std::unique_ptr<Elf, EndElf> elf_;
  std::string path_;
  std::uint64_t file_size_ = 0;
  std::uint16_t machine_ = EM_NONE;
  std::vector<ElfSection> sections_;
};

}  // namespace guestscope
