// KernelFile: what is known of one kernel: symbols, types, identity; and where each came from.
//
// open() takes whatever file of a kernel it is, told apart by content: an ELF vmlinux (symbols from
// .symtab, else from the kallsyms inside; types from .BTF, else from DWARF; either from a separate
// debug file), an x86 bzImage, an arm64 Image, an EFI
// zboot image, each of these compressed. Of an ELF file with symbols only the section headers,
// .symtab, .strtab, .BTF and the notes are read (10 MB of a 590 MB file with debug information); of
// all others, symbols and types alone stay in memory, 25 MB at most.
//
// Owns everything. Threads: immutable; any thread may call anything. open() blocks on disk I/O and
// decompresses: 0.05 s for a vmlinux, 0.2 to 0.8 s for a compressed kernel. It fails with one line
// that names the file; nothing in a hostile file can crash it.
// Source of truth: the ELF-64 object file format (libelf does the parsing), kallsyms.h,
// kernel_payload.h.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "arch/bytes.h"
#include "arch/machine.h"
#include "arch/result.h"
#include "introspect/btf.h"
#include "introspect/symbols.h"

namespace guestscope {

class ElfSections;

struct KernelFileOptions {
  /// Called before DWARF is read, if it has to be, with about how long that will take.
  std::function<void(const std::string& path, std::chrono::seconds estimate)> on_slow{};
  /// Where types made from DWARF are kept; the default folder when absent, nowhere when empty.
  std::optional<std::string> type_cache_folder{};
};

class KernelFile {
 public:
  /// A file that lacks one piece (symbols or types) still opens: see missing_symbols() and
  /// missing_types().
  /// kNotFound: no such file; kSystem: it cannot be read; kInvalidArgument: no kernel file;
  /// kCorrupt: truncated or damaged; kUnsupported: 32-bit, big-endian, compressed in an unknown
  /// way, without symbols and types.
  static Result<std::shared_ptr<const KernelFile>> open(const std::string& path,
                                                        const KernelFileOptions& options = {});

  struct Parts {
    std::string origin;  ///< the path, or "guest memory"
    Machine machine = Machine::kOther;
    std::string build_id;  ///< lower-case hex; empty when there is none
    std::string release;   ///< "6.1.0-56-cloud-amd64"; empty when it is not known
    SymbolTable symbols;
    Btf types;
    /// "ELF symbols", "kallsyms", "kallsyms (functions only)", or what else the finder says.
    std::string symbols_from;
    std::string types_from;  ///< "BTF", …
    /// Symbol values are link-time addresses: what a guest's differ by is its KASLR slide.
    /// Otherwise they are addresses of one boot, or offsets from the image's first byte (a flat
    /// Image).
    bool has_link_addresses = false;
    std::optional<Error> missing_symbols;  ///< why there are none: permanent, with what to pass
    std::optional<Error> missing_types;
    std::vector<std::string> remarks;  ///< what the user may like to know of how it was read
  };
  /// Puts together what was found elsewhere (in a guest's memory).
  static std::shared_ptr<const KernelFile> assemble(Parts parts);
  /// `file`, with the pieces that it lacks taken from `found`; without a file, assemble().
  static std::shared_ptr<const KernelFile> complete(std::shared_ptr<const KernelFile> file,
                                                    Parts found);

  KernelFile(const KernelFile&) = delete;
  KernelFile& operator=(const KernelFile&) = delete;
  ~KernelFile();

  const std::string& path() const { return parts_.origin; }
  /// For messages: "kernel file F", or what `origin` says when there is no file.
  std::string title() const { return is_file_ ? "kernel file " + parts_.origin : parts_.origin; }
  Machine machine() const { return parts_.machine; }
  /// Empty when missing.
  const SymbolTable& symbols() const { return symbols_of().parts_.symbols; }
  /// The kernel's own types; void only when missing.
  const Btf& btf() const { return types_of().parts_.types; }
  const std::string& build_id() const { return parts_.build_id; }
  const std::string& release() const { return parts_.release; }
  const std::string& symbols_from() const { return parts_.symbols_from; }
  const std::string& types_from() const { return parts_.types_from; }
  bool has_link_addresses() const { return parts_.has_link_addresses; }
  const std::optional<Error>& missing_symbols() const { return parts_.missing_symbols; }
  const std::optional<Error>& missing_types() const { return parts_.missing_types; }
  const std::vector<std::string>& remarks() const { return parts_.remarks; }
  bool is_complete() const { return !parts_.missing_symbols && !parts_.missing_types; }

  /// The content behind a link-time address, read from disk; of ELF files that have symbols only.
  /// kNotFound when no section holds the whole range; kUnsupported when that section has no content
  /// (.bss).
  Result<Bytes> bytes_at(std::uint64_t link_address, std::size_t n) const;

 private:
  KernelFile(Parts parts, std::unique_ptr<ElfSections> elf);
  const KernelFile& symbols_of() const { return lends_symbols_ ? *file_ : *this; }
  const KernelFile& types_of() const { return lends_types_ ? *file_ : *this; }

  Parts parts_;
  std::unique_ptr<ElfSections> elf_;  // parts_ borrows from it
  std::shared_ptr<const KernelFile> file_;
  bool is_file_ = false;
  bool lends_symbols_ = false;
  bool lends_types_ = false;
};

}  // namespace guestscope
