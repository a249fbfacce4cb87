#include "daemon/qemu_process.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <memory>
#include <optional>
#include <string_view>
#include <system_error>
#include <tuple>

#include "daemon/peer_socket.h"

namespace guestscope {
namespace {

constexpr const char* kPtraceScope = "/proc/sys/kernel/yama/ptrace_scope";
// The largest file read whole is `maps`: 65530 areas (vm.max_map_count) of some 100 bytes.
constexpr std::size_t kMaxProcFile = std::size_t{256} << 20;
constexpr std::size_t kMaxProcesses = std::size_t{1} << 22;  // PID_MAX_LIMIT
constexpr std::size_t kMaxFilesOfProcess = std::size_t{1} << 20;

std::string reason_of(int error) { return std::generic_category().message(error); }

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};
using Folder = std::unique_ptr<DIR, CloseFolder>;

// Empty where the kernel has no Yama.
std::optional<int> ptrace_scope() {
  std::ifstream file(kPtraceScope);
  int scope = 0;
  return file >> scope ? std::optional(scope) : std::nullopt;
}

// glibc 2.36 declares it without extern "C", so that C++ cannot link it.
int pidfd_open(pid_t pid) { return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)); }

std::optional<pid_t> pid_in(const char* name) {
  const std::string_view text(name);
  pid_t pid = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), pid);
  if (error != std::errc{} || end != text.data() + text.size() || pid <= 0) return std::nullopt;
  return pid;
}

// "4711 (any (name)) S 1 …": the name may hold anything; the start time is the 22nd field.
bool parse_stat(std::string_view stat, std::string& name, std::uint64_t& started) {
  constexpr std::size_t kWordsBeforeStart = 20;  // counted from the end of the name
  const std::size_t open = stat.find('(');
  const std::size_t close = stat.rfind(')');
  if (open == stat.npos || close == stat.npos || close < open) return false;
  name = stat.substr(open + 1, close - open - 1);
  stat.remove_prefix(close);
  for (std::size_t i = 0; i < kWordsBeforeStart; ++i) {
    const std::size_t space = stat.find(' ');
    if (space == stat.npos) return false;
    stat.remove_prefix(space + 1);
  }
  return std::from_chars(stat.data(), stat.data() + stat.size(), started).ec == std::errc{};
}

// What a search through /proc came upon.
struct Search {
  std::vector<QemuProcess> found;
  std::size_t refused = 0;                // processes that may not be looked at…
  std::optional<Error> listener_refused;  // … and the one that listened, if it is one
};

void look_at(pid_t pid, const PeerSocket& peer, Search& search) {
  auto process = QemuProcess::open(pid);
  if (!process) return;  // ended meanwhile
  const auto has = process->has_socket(*peer.inode);
  if (has && *has) search.found.push_back(*std::move(process));
  if (has || has.error().code != ErrorCode::kSystem) return;  // one that ended is no matter
  ++search.refused;
  if (pid == peer.listener) search.listener_refused = has.error();
}

Result<Search> search_all(const PeerSocket& peer) {
  const Folder folder(::opendir("/proc"));
  if (!folder) return fail(ErrorCode::kSystem, "/proc: {}", reason_of(errno));
  Search search;
  for (std::size_t i = 0; i < kMaxProcesses; ++i) {
    const dirent* entry = ::readdir(folder.get());
    if (entry == nullptr) break;
    if (const auto pid = pid_in(entry->d_name)) look_at(*pid, peer, search);
  }
  std::ranges::sort(search.found, {}, [](const QemuProcess& process) {
    return std::tuple(process.started(), process.pid());
  });
  return search;
}

// A process that has changed its user (QEMU's -runas) is closed even to that user.
Error none_to_be_seen(const PeerSocket& peer, std::size_t refused) {
  const std::string why = peer.uid == ::geteuid()
                              ? "QEMU has changed its user (-runas), or one of the two is in a "
                                "container or user namespace: give guestscope CAP_SYS_PTRACE "
                                "where QEMU runs"
                              : "run guestscope as that user, or give it CAP_SYS_PTRACE";
  return {.code = ErrorCode::kSystem,
          .message = fmt::format("the other end of {} belongs to user {}, guestscope runs as user "
                                 "{}, and {} processes may not be looked at: {}",
                                 peer.name, peer.uid, ::geteuid(), refused, why)};
}

// A kernel without socket diagnosis: whoever listened is all there is to go by.
Result<std::vector<QemuProcess>> listener_alone(const PeerSocket& peer) {
  if (!peer.listener)
    return fail(ErrorCode::kUnsupported,
                "the process behind {} is in another pid namespace (a container): run guestscope "
                "in the same one, or on the host",
                peer.name);
  GS_ASSIGN(QemuProcess process, QemuProcess::open(*peer.listener));
  std::vector<QemuProcess> found;
  found.push_back(std::move(process));
  return found;
}

}  // namespace

