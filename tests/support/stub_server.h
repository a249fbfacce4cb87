// StubServer: a QemuModel that listens on a loopback port, in a thread of its own.
//
// One client at a time, as QEMU: the next one is accepted when the last has gone. The model is
// shared with the test, which touches it only inside with(): what that makes the model say is sent
// at once. The address stays the same when the stub goes away and comes back.
//
// Threads: with() and the rest by any; the destructor ends the thread.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <thread>

#include "gdbproto/stub_address.h"
#include "tests/support/qemu_model.h"

namespace guestscope::gdb::testing {

class StubServer {
 public:
  StubServer();
  StubServer(const StubServer&) = delete;
  StubServer& operator=(const StubServer&) = delete;
  ~StubServer();

  StubAddress address() const { return {.host = "127.0.0.1", .port = port_}; }

  /// Calls `use(model)` while the stub does nothing.
  template <typename Use>
  auto with(Use use) {
    const std::lock_guard lock(mutex_);
    if constexpr (std::is_void_v<std::invoke_result_t<Use, QemuModel&>>) {
      use(model_);
      flush();
    } else {
      const auto result = use(model_);
      flush();
      return result;
    }
  }

  /// Closes the connection as the end of QEMU does. While `away`, clients are turned out as soon as
  /// they come.
  void hang_up(bool away = false);
  void come_back() { away_ = false; }
  /// Connections that were served.
  int accepted() const { return accepted_; }

 private:
  void run();
  void serve();
  bool flush();

  int listener_ = -1;
  std::uint16_t port_ = 0;
  std::atomic<bool> ending_ = false;
  std::atomic<bool> away_ = false;
  std::atomic<int> accepted_ = 0;

  std::mutex mutex_;
  QemuModel model_;  // guarded by mutex_
  int client_ = -1;  // guarded by mutex_

  std::thread thread_;
};

}  // namespace guestscope::gdb::testing
