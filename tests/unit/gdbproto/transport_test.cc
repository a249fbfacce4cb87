// Over real sockets: deadlines, closes, and a peer that writes without reading.
#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <thread>

#include "gdbproto/client.h"
#include "tests/unit/gdbproto/client_fixture.h"

namespace guestscope::gdb {
namespace {

using namespace std::chrono_literals;
using testing::QemuModel;
using testing::read_u64;

void small_buffers(int fd) {
  const int size = 2048;  // the kernel doubles it, and has a minimum near that
  ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
}

// A stub on the other end of a socket pair, in a thread of its own, with blocking calls: like QEMU
// it does not read while it has something to write.
class SocketStub {
 public:
  using Serve = std::function<void(int fd)>;

  explicit SocketStub(Serve serve) {
    std::array<int, 2> fds{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, fds.data()) == 0);
    small_buffers(fds[0]);
    small_buffers(fds[1]);
    client_fd_ = fds[0];
    thread_ = std::thread([serve = std::move(serve), fd = fds[1]] {
      serve(fd);
      ::close(fd);
    });
  }
  SocketStub(const SocketStub&) = delete;
  SocketStub& operator=(const SocketStub&) = delete;
  ~SocketStub() { thread_.join(); }

  std::unique_ptr<Transport> transport() const { return adopt_socket(client_fd_); }

 private:
  int client_fd_ = -1;
  std::thread thread_;
};

bool send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

// Two ends of a connection over loopback.
std::array<int, 2> tcp_pair() {
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const plain = reinterpret_cast<sockaddr*>(&address);
  REQUIRE(::bind(listener, plain, size) == 0);
  REQUIRE(::listen(listener, 1) == 0);
  REQUIRE(::getsockname(listener, plain, &size) == 0);
  const int near = ::socket(AF_INET, SOCK_STREAM, 0);
  REQUIRE(::connect(near, plain, size) == 0);
  const int far = ::accept(listener, nullptr, nullptr);
  ::close(listener);
  return {near, far};
}

void serve_model(QemuModel& model, int fd) {
  model.attach();
  std::array<char, 4096> in{};
  while (send_all(fd, model.take_output())) {
    const ssize_t n = ::recv(fd, in.data(), in.size(), 0);
    if (n <= 0) return;
    // Byte by byte, with each answer written before the next byte is looked at.
    for (ssize_t i = 0; i < n; ++i) {
      model.take({&in[static_cast<std::size_t>(i)], 1});
      if (!send_all(fd, model.take_output())) return;
    }
  }
}

Options hurried() {
  Options options;
  options.connect_timeout = 150ms;
  options.timeout = 150ms;
  options.detach_timeout = 50ms;
  return options;
}

TEST_CASE("the kernel tells when bytes came that were read later") {
  const auto [near, far] = tcp_pair();
  const auto transport = adopt_socket(near);
  std::array<char, 16> in{};
  CHECK_FALSE(transport->arrived());
  std::this_thread::sleep_for(100ms);  // the kernel begins with it a moment later
  const auto before = Clock::now();
  REQUIRE(send_all(far, "$T02#"));
  std::this_thread::sleep_for(50ms);
  CHECK(transport->read_some(in).value() == 5);
  REQUIRE(transport->arrived());
  CHECK(*transport->arrived() > before - 5ms);  // two clocks
  CHECK(*transport->arrived() < Clock::now() - 25ms);
  ::close(far);
}

TEST_CASE("a stub that writes without reading does not lock us up, whatever the batch") {
  QemuModel model;
  SocketStub stub([&](int fd) { serve_model(model, fd); });
  {
    auto client = Client::attach_over(stub.transport(), "socket");
    REQUIRE(client);
    std::vector<std::byte> bytes(2000 * 64 + 500000);
    std::vector<PhysRead> reads;
    for (std::size_t i = 0; i < 2000; ++i)
      reads.push_back({.address = GuestPhys(0x100000 + 4096 * i),
                       .into = std::span(bytes).subspan(64 * i, 64)});
    reads.push_back({.address = GuestPhys(0x9000000), .into = std::span(bytes).subspan(128000)});
    (*client)->read_physical(reads);
    for (const PhysRead& read : reads) REQUIRE_FALSE(read.error);
    CHECK(bytes.back() == QemuModel::memory_at(0x9000000 + 499999));
  }
  CHECK(model.running);
}

TEST_CASE("a silent stub is a timeout that asks for another client") {
  SocketStub stub([](int fd) {
    std::array<char, 64> in{};
    while (::recv(fd, in.data(), in.size(), 0) > 0) {
    }
  });
  const auto start = Clock::now();
  const auto client = Client::attach_over(stub.transport(), "socket", hurried());
  REQUIRE_FALSE(client);
  CHECK(client.error().code == ErrorCode::kTimeout);
  CHECK(client.error().message.find("another client") != std::string::npos);
  CHECK(Clock::now() - start < 5s);
}

TEST_CASE("a stub that trickles bytes for ever does not outlast the deadline") {
  SocketStub stub([](int fd) {
    if (!send_all(fd, "$")) return;
    while (send_all(fd, "a")) std::this_thread::sleep_for(1ms);
  });
  const auto client = Client::attach_over(stub.transport(), "socket", hurried());
  REQUIRE_FALSE(client);
  CHECK(client.error().code == ErrorCode::kTimeout);
}

TEST_CASE("a stub that floods with acknowledgements does not outlast the deadline") {
  SocketStub stub([](int fd) {
    while (send_all(fd, "++++++++++++++++")) {
    }
  });
  const auto client = Client::attach_over(stub.transport(), "socket", hurried());
  REQUIRE_FALSE(client);
  CHECK(client.error().code == ErrorCode::kTimeout);
}

TEST_CASE("a close in the middle of anything is unreachable, and no signal") {
  for (const std::size_t close_after : {0U, 1U, 30U, 500U, 1500U}) {
    CAPTURE(close_after);
    QemuModel model;
    SocketStub stub([&](int fd) {
      model.attach();
      std::size_t sent = 0;
      std::array<char, 512> in{};
      while (true) {
        const std::string out = model.take_output();
        const std::size_t part = std::min(out.size(), close_after - sent);
        if (!send_all(fd, std::string_view(out).substr(0, part))) return;
        if ((sent += part) >= close_after) return;
        const ssize_t n = ::recv(fd, in.data(), in.size(), 0);
        if (n <= 0) return;
        model.take({in.data(), static_cast<std::size_t>(n)});
      }
    });
    // Unhurried: a busy machine may take longer to close than a timeout that is tested for.
    const auto client = Client::attach_over(stub.transport(), "socket");
    REQUIRE_FALSE(client);
    CHECK(client.error().code == ErrorCode::kUnreachable);
  }
}

TEST_CASE("after a timeout every call fails at once") {
  QemuModel model;
  std::atomic<bool> deaf = false;
  SocketStub stub([&](int fd) {
    model.attach();
    std::array<char, 512> in{};
    while (true) {
      if (!deaf && !send_all(fd, model.take_output())) return;
      const ssize_t n = ::recv(fd, in.data(), in.size(), 0);
      if (n <= 0) return;
      if (!deaf) model.take({in.data(), static_cast<std::size_t>(n)});
    }
  });
  Options options;
  options.timeout = 1s;  // attaching is not to take so long, on a busy machine either
  auto client = Client::attach_over(stub.transport(), "socket", options);
  REQUIRE(client);
  deaf = true;
  CHECK(read_u64(**client, 0x100000).error().code == ErrorCode::kTimeout);
  const auto start = Clock::now();
  CHECK(read_u64(**client, 0x100000).error().code == ErrorCode::kUnreachable);
  CHECK((*client)->resume().error().code == ErrorCode::kUnreachable);
  CHECK((*client)->poll_idle().error().code == ErrorCode::kUnreachable);
  CHECK(Clock::now() - start < 100ms);
}

extern "C" void ignore_signal(int) {}

TEST_CASE("a signal while waiting is not a close") {
  struct sigaction action{};
  action.sa_handler = ignore_signal;
  ::sigaction(SIGUSR1, &action, nullptr);
  const pthread_t self = ::pthread_self();
  QemuModel model;
  SocketStub stub([&](int fd) {
    for (int i = 0; i < 5; ++i) {
      std::this_thread::sleep_for(10ms);
      ::pthread_kill(self, SIGUSR1);
    }
    serve_model(model, fd);
  });
  CHECK(Client::attach_over(stub.transport(), "socket"));
}

// A listening socket on loopback; the port is the system's choice.
class Listener {
 public:
  Listener() : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* raw = reinterpret_cast<sockaddr*>(&address);
    REQUIRE(::bind(fd_, raw, size) == 0);
    REQUIRE(::getsockname(fd_, raw, &size) == 0);
    port_ = ::ntohs(address.sin_port);
  }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  ~Listener() { ::close(fd_); }
  int fd() const { return fd_; }
  StubAddress address() const { return {.host = "127.0.0.1", .port = port_}; }

