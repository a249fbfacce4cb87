// A client attached to a QemuModel, and short ways to use both.
#pragma once

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "gdbproto/client.h"
#include "tests/support/qemu_model.h"

namespace guestscope::gdb::testing {

struct Attached {
  ModelTransport* transport = nullptr;
  Result<std::unique_ptr<Client>> client;

  explicit Attached(QemuModel& model, const Options& options = {}, std::size_t chunk = 1 << 20)
      : client(attach(model, options, chunk)) {}
  Client* operator->() const { return client->get(); }
  explicit operator bool() const { return client.has_value(); }

 private:
  Result<std::unique_ptr<Client>> attach(QemuModel& model, const Options& options,
                                         std::size_t chunk) {
    auto made = std::make_unique<ModelTransport>(model);
    made->chunk = chunk;
    transport = made.get();
    return Client::attach_over(std::move(made), "model:1", options);
  }
};

inline Result<std::uint64_t> read_u64(Client& client, std::uint64_t address) {
  std::array<std::byte, 8> bytes{};
  PhysRead read{.address = GuestPhys(address), .into = bytes};
  client.read_physical({&read, 1});
  if (read.error) return std::unexpected(*std::move(read.error));
  return load_le(bytes.data(), bytes.size());
}

inline std::uint64_t expected_u64(std::uint64_t address) {
  std::array<std::byte, 8> bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = QemuModel::memory_at(address + i);
  return load_le(bytes.data(), bytes.size());
}

}  // namespace guestscope::gdb::testing
