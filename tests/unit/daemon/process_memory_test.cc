#include "daemon/process_memory.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <thread>

#include "tests/unit/daemon/ram_process.h"

namespace guestscope {
namespace {

using test::kPage;
using test::RamMonitor;
using test::RamProcess;
using test::StubOfProcess;

// A guest of 64 pages of RAM at 0, ROM behind, 64 pages above a hole on a memfd and, touching in
// the guest but not in the process, 64 pages on a file.
struct Guest {
  static constexpr std::uint64_t kSize = 64 * kPage;
  static constexpr std::uint64_t kHigh = 0x100000000;

  Guest() {
    monitor.ranges = {{0, kSize, process.map_anonymous(kSize)},
                      {kSize, kPage, process.map_anonymous(kPage), "rom", "pc.bios"},
                      {kHigh, kSize, process.map_memfd(kSize), "ram", "m (a) is 0x1"},
                      {kHigh + kSize, kSize, process.map_file(kSize), "nv-ram", "m1"}};
    for (std::size_t i = 0; i < monitor.ranges.size(); ++i)
      process.fill(host(i), monitor.ranges[i].size, i);
  }
  std::uint64_t host(std::size_t i) const { return monitor.ranges[i].host; }
  Result<std::unique_ptr<ProcessMemory>> open() {
    auto qemu = QemuProcess::open(process.pid());
    REQUIRE(qemu);
    return ProcessMemory::open(*std::move(qemu), monitor.monitor());
  }
  std::unique_ptr<ProcessMemory> opened() {
    auto memory = open();
    REQUIRE_MESSAGE(memory, test::why(memory));
    return *std::move(memory);
  }
  StubOfProcess stub() const { return {process.pid(), monitor.ranges}; }