 private:
  int fd_;
  std::uint16_t port_ = 0;
};

TEST_CASE("a refused connection is unreachable and names the address") {
  const Listener bound;  // but not listening
  const auto client = Client::attach(bound.address(), hurried());
  REQUIRE_FALSE(client);
  CHECK(client.error().code == ErrorCode::kUnreachable);
  CHECK(client.error().message.find(bound.address().to_string()) != std::string::npos);
}

TEST_CASE("TCP carries a session") {
  const Listener listener;
  REQUIRE(::listen(listener.fd(), 1) == 0);
  QemuModel model;
  std::thread server([&] {
    const int fd = ::accept(listener.fd(), nullptr, nullptr);
    serve_model(model, fd);
    ::close(fd);
  });
  {
    auto client = Client::attach(listener.address());
    CHECK(client);
    if (client) CHECK((*client)->fd() >= 0);
  }
  server.join();
  CHECK(model.running);
}

TEST_CASE("a Unix socket carries a session, and one that is missing is unreachable") {
  std::string folder = "/tmp/guestscope-test-XXXXXX";
  REQUIRE(::mkdtemp(folder.data()) != nullptr);
  const StubAddress address{.kind = StubAddress::Kind::kUnix, .path = folder + "/stub"};
  CHECK(Client::attach(address, hurried()).error().code == ErrorCode::kUnreachable);
  const int listener = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  address.path.copy(name.sun_path, sizeof name.sun_path - 1);
  REQUIRE(::bind(listener, reinterpret_cast<sockaddr*>(&name), sizeof name) == 0);
  REQUIRE(::listen(listener, 1) == 0);
  QemuModel model;
  std::thread server([&] {
    const int fd = ::accept(listener, nullptr, nullptr);
    serve_model(model, fd);
    ::close(fd);
  });
  {
    CHECK(Client::attach(address));
  }
  server.join();
  CHECK(model.running);
  ::close(listener);
  ::unlink(address.path.c_str());
  ::rmdir(folder.c_str());
}

}  // namespace
}  // namespace guestscope::gdb
