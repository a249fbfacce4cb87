#include <doctest/doctest.h>

#include "daemon/process_memory.h"
#include "tests/unit/daemon/ram_process.h"

namespace guestscope {
namespace {

using test::kPage;
using test::RamMonitor;
using test::RamProcess;
using test::StubOfProcess;

constexpr std::uint64_t kSize = 256 * kPage;
constexpr std::uint64_t kHigh = 0x100000000;

struct Guest {
  explicit Guest(bool filled = true) {
    monitor.ranges = {{0, kSize, process.map_anonymous(kSize)},
                      {kHigh, kSize, process.map_memfd(kSize)}};
    if (!filled) return;
    for (const auto& range : monitor.ranges)
      process.fill(range.host, range.size, range.guest >> 30);
  }
  std::unique_ptr<ProcessMemory> opened() {
    auto memory = ProcessMemory::open(*QemuProcess::open(process.pid()), monitor.monitor());
    REQUIRE_MESSAGE(memory, test::why(memory));
    return *std::move(memory);
  }
  StubOfProcess stub() const { return {process.pid(), monitor.ranges}; }

  RamProcess process;
  RamMonitor monitor;
};

void flip(PhysRead& read) { read.into.front() ^= std::byte{1}; }

TEST_CASE("memory that reads the same both ways is proven, in one batch of the stub") {
  Guest guest;
  StubOfProcess stub = guest.stub();
  const auto proven = guest.opened()->prove(stub);
  CHECK_MESSAGE(proven, test::why(proven));
  CHECK(stub.batches == 1);
}

TEST_CASE("the first and the last page of every range are compared, and others between") {
  Guest guest;
  const auto memory = guest.opened();
  for (const std::uint64_t page : {std::uint64_t{0}, kSize - kPage, kHigh, kHigh + kSize - kPage}) {
    CAPTURE(page);
    StubOfProcess stub = guest.stub();
    stub.spoil = [&](std::size_t, PhysRead& read) {
      if (read.address.value() == page) flip(read);
    };
    const auto proven = memory->prove(stub);
    REQUIRE_FALSE(proven);
    CHECK(proven.error().code == ErrorCode::kMismatch);
    CHECK(proven.error().address == page);
    CHECK(stub.batches == 3);
  }
  std::size_t between = 0;
  StubOfProcess stub = guest.stub();
  stub.spoil = [&](std::size_t, PhysRead& read) {
    const std::uint64_t offset = read.address.value() % kHigh;
    between += offset != 0 && offset != kSize - kPage ? 1 : 0;
  };
  REQUIRE(memory->prove(stub));
  CHECK(between >= 40);
}

TEST_CASE("a page that a device was still writing is compared again") {
  Guest guest;
  StubOfProcess stub = guest.stub();
  stub.spoil = [](std::size_t batch, PhysRead& read) {
    if (batch == 1) flip(read);
  };
  CHECK(guest.opened()->prove(stub));
  CHECK(stub.batches == 2);
}

TEST_CASE("memory of zeros proves nothing yet") {
  Guest guest(false);
  StubOfProcess stub = guest.stub();
  SUBCASE("none of it touched") {}
  SUBCASE("all of it touched") {
    for (const auto& range : guest.monitor.ranges) {
      Bytes zeros(range.size);
      REQUIRE(guest.opened()->read_one(GuestPhys(range.guest), zeros));
    }
  }
  const auto proven = guest.opened()->prove(stub);
  REQUIRE_FALSE(proven);
  CHECK(proven.error().code == ErrorCode::kNotReady);
}

// A file's pages are memory of the host once somebody reads them.
TEST_CASE("looking for pages to compare makes none that were not there") {
  Guest guest(false);
  const auto memory = guest.opened();
  guest.process.fill(guest.monitor.ranges[1].host + 100 * kPage, 8 * kPage, 1);
  std::vector<std::uint64_t> compared;
  StubOfProcess stub = guest.stub();
  stub.spoil = [&](std::size_t, PhysRead& read) { compared.push_back(read.address.value()); };
  REQUIRE(memory->prove(stub));
  CHECK(compared.size() == 8);
  for (const std::uint64_t page : compared)
    CHECK((page >= kHigh + 100 * kPage && page < kHigh + 108 * kPage));
}

TEST_CASE("a stub that reads nothing proves nothing, and its error is told") {
  Guest guest;
  StubOfProcess stub(guest.process.pid(), {});
  const auto proven = guest.opened()->prove(stub);
  REQUIRE_FALSE(proven);
  CHECK(proven.error().code == ErrorCode::kNotRam);
}

TEST_CASE("from the stub's socket to the memory, though others have the socket too") {
  Guest guest;
  auto connection = test::connect_tcp("127.0.0.1", "127.0.0.1");
  SUBCASE("the one that has the memory is taken") {
    // We have the far end as well, are older, and do not have the memory.
    RamProcess qemu;
    guest.monitor.ranges = {{0, kSize, qemu.map_anonymous(kSize)}};
    qemu.fill(guest.monitor.ranges[0].host, kSize, 3);
    StubOfProcess stub(qemu.pid(), guest.monitor.ranges);
    const auto found = ProcessMemory::choose(*processes_behind(connection.near.get()),
                                             guest.monitor.monitor(), stub);
    REQUIRE_MESSAGE(found, test::why(found));
    CHECK((*found)->process().pid() == qemu.pid());
  }
  SUBCASE("when none has it, the first one's error is told") {
    StubOfProcess stub = guest.stub();
    const auto found = ProcessMemory::choose(*processes_behind(connection.near.get()),
                                             guest.monitor.monitor(), stub);
    REQUIRE_FALSE(found);
    CHECK(found.error().code == ErrorCode::kMismatch);
  }
}

}  // namespace
}  // namespace guestscope
