// ReadAhead: pieces of kernel memory one after the other, where each is looked at while the next
// one is on its way: a stub and its client take turns otherwise.
//
// Borrows the memory. Holds two pieces. Threads: one.
#pragma once

#include <array>
#include <functional>
#include <utility>

#include "introspect/kernel_memory.h"

namespace guestscope {

class ReadAhead {
 public:
  explicit ReadAhead(KernelMemory& memory) : memory_(memory) {}

  /// Calls what was put off by the last call, while the piece is being read, and puts off
  /// `take(bytes)`, a Result<ByteSpan>, which must not read from this memory.
  template <typename Take>
  void read(GuestVirt address, std::size_t size, Take take) {
    Bytes& bytes = buffers_[turn_];
    turn_ = 1 - turn_;
    bytes.resize(size);
    VirtRead request{.address = address, .into = bytes};
    memory_.read_while({&request, 1}, [this] { catch_up(); });
    put_off([take = std::move(take), &bytes, error = std::move(request.error)]() {
      take(error ? Result<ByteSpan>(std::unexpected(*error)) : Result<ByteSpan>(bytes));
    });
  }
  /// For what is to be done while the first piece is read.
  void put_off(std::function<void()> work) { work_ = std::move(work); }
  /// Does what is put off.
  void catch_up() {
    if (const auto work = std::exchange(work_, nullptr)) work();
  }

 private:
  KernelMemory& memory_;
  std::array<Bytes, 2> buffers_;
  std::size_t turn_ = 0;
  std::function<void()> work_;
};

}  // namespace guestscope
