// KernelMemory: the guest kernel's virtual memory over its physical memory, and ReadBatch, how
// decoders use it.
//
// Addresses in a linear range (the direct map, the kernel image) are translated by arithmetic, as
// the kernel itself does; everything else (vmalloc, per-CPU chunks, modules) is walked, all
// addresses of a batch together. A read may cross page borders. One batch is one exchange for the
// contents plus, when something must be walked, one for each level of the tables.
//
// Lives for one snapshot: it remembers page-table entries, which are stale once the guest has run.
// Threads: one.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "arch/address.h"
#include "arch/paging.h"
#include "arch/phys_memory.h"

namespace guestscope {

/// `size` bytes from `begin` on lie in physical memory from `phys` on, without a gap.
struct LinearRange {
  GuestVirt begin;
  std::uint64_t size = 0;
  GuestPhys phys;
};

struct VirtRead {
  GuestVirt address;
  std::span<std::byte> into;     ///< filled completely on success, unspecified on failure
  std::optional<Error> error{};  ///< set by read() when any byte of this read failed
};

class KernelMemory {
 public:
  /// Borrows `memory` and `regime` (the kernel's own root).
  KernelMemory(PhysMemory& memory, const PagingRegime& regime, std::span<const LinearRange> linear);

  /// Performs every read of the batch; clears or sets each one's `error`.
  void read(std::span<VirtRead> reads) {
    read_while(reads, [] {});
  }
  /// See PhysMemory::read_while().
  void read_while(std::span<VirtRead> reads, const std::function<void()>& work);

  Result<void> read_one(GuestVirt address, std::span<std::byte> into);
  Result<Bytes> read_bytes(GuestVirt address, std::size_t size);
  /// An unsigned little-endian number of `size` (1 to 8) bytes.
  Result<std::uint64_t> read_number(GuestVirt address, std::size_t size);
  /// Where the page tables map each address to, or where there is a hole; also of addresses that
  /// reads would translate by arithmetic.
  std::vector<Result<Translation>> translate(std::span<const GuestVirt> addresses) {
    return walker_.translate(addresses);
  }

 private:
  struct Piece;
  std::optional<LinearRange> linear_at(GuestVirt pointer) const;
  std::vector<Piece> split(std::span<VirtRead> reads) const;
  void walk(std::span<Piece> pieces);

  PhysMemory* memory_;
  const PagingRegime* regime_;
  PageWalker walker_;
  std::span<const LinearRange> linear_;
};

/// Many bytes, in steps: memory is taken for what was really read.
Result<Bytes> read_in_steps(KernelMemory& memory, GuestVirt at, std::size_t size);

/// Ranges that a decoder knows it needs now: added one by one, read at once, then looked at one by
/// one.
class ReadBatch {
 public:
  void reserve(std::size_t ranges) { ranges_.reserve(ranges); }
  /// Announces a range and returns its index. A null address is not read and yields kNotMapped.
  std::size_t add(GuestVirt address, std::size_t size);
  std::size_t size() const { return ranges_.size(); }

  void read(KernelMemory& memory);
  /// After read(): the bytes, or why there are none.
  Result<ByteSpan> operator[](std::size_t index) const;

  // What read() consists of, for read_together(): appends what is to be read, and takes back the
  // same reads when they are done.
  void announce(std::vector<VirtRead>& reads);
  void take(std::span<VirtRead>& reads);

 private:
  struct Range {
    GuestVirt address;
    std::size_t offset = 0;
    std::size_t size = 0;
    std::optional<Error> error{};
  };
  std::vector<Range> ranges_;
  Bytes bytes_;
};

/// Several batches (ReadBatch, StructBatch, one step of an RbForest) in one exchange; in none when
/// there is nothing to read.
template <typename... Batches>
void read_together(KernelMemory& memory, Batches&... batches) {
  std::vector<VirtRead> reads;
  (batches.announce(reads), ...);
  if (!reads.empty()) memory.read(reads);
  std::span<VirtRead> rest(reads);
  (batches.take(rest), ...);
}

}  // namespace guestscope
