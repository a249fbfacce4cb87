// KernelDiscovery: the kernel's symbols (kallsyms), types (BTF), build id and banner, found in the
// guest's own memory, without any file.
//
// The page tables say where the image lies; its read-only data is then read from front to back, one
// slice for each stop of the guest, until both tables have been found by their shape. Searching and
// parsing need no guest: digest() does that while it runs. Everything sought is constant from the
// kernel's first instruction on, so slices of different instants fit together. An image that moves
// (a reboot) starts the reading anew; so does one that was out of sight and is not the same any
// more. What was found is believed only by locate_kernel()'s proof, like a file.
//
// Symbol values are run-time addresses of this boot.
//
// Threads: one. Source of truth: kernel/kallsyms.c, Documentation/bpf/btf.rst,
// include/asm-generic/vmlinux.lds.h.
#pragma once

#include <map>
#include <memory>

#include "arch/processor.h"
#include "introspect/kallsyms.h"
#include "introspect/kernel_file.h"
#include "introspect/symbol_recovery.h"

namespace guestscope {

/// The likeliest image in the tables that the registers name. kNotReady when there is none.
Result<KernelImage> find_kernel_image(PhysMemory& memory, const PagingRegisters& registers);

class KernelDiscovery {
 public:
  /// `file`: a kernel file that lacks its symbols or its types, which are then sought, or null.
  explicit KernelDiscovery(std::shared_ptr<const KernelFile> file = nullptr);

  /// Reads the next slice: at most kDiscoverySliceBytes, at most what one stop may take. An error
  /// other than kNotReady (no image is mapped yet) is the memory's.
  Result<void> read_slice(PhysMemory& memory, const PagingRegisters& registers);
  /// Looks through what has been read since; takes up to some 100 ms when it finds something.
  void digest();

  /// An image is there and is being read: more can be read at once.
  bool started() const { return image_.size != 0 && !out_of_sight_; }
  const KernelImage& image() const { return image_; }
  /// Of the image; empty as long as it is not known.
  const std::string& build_id() const { return build_id_; }
  /// Nothing more to read: take() has the result.
  bool done() const { return stage_ == Stage::kDone; }
  /// What was found, joined with what the file has. Pieces that the guest's memory lacks are
  /// missing, with the reason.
  std::shared_ptr<const KernelFile> take();

  /// kNotReady, and how far it has come.
  Error progress() const;

 private:
  enum class Stage : std::uint8_t { kTables, kIdentity, kDone };

  bool wants_symbols() const { return !file_ || file_->missing_symbols().has_value(); }
  bool wants_types() const { return !file_ || file_->missing_types().has_value(); }
  void restart(const KernelImage& image, Machine machine);
  bool is_unchanged(PhysMemory& memory) const;
  const Btf* types() const;
  void read_tables(PhysMemory& memory);
  void read_pieces(PhysMemory& memory);
  void use_pieces();
  void look_for_banner();
  void look_for_notes();
  void look_for_types();
  void look_for_symbols();
  Result<Bytes> read_range(PhysMemory& memory, std::uint64_t begin, std::size_t size) const;

  std::shared_ptr<const KernelFile> file_;
  Stage stage_ = Stage::kTables;
  Machine machine_ = Machine::kOther;
  KernelImage image_{};
  GuestVirt begin_{};  // address of read_[0]
  Bytes read_;
  std::size_t next_search_ = 0;  // so much is to be read before it is looked through again
  bool at_end_ = false;
  bool out_of_sight_ = false;  // the page tables last seen had no image
  std::optional<Btf> types_;
  std::optional<SymbolTable> symbols_;
  bool functions_only_ = false;
  std::optional<Error> kallsyms_error_;
  std::vector<std::pair<std::uint64_t, std::size_t>> wanted_;  // ranges by address, to be read next
  std::map<std::uint64_t, Bytes> pieces_;                      // by address; empty: unreadable
  std::vector<RecoveredSymbol> recovered_;
  std::string build_id_;
  std::string release_;
};

}  // namespace guestscope
