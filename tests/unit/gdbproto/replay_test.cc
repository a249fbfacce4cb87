// Sessions recorded with real QEMUs, played against today's client: what we send must be what was
// sent then, byte for byte, and what we make of the answers must be right.
#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "tests/unit/gdbproto/recorded_session.h"
#include "tests/unit/gdbproto/transcript.h"

namespace guestscope::gdb {
namespace {

using testing::read_transcript;
using testing::ReplayTransport;
using testing::Turn;

constexpr const char* kSessions[] = {"qemu-7.2-x86_64.txt", "qemu-10.0-x86_64.txt",
                                     "qemu-7.2-aarch64-a57.txt", "qemu-10.0-aarch64-max-el3.txt"};

std::vector<Turn> recorded(const std::string& name) {
  std::ifstream file(GUESTSCOPE_TRANSCRIPTS + name, std::ios::binary);
  REQUIRE(file);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  auto turns = read_transcript(text);
  REQUIRE(turns);
  REQUIRE(turns->size() > 10);
  return *std::move(turns);
}

// A session played again: the client, for what it found out, and what the session gave.
struct Played {
  bool finished = false;
  std::unique_ptr<Client> client;
  testing::SessionResult result;

  explicit Played(const std::string& name) {
    auto attached =
        Client::attach_over(std::make_unique<ReplayTransport>(recorded(name), finished), "replay");
    REQUIRE_MESSAGE(attached, (attached ? "" : attached.error().to_string()));
    client = *std::move(attached);
    auto done = testing::run_session(*client);
    REQUIRE_MESSAGE(done, (done ? "" : done.error().to_string()));
    result = *std::move(done);
  }

  bool known_starts_with(std::initializer_list<unsigned> bytes) const {
    return std::ranges::equal(
        bytes, std::span(result.known).first(bytes.size()),
        [](unsigned one, std::byte other) { return std::byte(one) == other; });
  }
};

void check_common(const Played& played, std::string_view version) {
  CHECK(played.finished);
  CHECK(played.client->threads().size() == 2);
  CHECK(played.result.version.starts_with(version));
  CHECK(played.result.held_first);
  CHECK(played.result.held_again);
  CHECK(played.result.device_refused);
  CHECK(std::ranges::count(played.result.untouched, std::byte{0}) == 5000);
  CHECK(played.result.registers.size() == 2);
}

TEST_CASE("sessions recorded with QEMU 7.2 and 10.0 on x86 play again byte for byte") {
  for (const auto& [name, version] : {std::pair{kSessions[0], "7.2."}, {kSessions[1], "10.0."}}) {
    CAPTURE(name);
    const Played played(name);
    check_common(played, version);
    CHECK(played.client->architecture() == "i386:x86-64");
    CHECK(played.client->ram().contains(GuestPhys(0x100000), 0x3f00000));
    CHECK_FALSE(played.client->ram().contains(GuestPhys(0xfec00000), 1));
    // The reset vector of any PC firmware: a far jump.
    CHECK(played.known_starts_with({0xea}));
    // The firmware does not page.
    for (const auto& vcpu : played.result.registers) {
      CHECK((vcpu[0] >> 31 & 1) == 0);
      CHECK(vcpu[1] == 0);
    }
  }
}

TEST_CASE("sessions recorded with QEMU 7.2 and 10.0 on arm64 play again byte for byte") {
  for (const auto& [name, version] : {std::pair{kSessions[2], "7.2."}, {kSessions[3], "10.0."}}) {
    CAPTURE(name);
    const Played played(name);
    check_common(played, version);
    CHECK(played.client->architecture() == "aarch64");
    REQUIRE(played.client->ram().blocks().size() == 1);
    CHECK(played.client->ram().blocks()[0] == RamBlock{GuestPhys(0x40000000), 64 << 20});
    // A device tree's magic number.
    CHECK(played.known_starts_with({0xd0, 0x0d, 0xfe, 0xed}));
    // QEMU's own names: SCTLR_EL1 is just SCTLR. Without EL2 its registers are not there.
    const bool el2 = name == kSessions[3];
    CHECK(played.client->has_register("SCTLR"));
    CHECK_FALSE(played.client->has_register("SCTLR_EL1"));
    for (const char* optional : {"HCR_EL2", "TCR_EL2", "TTBR1_EL2", "SCTLR_EL2"})
      CHECK(played.client->has_register(optional) == el2);
    CHECK(played.result.names.size() == (el2 ? 9 : 5));
    for (const auto& vcpu : played.result.registers) {
      REQUIRE(vcpu.size() == played.result.names.size());
      CHECK(vcpu[0] == 0);
      CHECK((vcpu[2] & 1) == 0);
      // CurrentEL is in the processor state: 1, and 3 where the machine has it.
      CHECK((vcpu[4] >> 2 & 3) == (el2 ? 3 : 1));
    }
  }
}

TEST_CASE("a recorded session that breaks off anywhere is an error, never a hang or a crash") {
  for (const char* name : kSessions) {
    CAPTURE(name);
    const std::vector<Turn> whole = recorded(name);
    // The very last turn is our acknowledgement of the answer to D: the session is over by then.
    for (std::size_t cut = 0; cut + 1 < whole.size(); ++cut) {
      bool finished = false;
      const std::vector<Turn> part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(cut));
      Options options;
      options.detach_timeout = std::chrono::milliseconds(1);
      auto client =
          Client::attach_over(std::make_unique<ReplayTransport>(part, finished), "replay", options);
      if (client) CHECK_FALSE(testing::run_session(**client));
    }
  }
}

}  // namespace
}  // namespace guestscope::gdb
