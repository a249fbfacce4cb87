// StructBatch: many structures of one layout, read in one exchange.
//
// Only the parts that hold bound fields are read (a task_struct has 10 KB, of which a decoder wants
// 200 bytes in three places); parts that lie close together are read as one, since a read costs a
// stub as much as a thousand bytes.
//
// The layout must outlive the batch; views borrow from it. Threads: one.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "introspect/kernel_memory.h"
#include "introspect/layout.h"

namespace guestscope {

class StructBatch {
 public:
  explicit StructBatch(const StructLayout& layout);

  /// Announces the structure at `address` and returns its index.
  std::size_t add(GuestVirt address);
  std::size_t size() const { return addresses_.size(); }
  GuestVirt address(std::size_t index) const { return addresses_[index]; }

  void read(KernelMemory& memory);
  /// After read(). Bytes outside the bound fields are zero. A structure of which any part could not
  /// be read is an error that names it.
  Result<StructView> operator[](std::size_t index) const;

  // See read_together().
  void announce(std::vector<VirtRead>& reads);
  void take(std::span<VirtRead>& reads);

 private:
  struct Part {
    std::uint32_t offset = 0;
    std::uint32_t size = 0;
  };

  const StructLayout* layout_;
  std::vector<Part> parts_;
  std::vector<GuestVirt> addresses_;
  std::vector<std::optional<Error>> errors_;
  Bytes bytes_;
};

/// Reads the structures at `addresses` and calls `use(index, view)` for each, in order. In steps:
/// one exchange for as many as kStructStepBytes hold.
void read_structs(KernelMemory& memory, const StructLayout& layout,
                  std::span<const GuestVirt> addresses,
                  const std::function<void(std::size_t, const Result<StructView>&)>& use);

}  // namespace guestscope