Result<QemuProcess> QemuProcess::open(pid_t pid) {
  const std::string path = fmt::format("/proc/{}", pid);
  FileDescriptor folder(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return fail(ErrorCode::kNotFound, "there is no process {}", pid);
  FileDescriptor pidfd(pidfd_open(pid));
  if (!pidfd && errno == ESRCH) return fail(ErrorCode::kNotFound, "there is no process {}", pid);
  if (!pidfd) return fail(ErrorCode::kUnsupported, "pidfd_open: {}", reason_of(errno));
  QemuProcess process(pid, std::move(folder), std::move(pidfd));
  GS_ASSIGN(const std::string stat, process.read_file("stat"));
  if (!parse_stat(stat, process.name_, process.started_))
    return fail(ErrorCode::kSystem, "{}/stat makes no sense", path);
  if (!process.alive()) return fail(ErrorCode::kNotFound, "process {} has ended", pid);
  return process;
}

bool QemuProcess::alive() const {
  pollfd entry{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
  int ready = 0;
  do ready = ::poll(&entry, 1, 0);
  while (ready < 0 && errno == EINTR);
  return ready == 0;
}

Result<FileDescriptor> QemuProcess::open_file(const char* name) const {
  FileDescriptor file(::openat(folder_.get(), name, O_RDONLY | O_CLOEXEC));
  if (file) return file;
  const int reason = errno;
  if (reason == EACCES || reason == EPERM) return std::unexpected(not_permitted(reason));
  if (reason == ENOENT && alive())
    return fail(ErrorCode::kUnsupported, "this kernel has no {} of processes", name);
  if (reason == ENOENT || reason == ESRCH)
    return fail(ErrorCode::kUnreachable, "{} has ended", to_string());
  return fail(ErrorCode::kSystem, "{} of {}: {}", name, to_string(), reason_of(reason));
}

Result<std::string> QemuProcess::read_file(const char* name) const {
  constexpr std::size_t kStep = std::size_t{64} << 10;
  GS_ASSIGN(const FileDescriptor file, open_file(name));
  std::string text;
  while (text.size() < kMaxProcFile) {
    const std::size_t had = text.size();
    text.resize(had + kStep);
    const ssize_t n = ::read(file.get(), text.data() + had, kStep);
    text.resize(had + static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
    if (n == 0) return text;
    if (n < 0 && errno != EINTR)
      return errno == ESRCH
                 ? fail(ErrorCode::kUnreachable, "{} has ended", to_string())
                 : fail(ErrorCode::kSystem, "{} of {}: {}", name, to_string(), reason_of(errno));
  }
  return fail(ErrorCode::kSystem, "{} of {} is larger than {} bytes", name, to_string(),
              kMaxProcFile);
}

Result<bool> QemuProcess::has_socket(std::uint64_t inode) const {
  const std::string wanted = fmt::format("socket:[{}]", inode);
  GS_ASSIGN(FileDescriptor file, open_file("fd"));
  const int fd = ::fcntl(file.get(), F_DUPFD_CLOEXEC, 0);  // for the stream, which closes it
  const Folder folder(fd < 0 ? nullptr : ::fdopendir(fd));
  if (!folder) return fail(ErrorCode::kSystem, "fd of {}: {}", to_string(), reason_of(errno));
  std::array<char, 64> target{};
  for (std::size_t i = 0; i < kMaxFilesOfProcess; ++i) {
    errno = 0;
    const dirent* entry = ::readdir(folder.get());
    if (entry == nullptr && (errno == EACCES || errno == EPERM))
      return std::unexpected(not_permitted(errno));
    if (entry == nullptr) return false;
    const ssize_t n = ::readlinkat(file.get(), entry->d_name, target.data(), target.size());
    if (n < 0 && (errno == EACCES || errno == EPERM)) return std::unexpected(not_permitted(errno));
    if (n > 0 && std::string_view(target.data(), static_cast<std::size_t>(n)) == wanted)
      return true;
  }
  return false;
}

Error QemuProcess::not_permitted(int reason) const {
  std::string why = fmt::format(
      "{}: a security module, or a container's or user namespace's "
      "boundary: run guestscope where QEMU runs, with CAP_SYS_PTRACE",
      reason_of(reason));
  struct stat status{};
  const auto scope = ptrace_scope();
  if (scope == 3)
    why = fmt::format("{} is 3, which forbids it to everybody until the machine is restarted",
                      kPtraceScope);
  else if (::geteuid() != 0 && ::fstat(folder_.get(), &status) == 0 && status.st_uid != ::geteuid())
    why = fmt::format(
        "it belongs to user {} and guestscope runs as user {}: run guestscope as that "
        "user, or give it CAP_SYS_PTRACE",
        status.st_uid, ::geteuid());
  else if (scope && *scope > 0)
    why = fmt::format("{} is {}: write 0 there, or give guestscope CAP_SYS_PTRACE", kPtraceScope,
                      *scope);
  return {.code = ErrorCode::kSystem,
          .message = fmt::format("{} may not be read: {}", to_string(), why)};
}

Result<std::vector<QemuProcess>> processes_behind(int socket) {
  GS_ASSIGN(const PeerSocket peer, peer_of(socket));
  if (!peer.inode) return listener_alone(peer);
  GS_ASSIGN(Search search, search_all(peer));
  if (!search.found.empty()) return std::move(search.found);
  if (search.listener_refused) return std::unexpected(*std::move(search.listener_refused));
  if (search.refused > 0) return std::unexpected(none_to_be_seen(peer, search.refused));
  return fail(
      ErrorCode::kUnsupported,
      "no process that can be seen has the other end of {}, which belongs to user {}: it is "
      "in another pid namespace (a container), or /proc hides it (hidepid)",
      peer.name, peer.uid);
}

}  // namespace guestscope
