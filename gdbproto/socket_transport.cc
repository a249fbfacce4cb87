// The socket behind Transport, and how it is connected.
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <limits>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "gdbproto/transport.h"

namespace guestscope::gdb {
namespace {

std::string reason(int error) { return std::generic_category().message(error); }

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  FileDescriptor& operator=(FileDescriptor&&) = delete;
  ~FileDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

// Rounded up: a wait that ends just before its deadline would be spun through.
int milliseconds_until(Deadline until) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, std::numeric_limits<int>::max()));
}

// Longer than QEMU needs for an answer, shorter than anybody else would notice.
constexpr std::chrono::microseconds kAwake{200};

bool is_ready(int fd, short events) {
  pollfd entry{.fd = fd, .events = events, .revents = 0};
  return ::poll(&entry, 1, 0) > 0;
}

// Asked again and again: to be woken takes longer than most answers, and costs the stub, too, for
// each write that wakes somebody. QEMU may have to share this processor with us.
bool becomes_ready(int fd, short events) {
  for (const auto until = Clock::now() + kAwake; Clock::now() < until; ::sched_yield())
    if (is_ready(fd, events)) return true;
  return false;
}

Result<void> wait_for(int fd, short events, Deadline until) {
  while (true) {
    pollfd entry{.fd = fd, .events = events, .revents = 0};
    const int ready = ::poll(&entry, 1, milliseconds_until(until));
    // An error or a hang-up counts as ready: the read or write that follows says which.
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return fail(ErrorCode::kSystem, "poll: {}", reason(errno));
    if (Clock::now() >= until) return fail(ErrorCode::kTimeout, "no answer in time");
  }
}

// The kernel's note on when the bytes came, by the clock of the day; TCP has it.
std::optional<timespec> arrival_of(msghdr& message) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_TIMESTAMPNS) continue;
    timespec when{};
    std::memcpy(&when, CMSG_DATA(part), sizeof when);
    return when;
  }
  return std::nullopt;
}

// That clock may be set at any time: what lies in the future, or far back, is not believed.
std::optional<Clock::time_point> by_steady_clock(const timespec& when) {
  constexpr std::chrono::seconds kFarBack{1};
  timespec today{};
  ::clock_gettime(CLOCK_REALTIME, &today);
  const auto ago = std::chrono::seconds(today.tv_sec - when.tv_sec) +
                   std::chrono::nanoseconds(today.tv_nsec - when.tv_nsec);
  if (ago < ago.zero() || ago > kFarBack) return std::nullopt;
  return Clock::now() - ago;
}

class SocketTransport final : public Transport {
 public:
  explicit SocketTransport(FileDescriptor fd) : fd_(std::move(fd)) {
    const int on = 1;
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
  }

  Result<std::size_t> write_some(std::string_view bytes) override {
    while (true) {
      const ssize_t n = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n >= 0) return static_cast<std::size_t>(n);
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) return 0;
      return fail(ErrorCode::kUnreachable, "connection lost: {}", reason(errno));
    }
  }

  Result<std::size_t> read_some(std::span<char> into) override {
    while (true) {
      iovec place{.iov_base = into.data(), .iov_len = into.size()};
      alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(timespec))> notes{};
      msghdr message{};
      message.msg_iov = &place;
      message.msg_iovlen = 1;
      message.msg_control = notes.data();
      message.msg_controllen = notes.size();
      const ssize_t n = ::recvmsg(fd_.get(), &message, MSG_DONTWAIT);
      if (n > 0) {
        arrived_ = arrival_of(message).and_then(by_steady_clock);
        return static_cast<std::size_t>(n);
      }
      if (n == 0) return fail(ErrorCode::kUnreachable, "the stub closed the connection");
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) return 0;
      return fail(ErrorCode::kUnreachable, "connection lost: {}", reason(errno));
    }
  }

  Result<void> wait(bool or_writable, bool awake, Deadline until) override {
    const auto events = static_cast<short>(or_writable ? POLLIN | POLLOUT : POLLIN);
    if (awake && becomes_ready(fd_.get(), events)) return {};
    return wait_for(fd_.get(), events, until);
  }

  std::optional<Clock::time_point> arrived() const override { return arrived_; }
  int fd() const override { return fd_.get(); }

 private:
  FileDescriptor fd_;
  std::optional<Clock::time_point> arrived_;
};

// Finishes a non-blocking connect; a signal does not interrupt it, it goes on in the background.
Result<FileDescriptor> connect_socket(const sockaddr* address, socklen_t size, Deadline until) {
  FileDescriptor fd(::socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) return fail(ErrorCode::kSystem, "socket: {}", reason(errno));
  if (::connect(fd.get(), address, size) != 0) {
    // EAGAIN: a Unix socket whose backlog is full; it cannot be waited for.
    if (errno != EINPROGRESS && errno != EINTR)
      return fail(ErrorCode::kUnreachable, "{}", reason(errno));
    GS_CHECK(wait_for(fd.get(), POLLOUT, until));
    int error = 0;
    socklen_t length = sizeof error;
    if (::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &length) != 0) error = errno;
    if (error != 0) return fail(ErrorCode::kUnreachable, "{}", reason(error));
  }
  return fd;
}

Result<FileDescriptor> connect_unix(const std::string& path, Deadline until) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return fail(ErrorCode::kInvalidArgument, "the path is too long");
  std::memcpy(address.sun_path, path.data(), path.size());
  return connect_socket(reinterpret_cast<const sockaddr*>(&address), sizeof address, until);
}

Result<FileDescriptor> connect_tcp(const StubAddress& stub, Deadline until) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  // The one step without a deadline: the resolver has its own time limits. Numbers and localhost
  // do not ask anybody.
  const int status =
      ::getaddrinfo(stub.host.c_str(), std::to_string(stub.port).c_str(), &hints, &found);
  if (status != 0)
    return fail(ErrorCode::kUnreachable, "{}: {}", stub.host, ::gai_strerror(status));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> list(found, &::freeaddrinfo);
  Result<FileDescriptor> last = fail(ErrorCode::kUnreachable, "the name has no address");
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    auto fd = connect_socket(entry->ai_addr, entry->ai_addrlen, until);
    if (!fd) {
      last = std::unexpected(std::move(fd).error());
      continue;
    }
    // Packets are small and each waits for the one before: never hold one back to fill a segment.
    const int on = 1;
    ::setsockopt(fd->get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
  }
  return std::unexpected(std::move(last).error());
}

}  // namespace

Result<std::unique_ptr<Transport>> connect_to(const StubAddress& address, Deadline until) {
  auto fd = address.kind == StubAddress::Kind::kUnix ? connect_unix(address.path, until)
                                                     : connect_tcp(address, until);
  if (!fd) {
    Error error = std::move(fd).error();
    error.message = fmt::format("cannot connect to {}: {}", address.to_string(), error.message);
    return std::unexpected(std::move(error));
  }
  return std::make_unique<SocketTransport>(*std::move(fd));
}

std::unique_ptr<Transport> adopt_socket(int fd) {
  return std::make_unique<SocketTransport>(FileDescriptor(fd));
}

}  // namespace guestscope::gdb
