// A session recorded with a real QEMU, played against today's client: what we send must be what was
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

std::vector<Turn> recorded() {
  std::ifstream file(GUESTSCOPE_TRANSCRIPT, std::ios::binary);
  REQUIRE(file);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  auto turns = read_transcript(text);
  REQUIRE(turns);
  REQUIRE(turns->size() > 10);
  return *std::move(turns);
}

TEST_CASE("a session recorded with QEMU 7.2 plays again byte for byte") {
  bool finished = false;
  auto client =
      Client::attach_over(std::make_unique<ReplayTransport>(recorded(), finished), "replay");
  REQUIRE_MESSAGE(client, (client ? "" : client.error().to_string()));
  CHECK((*client)->architecture() == "i386:x86-64");
  CHECK((*client)->threads().size() == 2);
  CHECK((*client)->ram().contains(GuestPhys(0x100000), 0x3f00000));
  CHECK_FALSE((*client)->ram().contains(GuestPhys(0xfec00000), 1));
  const auto result = testing::run_session(**client);
  REQUIRE_MESSAGE(result, (result ? "" : result.error().to_string()));
  CHECK(result->version.starts_with("7.2."));
  CHECK(result->held_first);
  CHECK(result->held_again);
  CHECK(result->device_refused);
  // The reset vector of any PC firmware: a far jump.
  CHECK(result->reset_vector[0] == std::byte{0xea});
  CHECK(std::ranges::count(result->untouched, std::byte{0}) == 5000);
  REQUIRE(result->registers.size() == 2);
  // The firmware does not page.
  for (const auto& vcpu : result->registers) {
    CHECK((vcpu[0] >> 31 & 1) == 0);
    CHECK(vcpu[1] == 0);
  }
  CHECK(finished);
}

TEST_CASE("a recorded session that breaks off anywhere is an error, never a hang or a crash") {
  const std::vector<Turn> whole = recorded();
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

}  // namespace
}  // namespace guestscope::gdb
