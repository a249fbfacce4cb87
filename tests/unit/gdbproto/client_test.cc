#include "gdbproto/client.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "gdbproto/hex.h"
#include "gdbproto/stub_memory.h"
#include "tests/unit/gdbproto/client_fixture.h"

namespace guestscope::gdb {
namespace {

using testing::Attached;
using testing::expected_u64;
using testing::QemuModel;
using testing::read_u64;

constexpr std::uint64_t kSomewhere = 0x100000;

TEST_CASE("attaching learns the machine and holds a guest that was running") {
  QemuModel model;
  const Attached client(model);
  REQUIRE(client);
  CHECK(client->threads().size() == 2);
  CHECK(client->threads()[1] == ThreadId{.pid = 0, .tid = 2});
  CHECK(client->architecture() == "i386:x86-64");
  CHECK(client->qemu_version() == "7.2.22 (model)");
  CHECK(client->ram().blocks().size() == 4);
  CHECK(client->has_register("cr3"));
  CHECK_FALSE(client->has_register("cr5"));
  CHECK(client->held());
  CHECK(client->stopped());
  CHECK(client->run_state() == RunState::kRunning);
  CHECK(model.physical);
  CHECK(model.count("qSupported:") == 1);
  CHECK(model.packets[0].find("multiprocess") == std::string::npos);
  CHECK(model.swallowed == 0);
}

TEST_CASE("attaching works whatever the sizes of the pieces in which bytes travel") {
  for (const std::size_t chunk : {1U, 2U, 3U, 7U, 64U}) {
    CAPTURE(chunk);
    QemuModel model;
    const Attached client(model, {}, chunk);
    REQUIRE(client);
    CHECK(*read_u64(**client.client, kSomewhere) == expected_u64(kSomewhere));
    CHECK(client->resume());
    CHECK(model.running);
    CHECK(model.swallowed == 0);
  }
}

TEST_CASE("no-ack mode is entered when offered, and then nothing is acknowledged") {
  QemuModel model;
  model.offers_no_ack = true;
  Attached client(model);
  REQUIRE(client);
  const int acks = model.acks;
  CHECK(model.count("QStartNoAckMode") == 1);
  for (int i = 0; i < 3; ++i) {
    CHECK(client->resume());
    CHECK(client->stop());
    CHECK(client->held());
    CHECK(*read_u64(**client.client, kSomewhere) == expected_u64(kSomewhere));
  }
  CHECK(model.acks == acks);
  CHECK(model.swallowed == 0);
}

TEST_CASE("a stub that does not know physical memory mode is not QEMU's, and is left running") {
  QemuModel model;
  model.is_qemu = false;
  const Attached client(model);
  REQUIRE_FALSE(client);
  CHECK(client.client.error().code == ErrorCode::kUnsupported);
  CHECK(client.client.error().message.find("stub at model:1 is not QEMU's") == 0);
  CHECK(model.running);
}

TEST_CASE("registers of several vCPUs come in one exchange, by name, little-endian") {
  QemuModel model;
  Attached client(model);
  REQUIRE(client);
  const auto before = client->counters();
  const std::vector<std::string_view> names{"cr3", "rax", "eflags"};
  const auto values = client->registers(client->threads(), names);
  REQUIRE(values);
  CHECK(*values ==
        std::vector<std::vector<std::uint64_t>>{{0x1000, 0x11, 2}, {0x2000, 0x22, 0x246}});
  CHECK(client->counters().round_trips - before.round_trips == 1);
  CHECK(client->counters().packets_sent - before.packets_sent == 10);
}

/// A model whose answer to `g` has all registers of the description.
struct TellsAll : QemuModel {
  TellsAll() {
    registers["1/2"] = registers["2/2"] = std::string(32, '0');
    general = 4;
  }
};
const std::vector<std::string_view> kNames{"cr3", "rax", "eflags"};
const RegisterValues kValues{{0x1000, 0x11, 2}, {0x2000, 0x22, 0x246}};

TEST_CASE("registers that are known to be in the answer to g are not asked for one by one") {
  TellsAll model;
  Attached client(model);
  REQUIRE(client);
  const auto packets = [&] {
    const auto before = client->counters().packets_sent;
    CHECK(client->registers(client->threads(), kNames).value() == kValues);
    return client->counters().packets_sent - before;
  };
  CHECK(packets() == 10);
  CHECK(packets() == 4);
  // Narrower, as in another mode: what stands behind is elsewhere.
  model.registers["1/0"] = "11000000";
  model.registers["2/0"] = "22000000";
  CHECK(packets() == 4 + 10);
  CHECK(packets() == 10);
  model.registers["1/0"] = "1100000000000000";
  model.registers["2/0"] = "2200000000000000";
  CHECK(packets() == 10);
  CHECK(packets() == 4);
}

TEST_CASE("a vCPU that has changed its mode is not glanced at, and known again by a stop") {
  TellsAll model;
  Attached client(model);
  REQUIRE(client);
  const Look look{.threads = client->threads(), .names = kNames, .reads = {}};
  CHECK(client->registers(client->threads(), kNames).value() == kValues);
  REQUIRE(client->resume());
  CHECK(client->glance(look).value() == kValues);
  model.registers["1/0"] = "11000000";
  CHECK(client->glance(look).error().code == ErrorCode::kNotReady);
  CHECK(model.running);
  CHECK(client->can_glance());
  CHECK(client->stop(look).value() == kValues);
  CHECK(client->held());
}

TEST_CASE("an answer to g that is not what p says is not believed") {
  TellsAll model;
  Attached client(model);
  REQUIRE(client);
  const std::string other =
      "1100000000000000"
      "0020000000000000" +
      std::string(32, '0') + "02000000";
  model.override_answer = [&](const std::string& packet) {
    return packet == "g" ? other.c_str() : nullptr;
  };
  for (int i = 0; i < 2; ++i) {
    const auto before = client->counters().packets_sent;
    CHECK(client->registers(client->threads(), kNames).value() == kValues);
    CHECK(client->counters().packets_sent - before == 10);
  }
}

TEST_CASE("registers are those of the last stop, also where QEMU has to ask the kernel for them") {
  QemuModel model;
  model.lags = true;
  Attached client(model);
  REQUIRE(client);
  const std::string_view name = "cr3";
  for (int stop = 0; stop < 2; ++stop) {
    const auto values = client->registers(client->threads(), {&name, 1});
    REQUIRE(values);
    CHECK((*values)[0][0] == 0x1000);
    CHECK((*values)[1][0] == 0x2000);
    REQUIRE(client->resume());
    REQUIRE(client->stop());
  }
}

TEST_CASE("a register that is missing, too wide or without a value is unsupported and named") {
  QemuModel model;
  model.registers.erase("2/1");
  Attached client(model);
  REQUIRE(client);
  for (const std::string_view name : {"cr5", "xmm0", "cr3"}) {
    CAPTURE(name);
    const auto values = client->registers(client->threads(), {&name, 1});
    REQUIRE_FALSE(values);
    CHECK(values.error().code == ErrorCode::kUnsupported);
    CHECK(values.error().message.find(name) != std::string::npos);
  }
  const ThreadId nobody{.pid = 0, .tid = 9};
  const std::string_view rax = "rax";
  CHECK(client->registers({&nobody, 1}, {&rax, 1}).error().code == ErrorCode::kNotFound);
  CHECK(read_u64(**client.client, kSomewhere));
}

TEST_CASE("the monitor's text is put together and freed of carriage returns") {
  QemuModel model;
  Attached client(model);
  REQUIRE(client);
  CHECK(*client->monitor("info status") == "VM status: paused\n");
  CHECK(client->monitor("info mtree -f")->size() > 300);
  CHECK_FALSE(client->monitor(std::string(5000, 'x')));
}

TEST_CASE("what needs a stopped guest is refused while it runs, and sends nothing") {
  QemuModel model;
  Attached client(model);
  REQUIRE(client);
  REQUIRE(client->resume());
  const std::size_t packets = model.packets.size();
  const std::string_view rax = "rax";
  CHECK(read_u64(**client.client, kSomewhere).error().code == ErrorCode::kInvalidArgument);
  CHECK(client->registers(client->threads(), {&rax, 1}).error().code ==
        ErrorCode::kInvalidArgument);
  CHECK(client->monitor("info status").error().code == ErrorCode::kInvalidArgument);
  CHECK(model.running);
  CHECK(model.packets.size() == packets);
}

TEST_CASE("a batch is one exchange, and neighbours share packets") {
  QemuModel model;
  Attached client(model);
  REQUIRE(client);
  StubMemory memory(**client.client);
  std::vector<std::array<std::byte, 64>> buffers(32);
  std::vector<PhysRead> reads;
  for (std::size_t i = 0; i < buffers.size(); ++i)
    reads.push_back({.address = GuestPhys(kSomewhere + 128 * i), .into = buffers[i]});
  const auto before = client->counters();
  memory.read(reads);
  for (const PhysRead& read : reads) CHECK_FALSE(read.error);
  CHECK(client->counters().round_trips - before.round_trips == 1);
  CHECK(model.count("m") == 2);
  CHECK(buffers[31][63] == QemuModel::memory_at(kSomewhere + 128 * 31 + 63));
}

TEST_CASE("reads are never larger than half a packet less the framing") {
  QemuModel model;
  Attached client(model);
  REQUIRE(client);
  std::vector<std::byte> large(100000);
  StubMemory memory(**client.client);
  CHECK(memory.read_one(GuestPhys(kSomewhere), large));
  for (const std::string& packet : model.packets)
    if (packet.starts_with('m'))
      CHECK(*parse_hex(packet.substr(packet.find(',') + 1)) <= (0x1000 - 16) / 2);
  CHECK(model.count("m") == (100000 + 2039) / 2040);
}

TEST_CASE("a read outside RAM is never sent, and its neighbours succeed") {
  QemuModel model;
  Attached client(model);
  REQUIRE(client);
  std::array<std::byte, 8> a{};
  std::array<std::byte, 8> b{};
  std::vector<PhysRead> reads{{.address = GuestPhys(0xa0000), .into = a},
                              {.address = GuestPhys(kSomewhere), .into = b}};
  client->read_physical(reads);
  REQUIRE(reads[0].error);
  CHECK(reads[0].error->code == ErrorCode::kNotRam);
  CHECK_FALSE(reads[1].error);
  CHECK(model.count("m") == 1);
}

TEST_CASE("a refused page fails its own read only, even when it shared a packet") {
  QemuModel model;
  model.refused_pages = {0x101};
  Attached client(model);
  REQUIRE(client);
  std::array<std::byte, 8> a{};
  std::array<std::byte, 8> b{};
  std::vector<PhysRead> reads{{.address = GuestPhys(0x100ff0), .into = a},
                              {.address = GuestPhys(0x101000), .into = b}};
  client->read_physical(reads);
  CHECK_FALSE(reads[0].error);
  REQUIRE(reads[1].error);
  CHECK(reads[1].error->code == ErrorCode::kNotMapped);
  CHECK(read_u64(**client.client, kSomewhere));
}

TEST_CASE("what is to be done while the stub reads is done once, before its first answer") {
  QemuModel model;
  Attached client(model);
  REQUIRE(client);
  StubMemory memory(**client.client);
  std::array<std::byte, 8> bytes{};
  int calls = 0;
  for (const std::uint64_t address : {kSomewhere, std::uint64_t{0xa0000}}) {
    CAPTURE(address);
    calls = 0;
    bytes.fill(std::byte{0});
    PhysRead read{.address = GuestPhys(address), .into = bytes};
    memory.read_while({&read, 1}, [&] {
      ++calls;
      CHECK(model.count("m") == 1);
      CHECK(load_le(bytes.data(), 8) == 0);
    });
    CHECK(calls == 1);
    CHECK(read.error.has_value() == (address != kSomewhere));
  }
  model.override_answer = [](const std::string&) { return "zz"; };
  PhysRead read{.address = GuestPhys(kSomewhere), .into = bytes};
  calls = 0;
  memory.read_while({&read, 1}, [&] { ++calls; });
  CHECK(read.error);
  memory.read_while({&read, 1}, [&] { ++calls; });
  CHECK(calls == 2);
}

TEST_CASE("a hundred thousand reads are one exchange") {
  QemuModel model;
  Attached client(model);
  REQUIRE(client);
  std::vector<std::byte> bytes(8 * 100000);
  std::vector<PhysRead> reads;
  for (std::size_t i = 0; i < 100000; ++i)
    reads.push_back(
        {.address = GuestPhys(kSomewhere + 512 * i), .into = std::span(bytes).subspan(8 * i, 8)});
  client->read_physical(reads);
  CHECK(std::ranges::none_of(reads, [](const PhysRead& read) { return read.error.has_value(); }));
  CHECK(load_le(bytes.data() + 8 * 99999, 8) == expected_u64(kSomewhere + 512 * 99999));
}

TEST_CASE("stray acknowledgements, nonsense and answers too many end the connection, not us") {
  for (const char* nonsense : {"zz", "T05", "W00", "0011"}) {
    CAPTURE(std::string(nonsense));
    QemuModel model;
    Attached client(model);
    REQUIRE(client);
    model.override_answer = [&](const std::string& packet) {
      return packet.starts_with('m') ? nonsense : nullptr;
    };
    CHECK_FALSE(read_u64(**client.client, kSomewhere));
    model.override_answer = nullptr;
    CHECK(client->stop().error().code == ErrorCode::kUnreachable);
    CHECK(read_u64(**client.client, kSomewhere).error().code == ErrorCode::kUnreachable);
  }
}

TEST_CASE("hostile answers while attaching are errors, never a hang") {
  struct Lie {
    const char* question;
    const char* answer;
  };
  for (const Lie lie : {Lie{"qSupported", ""},
                        {"qSupported", "PacketSize=0"},
                        {"qSupported", "PacketSize=zz"},
                        {"qfThreadInfo", "m"},
                        {"qfThreadInfo", "l"},
                        {"qfThreadInfo", "mzz"},
                        {"qsThreadInfo", "m01"},
                        {"qXfer", "m"},
                        {"qXfer", "mxx"},
                        {"qXfer", "E00"},
                        {"qXfer", "lnot xml <"},
                        {"qRcmd", "O1"},
                        {"qRcmd", "Ozz"},
                        {"qRcmd", ""},
                        {"qRcmd", "OK"},
                        {"qqemu.PhyMemMode", "7"},
                        {"Qqemu", "E22"}}) {
    CAPTURE(std::string(lie.question));
    CAPTURE(std::string(lie.answer));
    QemuModel model;
    model.override_answer = [&](const std::string& packet) {
      return packet.starts_with(lie.question) ? lie.answer : nullptr;
    };
    const bool harmless =
        std::string_view(lie.answer).empty() && std::string_view(lie.question) == "qSupported";
    CHECK(static_cast<bool>(Attached(model)) == harmless);
    CHECK(model.running);
  }
}

}  // namespace
}  // namespace guestscope::gdb
