#include "tests/unit/daemon/ram_process.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstring>

namespace guestscope::test {
namespace {

struct Order {
  char what = 0;
  std::uint64_t a = 0;
  std::uint64_t b = 0;
  std::uint64_t c = 0;
};

void* pointer(std::uint64_t address) {
  return reinterpret_cast<void*>(address);  // NOLINT(performance-no-int-to-ptr)
}

// The child's side.
class Child {
 public:
  std::uint64_t obey(const Order& order) {
    switch (order.what) {
      case 'a': return map(order.a, -1);
      case 'm': return map_file(order.a, ::memfd_create("ram", MFD_CLOEXEC));
      case 'f': return map_file(order.a, ::fileno(std::tmpfile()));
      case 't': return ::ftruncate(file_, static_cast<off_t>(order.a)) == 0 ? 1 : 0;
      case 'w':
        for (std::uint64_t i = 0; i < order.b; ++i)
          static_cast<std::byte*>(pointer(order.a))[i] = pattern(order.c, i);
        return 1;
      case 'u': return ::munmap(pointer(order.a), order.b) == 0 ? 1 : 0;
      case 'o': return map_at(order.a, order.b, -1) ? 1 : 0;
      case 'p': return ::mprotect(pointer(order.a), order.b, PROT_NONE) == 0 ? 1 : 0;
      default: return 0;
    }
  }

