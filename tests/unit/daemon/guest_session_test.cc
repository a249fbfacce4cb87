// A session and its guest over time: sharing, pauses, reboots, lost connections, an owner's pause.
#include "daemon/guest_session.h"

#include <doctest/doctest.h>

#include <atomic>
#include <latch>
#include <thread>

#include "tests/unit/daemon/live_guest.h"

namespace guestscope {
namespace {

using namespace std::chrono_literals;
using test::LiveGuest;
using test::MiniGuest;
using Model = LiveGuest::Model;

/// A snapshot that counts how often it is really taken, and waits for `gate` while it is.
struct Counted {
  std::atomic<int> taken = 0;
  std::latch gate{1};

  auto work() {
    return [this](GuestKernel&, PhysMemory&) -> Result<int> {
      gate.wait();
      return ++taken;
    };
  }
};

/// Many threads that ask the same; ask() blocks until they have all begun.
class Crowd {
 public:
  template <typename Ask>
  Crowd(int size, Ask ask) {
    for (int i = 0; i < size; ++i)
      threads_.emplace_back([this, ask] {
        ++begun_;
        ask();
      });
    LiveGuest::wait_until([&] { return begun_ == size; });
    std::this_thread::sleep_for(100ms);  // from «has begun» to «waits in the queue»
  }
  void join() {
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  std::atomic<int> begun_ = 0;
  std::vector<std::thread> threads_;
};

TEST_CASE("requests for the same that come before a snapshot is finished share it and its stop") {
  Counted counted;
  LiveGuest live;
  live.wait_until_ready();
  const std::uint64_t stops = live.session.status().pauses.count();
  std::atomic<int> sum = 0;
  Crowd crowd(8, [&] {
    const auto taken = live.session.snapshot("same", counted.work(), 20s);
    if (taken && taken->meta.stops == 1) sum += taken->value;
  });
  counted.gate.count_down();
  crowd.join();
  CHECK(counted.taken == 1);
  CHECK(sum == 8);
  CHECK(live.session.status().pauses.count() - stops == 1);
}

TEST_CASE("the answer made of a snapshot is shared by those who share it, and by nobody later") {
  Counted counted;
  LiveGuest live;
  live.wait_until_ready();
  std::atomic<int> made = 0;
  std::atomic<int> right = 0;
  const auto ask = [&](const char* as) {
    const auto answer = live.session.render(
        "same", counted.work(), as,
        [&](int taken, const SnapshotMeta& meta) {
          ++made;
          return Answer{.body = fmt::format("{}/{}", taken, meta.stops)};
        },
        20s);
    return answer ? (*answer)->body : answer.error().to_string();
  };
  Crowd crowd(8, [&] { right += ask("a") == "1/1"; });
  Crowd others(4, [&] { right += ask("b") == "1/1"; });
  counted.gate.count_down();
  crowd.join();
  others.join();
  CHECK(made == 2);
  CHECK(right == 12);
  CHECK(ask("a") == "2/1");
  CHECK(made == 3);
}

TEST_CASE("a request that comes after a snapshot is finished gets a new one") {
  Counted counted;
  LiveGuest live;
  live.wait_until_ready();
  counted.gate.count_down();
  CHECK(live.session.snapshot("same", counted.work(), 20s)->value == 1);
  CHECK(live.session.snapshot("same", counted.work(), 20s)->value == 2);
}

/// A guest of which 50 places hold how often it has been continued, each time another one by a
/// pointer that is read first. Bytes of two instants would differ.
struct Generations {
  static constexpr std::uint64_t kPointer = 0x5000000;
  static constexpr std::uint64_t kPlaces = 0x5010000;
  static constexpr std::uint64_t kCount = 50;

  explicit Generations(std::uint64_t places_in_use) : in_use(places_in_use) {
    live.wait_until_ready();
    live.change([this](LiveGuest::Model& model, MiniGuest& guest) {
      advance(guest);
      model.override_answer = [this, &guest](const std::string& packet) -> const char* {
        if (packet == "c") advance(guest);
        return nullptr;
      };
    });
  }
  ~Generations() {
    live.change([](LiveGuest::Model& model, MiniGuest&) { model.override_answer = nullptr; });
  }

