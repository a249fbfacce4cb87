// LiveGuest: a MiniGuest behind a StubServer on a loopback port, and an Api whose session is
// attached to it: the whole daemon but for HTTP, without QEMU.
//
// Threads: the stub's and the session's run beside the test; it touches the guest's memory and the
// model inside change() only.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <string_view>

#include "daemon/api.h"
#include "tests/support/mini_guest.h"
#include "tests/support/stub_server.h"

namespace guestscope::test {

class LiveGuest {
 public:
  using Model = gdb::testing::QemuModel;

  explicit LiveGuest(const std::function<void(Model&, GuestConfig&)>& prepare = {})
      : LiveGuest(booted(), prepare) {}
  explicit LiveGuest(std::unique_ptr<MiniGuest> started,
                     const std::function<void(Model&, GuestConfig&)>& prepare = {});

  static std::unique_ptr<MiniGuest> booted() {
    return std::unique_ptr<MiniGuest>(new MiniGuest(MiniGuest::booted(load_model())));
  }

  /// Alters the guest's memory or the stub while neither moves.
  template <typename Change>
  auto change(Change what) {
    return stub.with([&](Model& model) { return what(model, *guest); });
  }
  /// The paging registers as they are now, for the stub to tell.
  void show_registers();
  std::size_t continues() {
    return stub.with([](Model& model) { return model.count("c"); });
  }

  /// The answer's body, a stream put together.
  static std::string body(const Answer& answer);
  /// The body of a path that answers 200.
  Json get(std::string_view target);
  /// Waits until /readyz answers `status`.
  void wait_for_status(int status);
  void wait_until_ready() { wait_for_status(200); }
  static void wait_until(const std::function<bool()>& done);

  std::unique_ptr<MiniGuest> guest;
  gdb::testing::StubServer stub;
  GuestSession session;
  Api api{{&session}};

 private:
  GuestConfig prepared(const std::function<void(Model&, GuestConfig&)>& prepare);
};

}  // namespace guestscope::test
