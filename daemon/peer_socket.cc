#include "daemon/peer_socket.h"

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <span>
#include <system_error>
#include <vector>

#include "daemon/file_descriptor.h"

namespace guestscope {
namespace {

constexpr std::size_t kMaxTcpRows = std::size_t{1} << 22;

template <typename T>
bool parse(std::string_view text, T& into, int base) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), into, base);
  return error == std::errc{} && end == text.data() + text.size();
}

Endpoint mapped(std::span<const std::uint8_t, 4> address, std::uint16_t port) {
  Endpoint endpoint{.address = {}, .port = port};
  endpoint.address[10] = endpoint.address[11] = 0xff;
  std::ranges::copy(address, endpoint.address.begin() + 12);
  return endpoint;
}

// "0100007F:1F90": words as the machine loads them from memory, so storing them gives the bytes.
std::optional<Endpoint> parse_endpoint(std::string_view text) {
  constexpr std::size_t kWord = 8;
  const std::size_t colon = text.find(':');
  if (colon != kWord && colon != 4 * kWord) return std::nullopt;
  std::array<std::uint8_t, 16> bytes{};
  for (std::size_t i = 0; i < colon / kWord; ++i) {
    std::uint32_t word = 0;
    if (!parse(text.substr(i * kWord, kWord), word, 16)) return std::nullopt;
    std::memcpy(&bytes[i * sizeof word], &word, sizeof word);
  }
  std::uint16_t port = 0;
  if (!parse(text.substr(colon + 1), port, 16)) return std::nullopt;
  if (colon == kWord) return mapped(std::span(bytes).first<4>(), port);
  return Endpoint{.address = bytes, .port = port};
}

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  while (true) {
    const std::size_t begin = line.find_first_not_of(' ');
    if (begin == line.npos) return words;
    line.remove_prefix(begin);
    const std::size_t end = std::min(line.find(' '), line.size());
    words.push_back(line.substr(0, end));
    line.remove_prefix(end);
  }
}

std::string to_text(const Endpoint& endpoint) {
  const bool v4 = endpoint.address[10] == 0xff && endpoint.address[11] == 0xff &&
                  std::ranges::all_of(std::span(endpoint.address).first<10>(),
                                      [](std::uint8_t byte) { return byte == 0; });
  std::array<char, INET6_ADDRSTRLEN> text{};
  ::inet_ntop(v4 ? AF_INET : AF_INET6, endpoint.address.data() + (v4 ? 12 : 0), text.data(),
              text.size());
  return v4 ? fmt::format("{}:{}", text.data(), endpoint.port)
            : fmt::format("[{}]:{}", text.data(), endpoint.port);
}

// The kernel walks its table in several reads and may pass over a row that moves meanwhile: a
// second look costs nothing that counts.
std::optional<TcpRow> find_row(const Endpoint& ours, const Endpoint& theirs) {
  for (const char* path :
       {"/proc/self/net/tcp", "/proc/self/net/tcp6", "/proc/self/net/tcp", "/proc/self/net/tcp6"}) {
    std::ifstream file(path);
    std::string line;
    for (std::size_t i = 0; i < kMaxTcpRows && std::getline(file, line); ++i) {
      const auto row = parse_tcp_row(line);
      if (row && row->state == TCP_ESTABLISHED && row->local == theirs && row->remote == ours)
        return row;
    }
  }
  return std::nullopt;
}

Error not_accepted(const std::string& name) {
  return {.code = ErrorCode::kNotReady, .message = name + " has not accepted the connection yet"};
}

Result<PeerSocket> tcp_peer(const Endpoint& ours, const Endpoint& theirs) {
  const std::string name = to_text(theirs);
  const auto row = find_row(ours, theirs);
  if (!row)
    return fail(ErrorCode::kUnsupported,
                "the stub at {} is not on this machine, or in a container with a network of its "
                "own: run guestscope where QEMU runs",
                name);
  if (row->inode == 0) return std::unexpected(not_accepted(name));
  return PeerSocket{.inode = row->inode, .listener = {}, .uid = row->uid, .name = name};
}

struct UnixDiagRequest {
  nlmsghdr header{};
  unix_diag_req body{};
};

