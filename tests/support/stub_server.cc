#include "tests/support/stub_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>

namespace guestscope::gdb::testing {

namespace {

constexpr int kLookEveryMs = 2;  // how soon the end of the test is noticed

bool readable(int fd) {
  pollfd one{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&one, 1, kLookEveryMs) > 0;
}

void require(bool done, const char* what) {
  if (done) return;
  std::perror(what);
  std::abort();
}

}  // namespace

StubServer::StubServer() : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* raw = reinterpret_cast<sockaddr*>(&address);
  require(::bind(listener_, raw, size) == 0, "bind");
  require(::getsockname(listener_, raw, &size) == 0, "getsockname");
  require(::listen(listener_, 4) == 0, "listen");
  port_ = ::ntohs(address.sin_port);
  thread_ = std::thread([this] { run(); });
}

StubServer::~StubServer() {
  ending_ = true;
  thread_.join();
  ::close(listener_);
}

void StubServer::run() {
  while (!ending_) {
    if (!readable(listener_)) continue;
    const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) continue;
    const int yes = 1;  // as QEMU: an acknowledgement must not hold the answer back
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (!away_) {
      const std::lock_guard lock(mutex_);
      client_ = fd;
      ++accepted_;
      model_.attach();
    }
    if (!away_) serve();
    const std::lock_guard lock(mutex_);
    client_ = -1;
    static_cast<void>(model_.take_output());
    ::close(fd);
  }
}

void StubServer::serve() {
  std::array<char, 65536> in{};
  while (!ending_) {
    int fd = -1;
    {
      const std::lock_guard lock(mutex_);
      fd = client_;
    }
    if (!readable(fd)) continue;
    const ssize_t n = ::recv(fd, in.data(), in.size(), 0);
    if (n <= 0) return;
    const std::lock_guard lock(mutex_);
    // Packet by packet, with each answer written before the next is looked at, as QEMU does.
    std::string_view rest(in.data(), static_cast<std::size_t>(n));
    while (!rest.empty()) {
      const std::size_t end = std::min(rest.find('#'), rest.size() - 1) + 1;
      model_.take(rest.substr(0, end));
      rest.remove_prefix(end);
      if (!flush()) return;
    }
  }
}

bool StubServer::flush() {
  const std::string out = model_.take_output();
  std::string_view rest = out;
  while (client_ >= 0 && !rest.empty()) {
    const ssize_t n = ::send(client_, rest.data(), rest.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    rest.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

void StubServer::hang_up(bool away) {
  const std::lock_guard lock(mutex_);
  away_ = away;
  if (client_ >= 0) ::shutdown(client_, SHUT_RDWR);
}

}  // namespace guestscope::gdb::testing