 private:
  static bool map_at(std::uint64_t address, std::uint64_t size, int file) {
    const int flags = MAP_FIXED | (file < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
    return ::mmap(pointer(address), size, PROT_READ | PROT_WRITE, flags, file, 0) != MAP_FAILED;
  }
  static std::uint64_t map(std::uint64_t size, int file) {
    void* all = ::mmap(nullptr, size + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) return 0;
    const auto address = reinterpret_cast<std::uint64_t>(all) + kPage;
    return map_at(address, size, file) ? address : 0;
  }
  std::uint64_t map_file(std::uint64_t size, int file) {
    file_ = file;
    return ::ftruncate(file, static_cast<off_t>(size)) == 0 ? map(size, file) : 0;
  }

  int file_ = -1;
};

[[noreturn]] void run_child(int control) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  Child child;
  Order order;
  while (::recv(control, &order, sizeof order, 0) == sizeof order) {
    if (order.what == 'x') ::execl("/bin/sleep", "sleep", "1000", nullptr);
    const std::uint64_t answer = child.obey(order);
    ::send(control, &answer, sizeof answer, MSG_NOSIGNAL);
  }
  ::_exit(0);
}

Connection accept_and_connect(int family, const sockaddr* listen_at, socklen_t size,
                              const std::function<int(int listener)>& connect, bool accept) {
  const FileDescriptor listener(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(::bind(listener.get(), listen_at, size) == 0);
  REQUIRE(::listen(listener.get(), 1) == 0);
  static FileDescriptor waiting;  // a listener whose connection nobody accepts has to stay
  Connection connection;
  connection.near = FileDescriptor(connect(listener.get()));
  REQUIRE(connection.near);
  if (accept)
    connection.far = FileDescriptor(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  else
    waiting = FileDescriptor(::fcntl(listener.get(), F_DUPFD_CLOEXEC, 0));
  return connection;
}

sockaddr_storage ip(const char* text, std::uint16_t port, socklen_t& size) {
  sockaddr_storage storage{};
  auto& in = reinterpret_cast<sockaddr_in&>(storage);
  auto& in6 = reinterpret_cast<sockaddr_in6&>(storage);
  if (::inet_pton(AF_INET, text, &in.sin_addr) == 1) {
    in.sin_family = AF_INET;
    in.sin_port = htons(port);
    size = sizeof in;
  } else {
    REQUIRE(::inet_pton(AF_INET6, text, &in6.sin6_addr) == 1);
    in6.sin6_family = AF_INET6;
    in6.sin6_port = htons(port);
    size = sizeof in6;
  }
  return storage;
}

}  // namespace

std::byte pattern(std::uint64_t seed, std::uint64_t offset) {
  return static_cast<std::byte>(offset * 31 + (offset >> 8) * 7 + (offset >> 12) * 13 + seed);
}

RamProcess::RamProcess() {
  std::array<int, 2> ends{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0);
  control_ = FileDescriptor(ends[0]);
  const FileDescriptor theirs(ends[1]);
  pid_ = ::fork();
  REQUIRE(pid_ >= 0);
  if (pid_ == 0) {
    ::close(ends[0]);
    run_child(ends[1]);
  }
}

RamProcess::~RamProcess() { kill(); }

void RamProcess::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

std::uint64_t RamProcess::tell(char what, std::uint64_t a, std::uint64_t b, std::uint64_t c) {
  const Order order{.what = what, .a = a, .b = b, .c = c};
  REQUIRE(::send(control_.get(), &order, sizeof order, MSG_NOSIGNAL) == sizeof order);
  std::uint64_t answer = 0;
  // exec() closes the child's end instead.
  const ssize_t n = ::recv(control_.get(), &answer, sizeof answer, 0);
  REQUIRE(n == (what == 'x' ? 0 : static_cast<ssize_t>(sizeof answer)));
  REQUIRE((what == 'x' || answer != 0));
  return answer;
}

Result<std::string> RamMonitor::operator()(std::string_view command) {
  ++asked;
  if (const auto other = instead.find(command); other != instead.end()) return other->second;
  if (command == "info mtree -f") {
    std::string text = "FlatView #0\n AS \"memory\", root: system\n Root memory region: system\n";
    for (const Range& range : ranges)
      text += fmt::format("  {:016x}-{:016x} (prio 0, {}): {}\n", range.guest,
                          range.guest + range.size - 1, range.type, range.name);
    return text;
  }
  std::uint64_t guest = 0;
  REQUIRE(command.starts_with("gpa2hva 0x"));
  std::from_chars(command.data() + 10, command.data() + command.size(), guest, 16);
  for (const Range& range : ranges)
    if (guest >= range.guest && guest - range.guest < range.size)
      return fmt::format("Host virtual address for {:#x} ({}) is {:#x}\n", guest, range.name,
                         range.host + (guest - range.guest));
  return fmt::format("No memory is mapped at address {:#x}\n", guest);
}

StubOfProcess::StubOfProcess(pid_t pid, std::vector<RamMonitor::Range> ranges)
    : ranges_(std::move(ranges)),
      memory_(::open(fmt::format("/proc/{}/mem", pid).c_str(), O_RDONLY | O_CLOEXEC)) {
  REQUIRE(memory_);
}

void StubOfProcess::read(std::span<PhysRead> reads) {
  ++batches;
  for (PhysRead& read : reads) {
    read.error = Error{.code = ErrorCode::kNotRam, .message = "not RAM"};
    const std::uint64_t guest = read.address.value();
    for (const auto& range : ranges_) {
      if (guest < range.guest || guest - range.guest >= range.size) continue;
      const auto host = static_cast<off_t>(range.host + (guest - range.guest));
      if (::pread(memory_.get(), read.into.data(), read.into.size(), host) ==
          static_cast<ssize_t>(read.into.size()))
        read.error.reset();
    }
    if (!read.error && spoil) spoil(batches, read);
  }
}

Connection connect_tcp(const char* listen, const char* connect, bool accept) {
  socklen_t size = 0;
  const sockaddr_storage at = ip(listen, 0, size);
  return accept_and_connect(
      at.ss_family, reinterpret_cast<const sockaddr*>(&at), size,
      [&](int listener) {
        sockaddr_storage bound{};
        socklen_t bound_size = sizeof bound;
        ::getsockname(listener, reinterpret_cast<sockaddr*>(&bound), &bound_size);
        const std::uint16_t port = ntohs(reinterpret_cast<const sockaddr_in&>(bound).sin_port);
        socklen_t to_size = 0;
        const sockaddr_storage to = ip(connect, port, to_size);
        const int fd = ::socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        REQUIRE(::connect(fd, reinterpret_cast<const sockaddr*>(&to), to_size) == 0);
        return fd;
      },
      accept);
}

Connection connect_unix(bool accept) {
  static int number = 0;
  sockaddr_un at{};
  at.sun_family = AF_UNIX;
  // Abstract: no file to remove.
  const std::string name = fmt::format("guestscope-test-{}-{}", ::getpid(), ++number);
  std::memcpy(at.sun_path + 1, name.data(), name.size());
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return accept_and_connect(
      AF_UNIX, reinterpret_cast<const sockaddr*>(&at), size,
      [&](int) {
        const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        REQUIRE(::connect(fd, reinterpret_cast<const sockaddr*>(&at), size) == 0);
        return fd;
      },
      accept);
}

std::optional<pid_t> fork_as(pid_t pid, std::uint64_t address, std::uint64_t size) {
  const FileDescriptor ready(::eventfd(0, EFD_CLOEXEC));
  clone_args arguments{};
  arguments.exit_signal = SIGCHLD;
  arguments.set_tid = reinterpret_cast<std::uint64_t>(&pid);
  arguments.set_tid_size = 1;
  const long child = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  if (child < 0) return std::nullopt;
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    // Filled by the kernel: sanitizers know of the parent's memory that was there.
    if (size > 0)
      ::syscall(SYS_getrandom,
                ::mmap(pointer(address), size, PROT_READ | PROT_WRITE,
                       MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                size, 0);
    ::eventfd_write(ready.get(), 1);
    while (true) ::pause();
  }
  eventfd_t value = 0;
  REQUIRE(::eventfd_read(ready.get(), &value) == 0);
  return pid;
}

void end_process(pid_t pid) {
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
}

std::string as_nobody(const std::function<std::string()>& work) {
  constexpr uid_t kNobody = 65534;
  std::array<int, 2> ends{};
  REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
  const FileDescriptor in(ends[0]);
  FileDescriptor out(ends[1]);
  const pid_t pid = ::fork();
  REQUIRE(pid >= 0);
  if (pid == 0) {
    std::string text = "cannot become nobody";
    if (::setresgid(kNobody, kNobody, kNobody) == 0 &&
        ::setresuid(kNobody, kNobody, kNobody) == 0) {
      // A change of user hides a process from its own /proc.
      ::prctl(PR_SET_DUMPABLE, 1);
      text = work();
    }
    [[maybe_unused]] const auto written = ::write(out.get(), text.data(), text.size());
    ::_exit(0);
  }
  out = FileDescriptor();
  std::string text;
  std::array<char, 4096> part{};
  for (ssize_t n = 0; (n = ::read(in.get(), part.data(), part.size())) > 0;)
    text.append(part.data(), static_cast<std::size_t>(n));
  ::waitpid(pid, nullptr, 0);
  return text;
}

}  // namespace guestscope::test
