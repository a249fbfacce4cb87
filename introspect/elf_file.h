// KernelFile: an ELF kernel (vmlinux) with symbols and BTF, opened once and then only read.
//
// Only the section headers, .symtab, .strtab, .BTF and the notes are read (10 MB of a 590 MB file
// with debug information). They are read into memory and not mapped: a kernel build that truncates
// the file under us would turn a mapping into SIGBUS. symbols() and btf() point into that memory
// and live as long as this object.
//
// Threads: immutable after open(); any thread may call anything. Blocks on disk I/O. open() fails
// with one line that names the file; nothing in a hostile file can crash it.
// Source of truth: the ELF-64 object file format; libelf does the parsing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "arch/bytes.h"
#include "arch/machine.h"
#include "arch/result.h"
#include "introspect/btf.h"
#include "introspect/symbols.h"

namespace guestscope {

class KernelFile {
 public:
  /// kNotFound: no such file; kSystem: it cannot be read; kInvalidArgument: not an ELF file;
  /// kCorrupt: truncated or damaged; kUnsupported: 32-bit, big-endian, stripped or without BTF.
  static Result<std::shared_ptr<const KernelFile>> open(const std::string& path);

  KernelFile(const KernelFile&) = delete;
  KernelFile& operator=(const KernelFile&) = delete;
  ~KernelFile();

  const std::string& path() const;
  Machine machine() const;
  const SymbolTable& symbols() const;
  /// The kernel's own types.
  const Btf& btf() const;
  /// Lower-case hex; empty when the file has none.
  const std::string& build_id() const;
  /// "6.1.0-56-cloud-amd64", from linux_banner; empty when it cannot be read.
  const std::string& release() const;

  /// The file's content behind a link-time address, read from disk. kNotFound when no section holds
  /// the whole range; kUnsupported when that section has no content (.bss).
  Result<Bytes> bytes_at(std::uint64_t link_address, std::size_t n) const;

 private:
  struct Parts;
  explicit KernelFile(std::unique_ptr<Parts> parts);

  std::unique_ptr<Parts> parts_;
};

}  // namespace guestscope