// The answer: a header, a unix_diag_msg, attributes. Empty when it is something else (an error: the
// kernel is built without).
std::optional<std::uint32_t> peer_in(std::span<const char> answer) {
  nlmsghdr header{};
  if (answer.size() < sizeof header) return std::nullopt;
  std::memcpy(&header, answer.data(), sizeof header);
  if (header.nlmsg_type != SOCK_DIAG_BY_FAMILY || header.nlmsg_len > answer.size())
    return std::nullopt;
  answer = answer.first(header.nlmsg_len);
  std::size_t at = NLMSG_LENGTH(NLMSG_ALIGN(sizeof(unix_diag_msg)));
  rtattr attribute{};
  while (at <= answer.size() && sizeof attribute <= answer.size() - at) {
    std::memcpy(&attribute, answer.data() + at, sizeof attribute);
    if (attribute.rta_len < sizeof attribute || attribute.rta_len > answer.size() - at) break;
    std::uint32_t value = 0;
    if (attribute.rta_type == UNIX_DIAG_PEER && attribute.rta_len == RTA_LENGTH(sizeof value)) {
      std::memcpy(&value, answer.data() + at + RTA_LENGTH(0), sizeof value);
      return value;
    }
    at += RTA_ALIGN(attribute.rta_len);
  }
  return std::nullopt;
}

// Empty when the kernel does not tell.
std::optional<std::uint32_t> unix_peer_inode(int socket) {
  struct stat status{};
  if (::fstat(socket, &status) != 0) return std::nullopt;
  const FileDescriptor netlink(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!netlink) return std::nullopt;
  UnixDiagRequest request;
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST;
  request.body.sdiag_family = AF_UNIX;
  request.body.udiag_states = ~0U;
  request.body.udiag_ino = static_cast<std::uint32_t>(status.st_ino);
  request.body.udiag_show = UDIAG_SHOW_PEER;
  request.body.udiag_cookie[0] = request.body.udiag_cookie[1] = ~0U;  // any
  if (::send(netlink.get(), &request, sizeof request, 0) != sizeof request) return std::nullopt;
  std::array<char, 4096> answer{};
  // The kernel answers within send().
  const ssize_t n = ::recv(netlink.get(), answer.data(), answer.size(), MSG_DONTWAIT);
  if (n <= 0) return std::nullopt;
  return peer_in(std::span(answer).first(static_cast<std::size_t>(n)));
}

Result<PeerSocket> unix_peer(int socket) {
  PeerSocket peer{.inode = {}, .listener = {}, .uid = 0, .name = "the Unix socket"};
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
    return fail(ErrorCode::kSystem, "SO_PEERCRED: {}", std::generic_category().message(errno));
  peer.uid = credentials.uid;
  // 0: a process that our pid namespace does not have.
  if (credentials.pid > 0) peer.listener = credentials.pid;
  if (const auto inode = unix_peer_inode(socket)) {
    if (*inode == 0) return std::unexpected(not_accepted(peer.name));
    peer.inode = *inode;
  }
  return peer;
}

}  // namespace

std::optional<Endpoint> endpoint_of(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    sockaddr_in in{};
    std::memcpy(&in, &address, sizeof in);
    std::array<std::uint8_t, 4> bytes{};
    std::memcpy(bytes.data(), &in.sin_addr, bytes.size());
    return mapped(bytes, ntohs(in.sin_port));
  }
  if (address.ss_family != AF_INET6) return std::nullopt;
  sockaddr_in6 in6{};
  std::memcpy(&in6, &address, sizeof in6);
  Endpoint endpoint{.address = {}, .port = ntohs(in6.sin6_port)};
  std::memcpy(endpoint.address.data(), &in6.sin6_addr, endpoint.address.size());
  return endpoint;
}

// "  0: 0100007F:1F90 0100007F:C350 01 tx:rx tr:when retransmits uid timeout inode …"
std::optional<TcpRow> parse_tcp_row(std::string_view line) {
  const std::vector<std::string_view> words = words_of(line);
  if (words.size() < 10) return std::nullopt;
  const auto local = parse_endpoint(words[1]);
  const auto remote = parse_endpoint(words[2]);
  TcpRow row;
  if (!local || !remote || !parse(words[3], row.state, 16) || !parse(words[7], row.uid, 10) ||
      !parse(words[9], row.inode, 10))
    return std::nullopt;
  row.local = *local;
  row.remote = *remote;
  return row;
}

Result<PeerSocket> peer_of(int socket) {
  sockaddr_storage ours{};
  sockaddr_storage theirs{};
  socklen_t our_size = sizeof ours;
  socklen_t their_size = sizeof theirs;
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&ours), &our_size) != 0 ||
      ::getpeername(socket, reinterpret_cast<sockaddr*>(&theirs), &their_size) != 0)
    return fail(ErrorCode::kSystem, "the stub's connection: {}",
                std::generic_category().message(errno));
  if (ours.ss_family == AF_UNIX) return unix_peer(socket);
  const auto our_end = endpoint_of(ours);
  const auto their_end = endpoint_of(theirs);
  if (!our_end || !their_end)
    return fail(ErrorCode::kUnsupported, "the stub's connection is neither TCP nor a Unix socket");
  return tcp_peer(*our_end, *their_end);
}

}  // namespace guestscope
