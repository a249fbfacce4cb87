// StubMemory: PhysMemory over a Client.
//
// Does not own the client, which must outlive it and is used by the same thread. The guest must be
// stopped (Client::stop()) while reading; each batch is one exchange.
#pragma once

#include <span>

#include "arch/phys_memory.h"
#include "gdbproto/client.h"

namespace guestscope::gdb {

class StubMemory final : public PhysMemory {
 public:
  explicit StubMemory(Client& client) : client_(client) {}

  void read(std::span<PhysRead> reads) override { client_.read_physical(reads); }
  void read_while(std::span<PhysRead> reads, const std::function<void()>& work) override {
    client_.read_physical(reads, work);
  }

 private:
  Client& client_;
};

}  // namespace guestscope::gdb
