// Records the session of recorded_session.h with a running QEMU, which tests/guest/fetch_qemu.sh
// has of several releases. Started so, with -nodefaults -display none -smp 2 -gdb
// tcp:127.0.0.1:1234:
//   qemu-N-x86_64.txt              qemu-system-x86_64 -m 64
//   qemu-7.2-aarch64-a57.txt       qemu-system-aarch64 -m 64 -M virt -cpu cortex-a57
//   qemu-10.0-aarch64-max-el3.txt  the same, -M virt,virtualization=on,secure=on -cpu max
// and then: record_transcript 127.0.0.1:1234 tests/unit/gdbproto/data/FILE
#include <fmt/format.h>

#include <cstdio>
#include <fstream>

#include "tests/unit/gdbproto/recorded_session.h"
#include "tests/unit/gdbproto/transcript.h"

namespace {

using namespace guestscope;

Result<std::string> record(std::string_view where) {
  GS_ASSIGN(const auto address, gdb::StubAddress::parse(where));
  GS_ASSIGN(auto transport, gdb::connect_to(address, gdb::Clock::now() + std::chrono::seconds(3)));
  std::vector<gdb::testing::Turn> turns;
  auto recorder = std::make_unique<gdb::testing::RecordingTransport>(std::move(transport), turns);
  std::string version;
  {
    GS_ASSIGN(const auto client, gdb::Client::attach_over(std::move(recorder), std::string(where)));
    GS_ASSIGN(const auto result, gdb::testing::run_session(*client));
    version = result.version;
  }
  return fmt::format("# Recorded with QEMU {} by record_transcript.\n{}", version,
                     gdb::testing::write_transcript(turns));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    fmt::print(stderr, "usage: record_transcript STUB FILE\n");
    return 2;
  }
  const auto text = record(argv[1]);
  if (!text) {
    fmt::print(stderr, "{}\n", text.error().to_string());
    return 1;
  }
  std::ofstream(argv[2], std::ios::binary) << *text;
  return 0;
}
