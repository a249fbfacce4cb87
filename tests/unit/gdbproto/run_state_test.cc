// Whose pause it is: who continues the guest, and how it is left.
#include <doctest/doctest.h>

#include "gdbproto/client.h"
#include "tests/unit/gdbproto/client_fixture.h"

namespace guestscope::gdb {
namespace {

using testing::Attached;
using testing::expected_u64;
using testing::QemuModel;
using testing::read_u64;

TEST_CASE("a guest that was running is left running, with what QEMU remembers reset") {
  QemuModel model;
  {
    REQUIRE(Attached(model));
  }
  CHECK(model.running);
  CHECK(model.detached == 1);
  CHECK_FALSE(model.physical);
}

TEST_CASE("leaving while the guest runs stops it once more, resets, and lets it run") {
  QemuModel model;
  {
    Attached client(model);
    REQUIRE(client);
    REQUIRE(client->resume());
  }
  CHECK(model.running);
  CHECK(model.detached == 1);
  CHECK_FALSE(model.physical);
  CHECK(model.swallowed == 0);
}

TEST_CASE("a guest that was not running is never continued, not even by leaving") {
  for (const char* status : {"paused (prelaunch)", "paused"}) {
    QemuModel model;
    model.running = false;
    model.status = status;
    {
      Attached client(model);
      REQUIRE(client);
      CHECK_FALSE(client->held());
      CHECK(client->run_state() == RunState::kPaused);
      CHECK(read_u64(**client.client, 0x100000));
      CHECK(client->resume());
      CHECK(client->stop());
      CHECK(client->stop(Look{}));
      CHECK(client->resume());
      CHECK_FALSE(client->can_glance());
      CHECK_FALSE(client->glance({}));
    }
    CHECK_FALSE(model.running);
    CHECK(model.detached == 0);
    CHECK(model.count("c") == 0);
    CHECK_FALSE(model.physical);
  }
}

// The guest that we have continued is paused by its owner, which the stub has told or not, and
// looked at; then it runs again.
template <typename Look>
void look_at_paused(Look look) {
  for (const bool told : {true, false}) {
    CAPTURE(told);
    QemuModel model;
    Attached client(model);
    REQUIRE(client);
    REQUIRE(client->resume());
    if (told)
      model.owner_stops();
    else
      model.running = false;
    look(model, client, told);
    model.owner_continues();
    REQUIRE(client->stop());
    CHECK(client->held());
    REQUIRE(client->resume());
    CHECK(client->can_glance());
    CHECK(model.running);
  }
}

TEST_CASE("a glance at a guest that its owner has paused does not continue it") {
  look_at_paused([](const QemuModel& model, const Attached& client, bool told) {
    static_cast<void>(client->glance({}));
    CHECK_FALSE(model.running);
    CHECK_FALSE(client->held());
    CHECK(client->run_state() == RunState::kPaused);
    CHECK(model.count("c") == (told ? 1 : 2));  // the first is resume()'s
    CHECK(client->glance({}).error().code == ErrorCode::kNotReady);
  });
}

TEST_CASE("nothing is done at a guest that its owner has paused, and it is not continued") {
  look_at_paused([](const QemuModel& model, const Attached& client, bool /*told*/) {
    int calls = 0;
    static_cast<void>(client->glance(
        {.threads = client->threads(), .names = {}, .reads = {}, .once_stopped = [&] {
           ++calls;
         }}));
    CHECK(calls == 0);
    CHECK_FALSE(model.running);
    CHECK_FALSE(client->can_glance());
    CHECK(client->run_state() == RunState::kPaused);
    CHECK(model.count("c") == 1);  // resume()'s
  });
}

TEST_CASE("a guest that its owner continues while something is done is not glanced at") {
  QemuModel model;
  Attached client(model);
  REQUIRE(client);
  REQUIRE(client->resume());
  CHECK_FALSE(
      client->glance({.threads = client->threads(), .names = {}, .reads = {}, .once_stopped = [&] {
                        model.owner_continues();
                      }}));
  CHECK(model.swallowed == 0);
}

TEST_CASE("a newer QEMU does not tell of the stop at attach: a plain pause is taken for ours") {
  QemuModel model;
  model.replies_on_demand = true;
  model.version = "9.2.0";
  {
    Attached client(model);
    REQUIRE(client);
    CHECK(client->held());
    REQUIRE(client->resume());
    REQUIRE(client->stop());
    CHECK(client->held());
  }
  CHECK(model.running);
}

TEST_CASE("a newer QEMU before its start, or with assume_running off, is the owner's") {
  for (const bool prelaunch : {true, false}) {
    QemuModel model;
    model.replies_on_demand = true;
    model.version = "10.0.2";
    model.running = !prelaunch;
    if (prelaunch) model.status = "paused (prelaunch)";
    Options options;
    options.assume_running = prelaunch;
    {
      Attached client(model, options);
      REQUIRE(client);
      CHECK_FALSE(client->held());
    }
    CHECK_FALSE(model.running);
  }
}

TEST_CASE("8.0 still tells of the stop, 8.1 does not") {
  for (const auto& [version, held] : {std::pair{"8.0.5", false},
                                      {"8.1.0", true},
                                      {"7.2.0", false},
                                      {"11.0", true},
                                      {"?", true}}) {
    CAPTURE(version);
    QemuModel model;
    model.running = false;
    model.version = version;
    const Attached client(model);
    REQUIRE(client);
    CHECK(client->held() == held);
  }
}

TEST_CASE("a guest that our last client left held is ours again when the caller says so") {
  QemuModel model;
  model.running = false;
  Options options;
  options.guest_was_held = true;
  {
    Attached client(model, options);
    REQUIRE(client);
    CHECK(client->held());
  }
  CHECK(model.running);
}

TEST_CASE("stop and resume, again and again, swallow no byte and count their stops") {
  QemuModel model;
  Attached client(model);
  REQUIRE(client);
  const auto before = client->counters().stops;
  for (int i = 0; i < 10; ++i) {
    REQUIRE(client->resume());
    CHECK(model.running);
    CHECK(client->resume());
    REQUIRE(client->stop());
    CHECK(client->stop());
    CHECK_FALSE(model.running);
    CHECK(client->held());
    CHECK(*read_u64(**client.client, 0x100000) == expected_u64(0x100000));
  }
  CHECK(client->counters().stops - before == 10);
  CHECK(model.swallowed == 0);
}

TEST_CASE("the owner's stop is noticed, acknowledged once, and kept") {
  QemuModel model;
  {
    Attached client(model);
    REQUIRE(client);
    REQUIRE(client->resume());
    const int acks = model.acks;
    model.owner_stops();
    REQUIRE(client->poll_idle());
    CHECK(client->run_state() == RunState::kPaused);
    CHECK(model.acks == acks + 1);
    CHECK_FALSE(model.unacknowledged());
    REQUIRE(client->poll_idle());
    CHECK(model.acks == acks + 1);
    REQUIRE(client->stop());
    CHECK_FALSE(client->held());
    CHECK(read_u64(**client.client, 0x100000));
    REQUIRE(client->resume());
    CHECK_FALSE(model.running);
  }
  CHECK_FALSE(model.running);
  CHECK(model.detached == 0);
}

TEST_CASE("in no-ack mode the owner's stop is noticed and not acknowledged") {
  QemuModel model;
  model.offers_no_ack = true;
  Attached client(model);
  REQUIRE(client);
  REQUIRE(client->resume());
  model.owner_stops();
  const auto sent = client->counters().bytes_sent;
  REQUIRE(client->poll_idle());
  CHECK(client->run_state() == RunState::kPaused);
  CHECK(client->counters().bytes_sent == sent);
}

TEST_CASE("the owner's stop is noticed by stop() as well") {
  QemuModel model;
  Attached client(model);
  REQUIRE(client);
  REQUIRE(client->resume());
  model.owner_stops();
  REQUIRE(client->stop());
  CHECK_FALSE(client->held());
  CHECK(client->run_state() == RunState::kPaused);
}

TEST_CASE("a guest that its owner stops and continues is interrupted again by stop()") {
  QemuModel model;
  Attached client(model);
  REQUIRE(client);
  REQUIRE(client->resume());
  model.owner_stops();
  REQUIRE(client->poll_idle());
  model.owner_continues();
  REQUIRE(client->poll_idle());
  CHECK(model.running);
  REQUIRE(client->stop());
  CHECK(client->held());
  CHECK(client->run_state() == RunState::kRunning);
  REQUIRE(client->resume());
  CHECK(model.running);
  CHECK(model.swallowed == 0);
}

TEST_CASE("a guest that its owner continues between our reads is stopped by the next, and held") {
  for (const bool newer : {false, true}) {
    QemuModel model;
    model.running = false;
    model.replies_on_demand = newer;
    model.status = "paused (prelaunch)";
    Attached client(model);
    REQUIRE(client);
    CHECK_FALSE(client->held());
    model.owner_continues();
    CHECK(*read_u64(**client.client, 0x100000) == expected_u64(0x100000));
    CHECK(client->held());
    CHECK(client->run_state() == RunState::kRunning);
    REQUIRE(client->resume());
    CHECK(model.running);
    CHECK(model.swallowed == 0);
  }
}

TEST_CASE("polling a running guest sends nothing") {
  QemuModel model;
  Attached client(model);
  REQUIRE(client);
  REQUIRE(client->resume());
  const auto sent = client->counters().bytes_sent;
  for (int i = 0; i < 5; ++i) CHECK(client->poll_idle());
  CHECK(client->counters().bytes_sent == sent);
  CHECK(model.running);
}

TEST_CASE("another client's multiprocess leftover is lived with, and left with D;PID") {
  QemuModel model;
  model.multiprocess = true;
  model.physical = true;
  {
    Attached client(model);
    REQUIRE(client);
    CHECK(client->threads()[0] == ThreadId{.pid = 1, .tid = 1});
    const std::string_view rax = "rax";
    const auto values = client->registers(client->threads(), {&rax, 1});
    REQUIRE(values);
    CHECK((*values)[1][0] == 0x22);
  }
  CHECK(model.count("D;1") == 1);
  CHECK(model.running);
  CHECK_FALSE(model.physical);
}

TEST_CASE("a lost connection is noticed while idle, and everything fails at once afterwards") {
  QemuModel model;
  Attached client(model);
  REQUIRE(client);
  REQUIRE(client->resume());
  client.transport->closed = true;
  CHECK(client->poll_idle().error().code == ErrorCode::kUnreachable);
  CHECK(client->stop().error().code == ErrorCode::kUnreachable);
}

TEST_CASE("a client that broke while it held the guest still lets it run") {
  QemuModel model;
  {
    Attached client(model);
    REQUIRE(client);
    model.override_answer = [](const std::string& packet) {
      return packet.starts_with('m') ? "0" : nullptr;
    };
    CHECK(read_u64(**client.client, 0x100000).error().code == ErrorCode::kProtocol);
  }
  CHECK(model.running);
  CHECK(model.detached == 1);
  CHECK_FALSE(model.physical);
}

TEST_CASE("a client that broke leaves the owner's pause alone") {
  QemuModel model;
  model.running = false;
  {
    Attached client(model);
    REQUIRE(client);
    model.override_answer = [](const std::string& packet) {
      return packet.starts_with('m') ? "0" : nullptr;
    };
    CHECK_FALSE(read_u64(**client.client, 0x100000));
  }
  CHECK_FALSE(model.running);
  CHECK(model.detached == 0);
}

TEST_CASE("detaching twice sends one D") {
  QemuModel model;
  {
    Attached client(model);
    REQUIRE(client);
    CHECK(client->detach());
    CHECK(client->detach());
  }
  CHECK(model.detached == 1);
}

}  // namespace
}  // namespace guestscope::gdb
