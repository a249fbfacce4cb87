// TextBatch: terminated strings in guest memory, read in one exchange (more when one is long or
// crosses into another page), together with other batches if need be.
//
// Never reads beyond the page in which a string ends: what lies behind may not be mapped.
// Threads: one.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "introspect/kernel_memory.h"

namespace guestscope {

class TextBatch {
 public:
  /// Announces the string at `address` and returns its index. It is cut off after `limit` bytes.
  std::size_t add(GuestVirt address, std::size_t limit);
  std::size_t size() const { return texts_.size(); }

  void read(KernelMemory& memory) {
    read_together(memory, *this);
    finish(memory);
  }
  /// After read(), or read_together() and finish(): bytes of the guest, or why there are none.
  Result<std::string> operator[](std::size_t index) const;

  // See read_together(); finish() reads the rest of what is longer.
  void announce(std::vector<VirtRead>& reads);
  void take(std::span<VirtRead>& reads);
  void finish(KernelMemory& memory);

 private:
  struct Text {
    GuestVirt address;
    std::size_t limit = 0;
    Bytes bytes{};
    std::optional<Error> error{};

    bool is_complete() const;
  };
  std::vector<Text> texts_;
};

/// The string at each address, of which each is cut off after `limit` bytes. A null pointer is
/// kNotMapped.
std::vector<Result<std::string>> read_strings(KernelMemory& memory,
                                              std::span<const GuestVirt> addresses,
                                              std::size_t limit);

}  // namespace guestscope
