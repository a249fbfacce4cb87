// Registers and memory in one exchange with the stop, and with the continue.
#include <doctest/doctest.h>

#include <array>
#include <chrono>
#include <string_view>

#include "gdbproto/client.h"
#include "tests/unit/gdbproto/client_fixture.h"

namespace guestscope::gdb {
namespace {

using testing::Attached;
using testing::expected_u64;
using testing::QemuModel;

using namespace std::chrono_literals;

constexpr std::uint64_t kSomewhere = 0x100000;

TEST_CASE("a glance stops, reads registers and memory and continues in one exchange") {
  QemuModel model;
  Attached client(model);
  REQUIRE(client);
  const std::array<std::string_view, 2> names{"cr3", "rax"};
  CHECK_FALSE(client->can_glance());
  CHECK(client->glance({}).error().code == ErrorCode::kInvalidArgument);
  REQUIRE(client->resume());
  std::array<std::byte, 8> bytes{};
  PhysRead read{.address = GuestPhys(kSomewhere), .into = bytes};
  for (int i = 0; i < 3; ++i) {
    bytes.fill(std::byte{0});
    const auto before = client->counters();
    const auto seen = client->glance(
        {.threads = client->threads().first(1), .names = names, .reads = {&read, 1}});
    REQUIRE(seen);
    CHECK(seen->size() == 1);
    CHECK(seen->front().size() == 2);
    CHECK(client->counters().round_trips - before.round_trips == 1);
    CHECK(client->counters().stops - before.stops == 1);
    CHECK_FALSE(read.error);
    CHECK(load_le(bytes.data(), 8) == expected_u64(kSomewhere));
    CHECK(model.running);
    CHECK_FALSE(client->stopped());
    REQUIRE(client->can_glance());
  }
  CHECK(client->glance({}));
  CHECK(model.running);
  CHECK(model.swallowed == 0);
}

TEST_CASE("what is to be done while the guest stands still is done before it is continued") {
  for (const bool no_ack : {false, true})
    for (const std::size_t chunk : {std::size_t{1}, std::size_t{7}, std::size_t{1} << 20}) {
      CAPTURE(no_ack);
      CAPTURE(chunk);
      QemuModel model;
      model.offers_no_ack = no_ack;
      Attached client(model, {}, chunk);
      REQUIRE(client);
      REQUIRE(client->resume());
      const std::array<std::string_view, 1> names{"cr3"};
      for (int i = 1; i <= 3; ++i) {
        const auto before = client->counters();
        int calls = 0;
        const auto seen = client->glance({.threads = client->threads().first(1),
                                          .names = names,
                                          .reads = {},
                                          .once_stopped = [&] {
                                            ++calls;
                                            CHECK_FALSE(model.running);
                                            CHECK(model.count("c") == static_cast<unsigned>(i));
                                          }});
        REQUIRE(seen);
        CHECK(seen->front().size() == 1);
        CHECK(calls == 1);
        CHECK(model.count("c") == static_cast<unsigned>(i + 1));
        CHECK(model.running);
        CHECK(client->counters().stops - before.stops == 1);
        CHECK(client->counters().round_trips - before.round_trips == 1);
        REQUIRE(client->can_glance());
      }
      CHECK(model.swallowed == 0);
      REQUIRE(client->stop());
      CHECK(client->held());
    }
}

TEST_CASE("a stop is counted from the stop reply's arrival, if that is known") {
  for (const std::size_t chunk : {std::size_t{1}, std::size_t{1} << 20})
    for (const bool known : {true, false}) {
      CAPTURE(chunk);
      CAPTURE(known);
      QemuModel model;
      Attached client(model, {}, chunk);
      REQUIRE(client);
      REQUIRE(client->resume());
      const auto before = Clock::now();
      const auto late = before + std::chrono::hours(1);
      if (known) client.transport->arrival = late;
      REQUIRE(client->stop());
      if (known && chunk == 1) {
        CHECK(client->stopped_since() == late);
      } else {  // nothing tells more than when the guest was interrupted
        CHECK(client->stopped_since() >= before);
        CHECK(client->stopped_since() <= Clock::now());
      }
      CHECK((client->last_answer_at() == late) == known);
    }
}

TEST_CASE("one late answer does not make a pause long that most answers came too early for") {
  QemuModel model;
  Attached client(model);
  REQUIRE(client);
  std::array<std::array<std::byte, 8>, 32> bytes{};
  std::vector<PhysRead> reads;
  for (std::size_t i = 0; i < bytes.size(); ++i)
    reads.push_back({.address = GuestPhys(kSomewhere + 4096 * i), .into = bytes[i]});
  const auto pause = [&](std::size_t chunk, Clock::duration between) {
    REQUIRE(client->resume());
    client.transport->chunk = chunk;
    client.transport->between = between;
    client.transport->arrival = Clock::now() + 1h;
    REQUIRE(client->stop({.threads = {}, .names = {}, .reads = reads}));
    return client->last_answer_at() - client->stopped_since();
  };
  // An answer has 20 bytes.
  CHECK(pause(20, 10us) >= 320us);
  CHECK(pause(20, 10us) <= 340us);
  CHECK(pause(600, 5ms) >= 5ms);
  CHECK(pause(600, 5ms) <= 5ms + 2 * 340us);
  CHECK(pause(1 << 20, 10us) >= 320us);
  CHECK(pause(1 << 20, 10us) <= 2 * 340us);
}

TEST_CASE("a stop with a look is one exchange and holds the guest") {
  QemuModel model;
  Attached client(model);
  REQUIRE(client);
  REQUIRE(client->resume());
  const std::array<std::string_view, 1> names{"cr3"};
  std::array<std::byte, 8> bytes{};
  PhysRead read{.address = GuestPhys(kSomewhere), .into = bytes};
  const auto before = client->counters();
  REQUIRE(client->stop({.threads = client->threads(), .names = names, .reads = {&read, 1}}));
  CHECK(client->counters().round_trips - before.round_trips == 1);
  CHECK(load_le(bytes.data(), 8) == expected_u64(kSomewhere));
  CHECK(client->held());
  CHECK_FALSE(model.running);
  REQUIRE(client->resume());
  CHECK(model.running);
}

TEST_CASE("a look at a register that is not there stops nothing") {
  QemuModel model;
  Attached client(model);
  REQUIRE(client);
  REQUIRE(client->resume());
  const std::array<std::string_view, 1> names{"r99"};
  const Look look{.threads = client->threads(), .names = names, .reads = {}};
  CHECK(client->stop(look).error().code == ErrorCode::kUnsupported);
  CHECK(client->glance(look).error().code == ErrorCode::kUnsupported);
  CHECK_FALSE(client->stopped());
  CHECK(model.running);
}

}  // namespace
}  // namespace guestscope::gdb