  void advance(MiniGuest& guest) {
    ++generation;
    guest.memory.write_u64(kPointer, kPlaces + generation % in_use * 4096);
    guest.memory.write_u64(kPointer + 8, generation);
    for (std::uint64_t i = 0; i < kCount; ++i)
      guest.memory.write_u64(kPlaces + i * 4096, generation);
  }
  static std::uint64_t number(PhysMemory& memory, std::uint64_t at) {
    Bytes bytes(8);
    static_cast<void>(memory.read_one(GuestPhys(at), bytes));
    return load_le(bytes.data(), 8);
  }
  /// The generation twice, as one answer has it.
  Snapshot<std::pair<std::uint64_t, std::uint64_t>> take() {
    using Pair = std::pair<std::uint64_t, std::uint64_t>;
    const auto taken = live.session.snapshot(
        "generations",
        [](GuestKernel&, PhysMemory& memory) -> Result<Pair> {
          const std::uint64_t place = number(memory, kPointer);
          return Pair{number(memory, kPointer + 8), number(memory, place)};
        },
        20s);
    REQUIRE(taken);
    return *taken;
  }

  std::uint64_t in_use;
  std::uint64_t generation = 0;
  LiveGuest live;
};

TEST_CASE("what has been asked for before is had by one write") {
  Generations guest(2);
  for (int i = 0; i < 5; ++i) guest.take();
  for (int i = 0; i < 5; ++i) {
    const auto taken = guest.take();
    CHECK(taken.meta.round_trips == 1);
    CHECK(taken.meta.stops == 1);
    CHECK(taken.meta.consistent);
    CHECK(taken.value.first == taken.value.second);
  }
}

TEST_CASE("an answer is never made of two instants, however little could be foreseen") {
  for (const std::uint64_t places : {3UL, 11UL, Generations::kCount}) {
    CAPTURE(places);
    Generations guest(places);
    std::uint64_t last = 0;
    for (int i = 0; i < 40; ++i) {
      const auto taken = guest.take();
      CHECK(taken.value.first == taken.value.second);
      CHECK(taken.value.first > last);
      CHECK(taken.meta.consistent);
      last = taken.value.first;
    }
  }
}

TEST_CASE("requests for different things do not share") {
  Counted first, second;
  LiveGuest live;
  live.wait_until_ready();
  first.gate.count_down();
  second.gate.count_down();
  CHECK(live.session.snapshot("a", first.work(), 20s));
  CHECK(live.session.snapshot("b", second.work(), 20s));
  CHECK(first.taken == 1);
  CHECK(second.taken == 1);
}

TEST_CASE("a caller waits no longer than it said, and too many that wait are busy") {
  Counted slow;  // outlives the session, whose thread is in it
  LiveGuest live;
  live.wait_until_ready();
  const auto late = live.session.snapshot("slow", slow.work(), 20ms);
  REQUIRE_FALSE(late);
  CHECK(late.error().code == ErrorCode::kTimeout);
  ErrorCode last = ErrorCode::kTimeout;
  for (int i = 0; i < 1000 && last == ErrorCode::kTimeout; ++i)
    last =
        live.session
            .snapshot(
                std::to_string(i), [](GuestKernel&, PhysMemory&) -> Result<int> { return 1; }, 0ms)
            .error()
            .code;
  CHECK(last == ErrorCode::kBusy);
  slow.gate.count_down();
}

TEST_CASE("what a library throws inside a snapshot is an error of that snapshot alone") {
  LiveGuest live;
  live.wait_until_ready();
  const auto thrown = live.session.snapshot(
      "throws", [](GuestKernel&, PhysMemory&) -> Result<int> { throw std::runtime_error("no"); },
      20s);
  REQUIRE_FALSE(thrown);
  CHECK(thrown.error().code == ErrorCode::kSystem);
  CHECK(thrown.error().message == "no");
  CHECK(live.get("/maps")["maps"].empty());
}

TEST_CASE("what is thrown while the stub reads leaves the connection as it is") {
  LiveGuest live;
  live.wait_until_ready();
  const auto taken = live.session.snapshot(
      "throws",
      [](GuestKernel&, PhysMemory& memory) -> Result<int> {
        Bytes bytes(8);
        PhysRead read{.address = GuestPhys(0x5000000), .into = bytes};
        memory.read_while({&read, 1}, [] { throw std::runtime_error("no memory"); });
        return 0;
      },
      20s);
  REQUIRE_FALSE(taken);
  CHECK(taken.error().code == ErrorCode::kSystem);
  CHECK(taken.error().message == "no memory");
  CHECK(live.session.status().connection == ConnectionState::kConnected);
  CHECK(live.session.snapshot(
      "after", [](GuestKernel&, PhysMemory&) -> Result<int> { return 1; }, 20s));
  CHECK(live.change([](Model& model, MiniGuest&) { return model.running; }));
}

TEST_CASE("a ready guest about which nobody asks is not stopped") {
  LiveGuest live;
  live.wait_until_ready();
  const auto packets = live.change([](Model& model, MiniGuest&) { return model.packets.size(); });
  std::this_thread::sleep_for(400ms);
  CHECK(live.change([](Model& model, MiniGuest&) { return model.packets.size(); }) == packets);
  CHECK(live.change([](Model& model, MiniGuest&) { return model.running; }));
}

TEST_CASE("a snapshot longer than the pause budget lets the guest run in between, and says so") {
  LiveGuest live([](Model&, GuestConfig& config) { config.max_pause = 1s; });
  live.wait_until_ready();
  CHECK(live.get("/maps")["snapshot"]["consistent"] == true);
  live.session.stop();

  GuestConfig hurried = live.session.config();
  hurried.max_pause = 3ms;
  GuestSession session(hurried, live.guest->model);
  live.change([](Model& model, MiniGuest&) {
    model.override_answer = [](const std::string& packet) -> const char* {
      if (packet.starts_with('m')) std::this_thread::sleep_for(1ms);
      return nullptr;
    };
  });
  session.start();
  const Api api({&session});
  LiveGuest::wait_until([&] { return api.answer("/readyz").status == 200; });
  const std::uint64_t stops = session.status().pauses.count();
  const std::size_t continues = live.continues();
  const Json snapshot = Json::parse(LiveGuest::body(api.answer("/maps")))["snapshot"];
  CHECK(snapshot["consistent"] == false);
  CHECK(session.status().pauses.count() - stops >= 2);
  CHECK(live.continues() - continues == session.status().pauses.count() - stops);
  CHECK(live.change([](Model& model, MiniGuest&) { return model.running; }));
}

TEST_CASE("a reboot is seen at the next look, and what was known of the old boot is gone") {
  LiveGuest live;
  live.wait_until_ready();
  live.change([](Model&, MiniGuest& guest) {
    guest.memory.clear();
    guest.reset_machine();
  });
  live.show_registers();
  live.wait_for_status(503);
  CHECK(live.get("/status")["kernel"]["release"].is_null());
  CHECK(live.get("/status")["guest"]["connection"] == "connected");
  live.change([](Model&, MiniGuest& guest) {
    guest.where = {.slide = 0x2000000, .phys = 0x3000000, .page_offset = 0xffff8a0000000000};
    guest.boot();
  });
  live.show_registers();
  live.wait_until_ready();
  const Json status = live.get("/status");
  CHECK(status["guest"]["boots"] == 2);
  CHECK(status["kernel"]["kaslr_slide"] == "0x2000000");
  CHECK(status["kernel"]["page_offset"] == "0xffff8a0000000000");
}

TEST_CASE("a guest that boots is looked at by one write for as long as there is no kernel") {
  LiveGuest live(std::make_unique<MiniGuest>(test::load_model()));
  const auto cost = [&] {
    const auto taken = live.session.snapshot(
        "attempt?", [](GuestKernel&, PhysMemory&) -> Result<int> { return 0; }, 20s);
    REQUIRE(taken);
    CHECK(taken->meta.consistent);
    return taken->meta;
  };
  const auto stages = {+[](MiniGuest&) {}, +[](MiniGuest& guest) { guest.turn_paging_on(); },
                       +[](MiniGuest& guest) {
                         guest.map_image();
                         guest.fill_image();
                       }};
  for (const auto stage : stages) {
    live.change([&](Model&, MiniGuest& guest) { stage(guest); });
    live.show_registers();
    LiveGuest::wait_until([&] { return cost().round_trips == 1; });
    const auto attempts = live.session.status().kernel.maps.attempts;
    int by_one_write = 0;
    for (int i = 0; i < 8; ++i) by_one_write += cost().round_trips == 1;
    CHECK(by_one_write >= 6);  // every two seconds the RAM map is read anew
    CHECK(live.session.status().kernel.maps.attempts >= attempts + 8);
    CHECK(live.session.status().kernel.maps.last_error->code == ErrorCode::kNotReady);
  }
  live.change([](Model&, MiniGuest& guest) { guest.boot(); });
  live.show_registers();
  live.wait_until_ready();
  CHECK(live.get("/status")["guest"]["boots"] == 1);
}

TEST_CASE("a lost connection is told at once, and made anew by itself") {
  LiveGuest live;
  live.wait_until_ready();
  live.stub.hang_up(true);
  live.wait_for_status(503);
  const Answer maps = live.api.answer("/maps");
  CHECK(maps.status == 503);
  CHECK(maps.retry_after == 1);
  CHECK(Json::parse(maps.body)["code"] == "guest_unreachable");
  const Json status = live.get("/status");
  CHECK(status["guest"]["connection"] == "lost");
  CHECK(status["guest"]["run_state"].is_null());
  CHECK(status["guest"]["connection_error"].is_string());
  CHECK(status["accessors"]["maps"]["state"] == "waiting");
  live.stub.come_back();
  live.wait_until_ready();
  CHECK(live.get("/status")["guest"]["connection"] == "connected");
  CHECK(live.get("/status")["guest"]["boots"] == 1);  // the same boot still
  CHECK(live.get("/maps")["maps"].empty());
}

TEST_CASE("a connection lost in the middle of a snapshot fails it, and the guest is let go later") {
  LiveGuest live;
  live.wait_until_ready();
  live.change([](Model& model, MiniGuest&) {
    model.override_answer = [](const std::string& packet) -> const char* {
      return packet.starts_with('m') ? "nonsense" : nullptr;
    };
  });
  CHECK(live.api.answer("/maps").status == 503);
  live.change([](Model& model, MiniGuest&) { model.override_answer = nullptr; });
  live.wait_until_ready();
  CHECK(live.change([](Model& model, MiniGuest&) { return model.running; }));
}

TEST_CASE("a guest that its owner paused is read and never continued") {
  LiveGuest live([](Model& model, GuestConfig&) { model.running = false; });
  live.wait_until_ready();
  CHECK(live.get("/status")["guest"]["run_state"] == "paused");
  const Json maps = live.get("/maps");
  CHECK(maps["snapshot"]["pause_us"] == 0);
  CHECK(maps["snapshot"]["consistent"] == true);
  CHECK(live.get("/status")["pauses"]["count"] == 0);
  live.session.stop();
  CHECK(live.continues() == 0);
  CHECK_FALSE(live.change([](Model& model, MiniGuest&) { return model.running; }));
}

TEST_CASE("a pause by the owner between two snapshots is seen and respected") {
  LiveGuest live;
  live.wait_until_ready();
  live.change([](Model& model, MiniGuest&) { model.owner_stops(); });
  LiveGuest::wait_until([&] { return live.session.status().paused; });
  const std::size_t continues = live.continues();
  CHECK(live.get("/maps")["snapshot"]["pause_us"] == 0);
  CHECK(live.continues() == continues);
  CHECK_FALSE(live.change([](Model& model, MiniGuest&) { return model.running; }));
  live.change([](Model& model, MiniGuest&) { model.owner_continues(); });
  CHECK(live.get("/maps")["snapshot"]["pause_us"] > 0);
  CHECK(live.get("/status")["guest"]["run_state"] == "running");
}

TEST_CASE("stopping the session leaves the guest running and answers those who wait") {
  LiveGuest live;
  live.wait_until_ready();
  live.session.stop();
  CHECK(live.change([](Model& model, MiniGuest&) { return model.running; }));
  const auto after =
      live.session.snapshot("x", [](GuestKernel&, PhysMemory&) -> Result<int> { return 1; }, 20s);
  REQUIRE_FALSE(after);
  CHECK(after.error().code == ErrorCode::kUnreachable);
}

}  // namespace
}  // namespace guestscope
