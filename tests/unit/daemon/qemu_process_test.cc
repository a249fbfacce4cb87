#include "daemon/qemu_process.h"

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <optional>

#include "daemon/peer_socket.h"
#include "tests/unit/daemon/ram_process.h"

namespace guestscope {
namespace {

using test::Connection;
using test::RamProcess;

// The far end becomes the child's alone.
void check_found(Connection connection) {
  REQUIRE(connection.far);
  const RamProcess child;
  connection.far = FileDescriptor();
  const auto found = processes_behind(connection.near.get());
  REQUIRE_MESSAGE(found, test::why(found));
  REQUIRE(found->size() == 1);
  CHECK(found->front().pid() == child.pid());
  CHECK(found->front().alive());
}

TEST_CASE("the process that has the other end is found, though another one listened") {
  SUBCASE("IPv4") { check_found(test::connect_tcp("127.0.0.1", "127.0.0.1")); }
  SUBCASE("IPv4, another loopback address") {
    check_found(test::connect_tcp("0.0.0.0", "127.1.2.3"));
  }
  SUBCASE("IPv6") { check_found(test::connect_tcp("::1", "::1")); }
  SUBCASE("IPv4, to a socket that listens on both") {
    check_found(test::connect_tcp("::", "127.0.0.1"));
  }
  SUBCASE("Unix") { check_found(test::connect_unix()); }
}

TEST_CASE("of a parent and a child that have the same socket the parent comes first") {
  for (const bool tcp : {true, false}) {
    const Connection connection =
        tcp ? test::connect_tcp("127.0.0.1", "127.0.0.1") : test::connect_unix();
    const RamProcess first;
    const RamProcess second;
    const auto found = processes_behind(connection.near.get());
    REQUIRE_MESSAGE(found, test::why(found));
    REQUIRE(found->size() == 3);
    CHECK(found->front().pid() == ::getpid());
    CHECK(found->at(1).started() <= found->at(2).started());
  }
}

TEST_CASE("a connection that nobody has accepted can become one") {
  for (const bool tcp : {true, false}) {
    const Connection connection =
        tcp ? test::connect_tcp("127.0.0.1", "127.0.0.1", false) : test::connect_unix(false);
    const auto found = processes_behind(connection.near.get());
    REQUIRE_FALSE(found);
    CHECK(found.error().code == ErrorCode::kNotReady);
  }
}

TEST_CASE("an end that this machine does not have is said to be elsewhere") {
  Connection connection = test::connect_tcp("127.0.0.1", "127.0.0.1");
  connection.far = FileDescriptor();  // the row of a closed socket is as good as none
  const auto found = processes_behind(connection.near.get());
  REQUIRE_FALSE(found);
  CHECK(found.error().code == ErrorCode::kUnsupported);
  CHECK(found.error().message.find("127.0.0.1") != std::string::npos);
  CHECK(found.error().message.find("run guestscope where QEMU runs") != std::string::npos);
}

TEST_CASE("what is no connected socket is refused") {
  CHECK(processes_behind(-1).error().code == ErrorCode::kSystem);
  CHECK(processes_behind(FileDescriptor(::socket(AF_INET, SOCK_STREAM, 0)).get()).error().code ==
        ErrorCode::kSystem);
}

TEST_CASE("a process that has ended is not looked at, nor one that got its pid") {
  RamProcess child;
  const pid_t pid = child.pid();
  const auto process = QemuProcess::open(pid);
  REQUIRE(process);
  REQUIRE(process->read_file("maps"));
  CHECK(process->to_string().find(fmt::format("(pid {})", pid)) != std::string::npos);
  child.kill();
  CHECK_FALSE(process->alive());
  CHECK(process->read_file("maps").error().code == ErrorCode::kUnreachable);
  CHECK(QemuProcess::open(pid).error().code == ErrorCode::kNotFound);
  const std::optional<pid_t> other = test::fork_as(pid);
  if (!other) {
    MESSAGE("the kernel does not let us choose a pid: not tried with one that is used again");
    return;
  }
  CHECK(QemuProcess::open(pid));
  CHECK_FALSE(process->alive());
  CHECK(process->read_file("maps").error().code == ErrorCode::kUnreachable);
  CHECK(process->has_socket(1).error().code == ErrorCode::kUnreachable);
  test::end_process(*other);
}

TEST_CASE("a zombie has ended") {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(0);
  siginfo_t info{};
  ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT);
  CHECK_FALSE(QemuProcess::open(pid));
  ::waitpid(pid, nullptr, 0);
}

TEST_CASE("without permission the error says whose the process is and what to do") {
  for (const bool tcp : {true, false}) {
    Connection connection =
        tcp ? test::connect_tcp("127.0.0.1", "127.0.0.1") : test::connect_unix();
    const RamProcess child;
    connection.far = FileDescriptor();
    const std::string said = test::as_nobody([&] {
      const auto found = processes_behind(connection.near.get());
      return found ? "found"
                   : std::string(to_string(found.error().code)) + ' ' + found.error().message;
    });
    CAPTURE(said);
    CHECK(said.starts_with("system "));
    CHECK(said.find("user 0") != std::string::npos);
    CHECK(said.find("user 65534") != std::string::npos);
    CHECK(said.find("CAP_SYS_PTRACE") != std::string::npos);
  }
}

TEST_CASE("a row of the kernel's table of TCP sockets") {
  const auto row = parse_tcp_row(
      "   1: 0100007F:1F90 0200007F:C350 01 00000000:00000000 00:00000000 00000000   107        0 "
      "123456 1 0000000000000000 20 4 30 10 -1");
  REQUIRE(row);
  CHECK(row->state == 1);
  CHECK(row->uid == 107);
  CHECK(row->inode == 123456);
  CHECK(row->local.port == 8080);
  CHECK(row->remote.port == 50000);
  CHECK(row->local.address ==
        std::array<std::uint8_t, 16>{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1});
  const auto six = parse_tcp_row(
      "   0: B80D0120000000000000000001000000:0050 0000000000000000FFFF00000200007F:C350 01 "
      "00000000:00000000 00:00000000 00000000 0 0 9 1");
  REQUIRE(six);
  CHECK(six->local.address ==
        std::array<std::uint8_t, 16>{0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1});
  CHECK(six->remote == row->remote);
}

TEST_CASE("a line that is no row of the table of TCP sockets is none") {
  const std::string good =
      "1: 0100007F:1F90 0200007F:C350 01 00000000:00000000 00:00000000 00000000 107 0 123456";
  REQUIRE(parse_tcp_row(good));
  for (std::size_t size = 0; size < good.size() - 6; ++size) {
    CAPTURE(size);
    CHECK_FALSE(parse_tcp_row(good.substr(0, size)));
  }
  for (const char* bad : {"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when "
                          "retrnsmt uid timeout inode",
                          "1: 0100007F 0200007F:C350 01 0:0 0:0 0 107 0 1",
                          "1: 01000070:1F90 0200007F:C3500 01 0:0 0:0 0 107 0 1",
                          "1: 0100007G:1F90 0200007F:C350 01 0:0 0:0 0 107 0 1",
                          "1: 0100007F:1F90 0200007F:C350 01 0:0 0:0 0 -1 0 1"})
    CHECK_FALSE(parse_tcp_row(bad));
}

}  // namespace
}  // namespace guestscope