  RamProcess process;
  RamMonitor monitor;
};

bool has_pattern(ByteSpan bytes, std::uint64_t seed, std::uint64_t offset) {
  for (std::size_t i = 0; i < bytes.size(); ++i)
    if (bytes[i] != test::pattern(seed, offset + i)) return false;
  return true;
}

// Reads of `size` bytes each, with their buffers.
struct Reads {
  Reads(std::size_t count, std::size_t size) : bytes(count * size) {
    for (std::size_t i = 0; i < count; ++i)
      all.push_back({.address = GuestPhys(0), .into = std::span(bytes).subspan(i * size, size)});
  }
  Bytes bytes;
  std::vector<PhysRead> all;
};

ErrorCode code_of(ProcessMemory& memory, std::uint64_t address, std::size_t size = 8) {
  Bytes bytes(size);
  const auto read = memory.read_one(GuestPhys(address), bytes);
  REQUIRE_FALSE(read);
  return read.error().code;
}

TEST_CASE("each range of guest memory is read from where it lies in the process") {
  Guest guest;
  const auto memory = guest.opened();
  CHECK(memory->ram().ranges.size() == 3);
  CHECK(memory->ram().left_out.empty());
  CHECK(guest.monitor.asked == 1 + 2 * 3);  // the view, and both ends of what is RAM
  Reads reads(5, 2 * kPage);
  reads.all[0].address = GuestPhys(0);
  reads.all[1].address = GuestPhys(Guest::kSize - 2 * kPage);
  reads.all[2].address = GuestPhys(Guest::kHigh + 17);
  reads.all[3].address = GuestPhys(Guest::kHigh + Guest::kSize - kPage);  // over the boundary
  reads.all[4].address = GuestPhys(Guest::kHigh + Guest::kSize + 5);
  memory->read(reads.all);
  for (const PhysRead& read : reads.all) CHECK_FALSE(read.error);
  CHECK(has_pattern(reads.all[0].into, 0, 0));
  CHECK(has_pattern(reads.all[1].into, 0, Guest::kSize - 2 * kPage));
  CHECK(has_pattern(reads.all[2].into, 2, 17));
  CHECK(has_pattern(reads.all[3].into.first(kPage), 2, Guest::kSize - kPage));
  CHECK(has_pattern(reads.all[3].into.last(kPage), 3, 0));
  CHECK(has_pattern(reads.all[4].into, 3, 5));
}

TEST_CASE("what changes in the guest is seen by the next read") {
  Guest guest;
  const auto memory = guest.opened();
  for (const std::uint64_t seed : {7U, 8U}) {
    for (const std::size_t i : {0U, 2U, 3U}) guest.process.fill(guest.host(i), kPage, seed + i);
    Bytes bytes(kPage);
    for (const std::size_t i : {0U, 2U, 3U}) {
      REQUIRE(memory->read_one(GuestPhys(guest.monitor.ranges[i].guest), bytes));
      CHECK(has_pattern(bytes, seed + i, 0));
    }
  }
}

TEST_CASE("outside RAM nothing is read: holes, ROM, and what begins inside and ends outside") {
  Guest guest;
  const auto memory = guest.opened();
  CHECK(code_of(*memory, Guest::kSize) == ErrorCode::kNotRam);  // ROM
  CHECK(code_of(*memory, Guest::kSize - 4) == ErrorCode::kNotRam);
  CHECK(code_of(*memory, Guest::kHigh - 1) == ErrorCode::kNotRam);
  CHECK(code_of(*memory, Guest::kHigh + 2 * Guest::kSize - 7) == ErrorCode::kNotRam);
  CHECK(code_of(*memory, ~std::uint64_t{0}) == ErrorCode::kNotRam);
  CHECK(memory->covers(GuestPhys(Guest::kHigh), 2 * Guest::kSize));
  CHECK_FALSE(memory->covers(GuestPhys(Guest::kHigh), 2 * Guest::kSize + 1));
  CHECK_FALSE(memory->covers(GuestPhys(Guest::kHigh + 8), ~std::uint64_t{0}));
  CHECK(memory->covers(GuestPhys(0), 0));
  CHECK_FALSE(memory->covers(GuestPhys(Guest::kSize), 0));
  CHECK(memory->read_one(GuestPhys(0), {}));
}

TEST_CASE("a page that cannot be read fails alone, wherever in the batch it is") {
  Guest guest;
  const auto memory = guest.opened();
  const auto bad = [](std::size_t page) { return page == 3 || page == 4 || page % 16 == 9; };
  for (std::size_t page = 0; page < 64; ++page)
    if (bad(page)) guest.process.unmap(guest.host(0) + page * kPage, kPage);
  constexpr std::size_t kReads = 3000;  // of three system calls and more
  Reads reads(kReads, 24);
  for (std::size_t i = 0; i < kReads; ++i)
    reads.all[i].address = GuestPhys(i % 64 * kPage + i / 64 * 24);
  memory->read(reads.all);
  for (std::size_t i = 0; i < kReads; ++i) {
    CAPTURE(i);
    REQUIRE(reads.all[i].error.has_value() == bad(i % 64));
    if (bad(i % 64)) {
      CHECK(reads.all[i].error->code == ErrorCode::kNotMapped);
      CHECK(reads.all[i].error->address == reads.all[i].address.value());
    } else {
      CHECK(has_pattern(reads.all[i].into, 0, reads.all[i].address.value()));
    }
  }
}

TEST_CASE("a read that begins in a good page and ends in a bad one fails, its neighbours do not") {
  Guest guest;
  const auto memory = guest.opened();
  guest.process.unmap(guest.host(0) + kPage, kPage);
  Reads reads(3, 2 * kPage);
  reads.all[0].address = GuestPhys(4 * kPage);
  reads.all[1].address = GuestPhys(0);
  reads.all[2].address = GuestPhys(8 * kPage);
  memory->read(reads.all);
  CHECK(has_pattern(reads.all[0].into, 0, 4 * kPage));
  REQUIRE(reads.all[1].error);
  CHECK(reads.all[1].error->code == ErrorCode::kNotMapped);
  CHECK_FALSE(reads.all[2].error);
  CHECK(has_pattern(reads.all[2].into, 0, 8 * kPage));
}

TEST_CASE("a read of megabytes is in pieces, and whole") {
  constexpr std::uint64_t kBytes = std::uint64_t{5} << 20;
  RamProcess process;
  RamMonitor monitor{.ranges = {{0, kBytes, process.map_anonymous(kBytes)}}};
  process.fill(monitor.ranges[0].host, kBytes, 1);
  auto memory = ProcessMemory::open(*QemuProcess::open(process.pid()), monitor.monitor());
  REQUIRE(memory);
  Bytes bytes(kBytes - 3);
  REQUIRE((*memory)->read_one(GuestPhys(3), bytes));
  CHECK(has_pattern(bytes, 1, 3));
}

TEST_CASE("behind a file that was truncated nothing can be read") {
  Guest guest;
  const auto memory = guest.opened();
  guest.process.truncate_file(4 * kPage);
  CHECK(code_of(*memory, Guest::kHigh + Guest::kSize + 4 * kPage) == ErrorCode::kNotMapped);
  Bytes bytes(kPage);
  CHECK(memory->read_one(GuestPhys(Guest::kHigh + Guest::kSize), bytes));
}

TEST_CASE("RAM that the process has not mapped, or not readable, is left out and said to be") {
  Guest guest;
  guest.process.unmap(guest.host(0) + 8 * kPage, 2 * kPage);
  guest.process.protect(guest.host(2) + 63 * kPage, kPage);
  const auto memory = guest.opened();
  CHECK(memory->ram().left_out.total() == 3 * kPage);
  CHECK(memory->ram().left_out.contains(GuestPhys(8 * kPage), 2 * kPage));
  CHECK(memory->ram().left_out.contains(GuestPhys(Guest::kHigh + 63 * kPage), kPage));
  CHECK(memory->ram().why_left_out.find("nothing readable at") != std::string::npos);
  CHECK(code_of(*memory, 9 * kPage) == ErrorCode::kNotRam);
  Bytes bytes(kPage);
  REQUIRE(memory->read_one(GuestPhys(10 * kPage), bytes));
  CHECK(has_pattern(bytes, 0, 10 * kPage));
  CHECK(memory->covers(GuestPhys(0), 8 * kPage));
  CHECK_FALSE(memory->covers(GuestPhys(0), 8 * kPage + 1));
}

TEST_CASE("a range whose ends are not as far apart in the process as in the guest is left out") {
  Guest guest;
  guest.monitor.instead["gpa2hva 0x3ffff"] =
      fmt::format("Host virtual address for 0x3ffff (pc.ram) is {:#x}\n", guest.host(0) + kPage);
  const auto memory = guest.opened();
  CHECK(memory->ram().left_out.contains(GuestPhys(0), Guest::kSize));
  CHECK(memory->ram().ranges.size() == 2);
}

TEST_CASE("what the monitor does not translate is left out, a monitor that is gone is an error") {
  Guest guest;
  SUBCASE("refused") {
    for (const char* said :
         {"", "Memory at address 0x0 is not RAM\n", "unknown command: 'gpa2hva'\n",
          "Host virtual address for 0x0 (x) is 0x", "Host virtual address for 0x0"}) {
      guest.monitor.instead.insert_or_assign("gpa2hva 0x0", std::string(said));
      CHECK(guest.opened()->ram().left_out.total() == Guest::kSize);
    }
  }
  SUBCASE("lost") {
    guest.monitor.instead.insert_or_assign("gpa2hva 0x0", fail(ErrorCode::kUnreachable, "gone"));
    const auto memory = guest.open();
    REQUIRE_FALSE(memory);
    CHECK(memory.error().code == ErrorCode::kUnreachable);
  }
  SUBCASE("no map of memory") {
    guest.monitor.instead.insert_or_assign("info mtree -f", std::string("FlatView #0\n"));
    CHECK(guest.open().error().code == ErrorCode::kUnsupported);
  }
  SUBCASE("the same memory twice") {
    guest.monitor.ranges.push_back({kPage, kPage, guest.host(0)});
    CHECK(guest.open().error().code == ErrorCode::kCorrupt);
  }
  SUBCASE("the end of the address space") {
    guest.monitor.instead.insert_or_assign(
        "gpa2hva 0x0", std::string("Host virtual address for 0x0 (x) is 0xfffffffffffc0000\n"));
    guest.monitor.instead.insert_or_assign(
        "gpa2hva 0x3ffff", std::string("Host virtual address for 0x0 (x) is 0xffffffffffffffff\n"));
    CHECK(guest.opened()->ram().left_out.total() == Guest::kSize);
  }
}

TEST_CASE("a process that does not have the memory is taken for a proxy") {
  Guest guest;
  const RamProcess proxy;
  const auto memory = ProcessMemory::open(*QemuProcess::open(proxy.pid()), guest.monitor.monitor());
  REQUIRE_FALSE(memory);
  CHECK(memory.error().code == ErrorCode::kMismatch);
  CHECK(memory.error().message.find("proxy") != std::string::npos);
}

TEST_CASE("when the process has ended nothing that was read is served") {
  Guest guest;
  const auto memory = guest.opened();
  SUBCASE("before the batch") {
    guest.process.kill();
    Reads reads(4, 64);
    reads.all[2].address = GuestPhys(Guest::kSize);
    memory->read(reads.all);
    for (const PhysRead& read : reads.all) {
      REQUIRE(read.error);
      CHECK(read.error->code == ErrorCode::kUnreachable);
    }
  }
  SUBCASE("amid one") {
    Reads reads(20000, 256);
    std::jthread killer([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      guest.process.kill();
    });
    std::size_t failed = 0;
    while (failed == 0) {
      memory->read(reads.all);
      failed = static_cast<std::size_t>(std::ranges::count_if(
          reads.all, [](const PhysRead& read) { return read.error.has_value(); }));
    }
    CHECK(failed == reads.all.size());
    CHECK(reads.all.front().error->code == ErrorCode::kUnreachable);
  }
}

TEST_CASE("a process that got the pid of the one that was opened is not read") {
  Guest guest;
  const auto memory = guest.opened();
  // The memory that the next child inherits lies at the addresses of the guest's.
  const std::uint64_t host = guest.host(0);
  const pid_t pid = guest.process.pid();
  guest.process.kill();
  const auto other = test::fork_as(pid, host, kPage);
  if (!other) {
    MESSAGE("the kernel does not let us choose a pid: not tried");
    return;
  }
  CHECK(code_of(*memory, 0) == ErrorCode::kUnreachable);
  CHECK(memory->still_mapped().error().code == ErrorCode::kUnreachable);
  test::end_process(*other);
}

TEST_CASE("a process that has become another program is not read, though its pid lives on") {
  Guest guest;
  const auto memory = guest.opened();
  guest.process.exec();
  CHECK(memory->process().alive());
  CHECK(code_of(*memory, 0) == ErrorCode::kUnreachable);
  CHECK(memory->still_mapped().error().code == ErrorCode::kUnreachable);
}

TEST_CASE("memory that was mapped anew is noticed, and found again by refresh") {
  Guest guest;
  const auto memory = guest.opened();
  CHECK(memory->still_mapped());
  SUBCASE("gone") {
    guest.process.unmap(guest.host(2), kPage);
    CHECK(memory->still_mapped().error().code == ErrorCode::kMismatch);
    REQUIRE(memory->refresh(guest.monitor.monitor()));
    CHECK(memory->still_mapped());
    CHECK_FALSE(memory->covers(GuestPhys(Guest::kHigh), kPage));
  }
  SUBCASE("replaced") {
    guest.process.map_over(guest.host(2), Guest::kSize);
    CHECK(memory->still_mapped().error().code == ErrorCode::kMismatch);
    REQUIRE(memory->refresh(guest.monitor.monitor()));
    CHECK(memory->still_mapped());
  }
  SUBCASE("plugged in") {
    const std::uint64_t more = guest.process.map_anonymous(kPage);
    guest.process.fill(more, kPage, 9);
    guest.monitor.ranges.push_back({2 * Guest::kHigh, kPage, more});
    CHECK(code_of(*memory, 2 * Guest::kHigh) == ErrorCode::kNotRam);
    REQUIRE(memory->refresh(guest.monitor.monitor()));
    Bytes bytes(kPage);
    REQUIRE(memory->read_one(GuestPhys(2 * Guest::kHigh), bytes));
    CHECK(has_pattern(bytes, 9, 0));
  }
}

TEST_CASE("without permission to read the process the error says what is missing") {
  Guest guest;
  const std::string said = test::as_nobody([&] {
    const auto memory = guest.open();
    return memory ? "opened"
                  : std::string(to_string(memory.error().code)) + ' ' + memory.error().message;
  });
  CAPTURE(said);
  CHECK(said.starts_with("system "));
  CHECK(said.find("may not be read") != std::string::npos);
  CHECK(said.find("CAP_SYS_PTRACE") != std::string::npos);
}

}  // namespace
}  // namespace guestscope
