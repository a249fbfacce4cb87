#include "gdbproto/stub_address.h"

#include <charconv>

namespace guestscope::gdb {
namespace {

constexpr std::string_view kAccepted = "expected HOST:PORT, tcp:HOST:PORT, [::1]:PORT or unix:PATH";
// sockaddr_un::sun_path holds 108 bytes, its terminator included.
constexpr std::size_t kMaxPath = 107;

Result<StubAddress> parse_unix(std::string_view text, std::string_view path) {
  if (path.empty())
    return fail(ErrorCode::kInvalidArgument, "stub address '{}' has no path; {}", text, kAccepted);
  if (path.size() > kMaxPath)
    return fail(ErrorCode::kInvalidArgument, "stub address '{}': the path has {} bytes, at most {}",
                text, path.size(), kMaxPath);
  if (path.find('\0') != std::string_view::npos)
    return fail(ErrorCode::kInvalidArgument, "stub address: the path holds a NUL byte");
  return StubAddress{.kind = StubAddress::Kind::kUnix, .path = std::string(path)};
}

Result<std::uint16_t> parse_port(std::string_view text, std::string_view digits) {
  std::uint16_t port = 0;
  const char* end = digits.data() + digits.size();
  const auto [stopped, error] = std::from_chars(digits.data(), end, port);
  if (error != std::errc{} || stopped != end || port == 0)
    return fail(ErrorCode::kInvalidArgument, "stub address '{}': '{}' is no port (1 to 65535); {}",
                text, digits, kAccepted);
  return port;
}

// "host" of "host:port", without brackets.
Result<std::string_view> parse_host(std::string_view text, std::string_view host) {
  if (host.starts_with('[')) {
    if (!host.ends_with(']') || host.size() < 3)
      return fail(ErrorCode::kInvalidArgument, "stub address '{}': unbalanced brackets; {}", text,
                  kAccepted);
    return host.substr(1, host.size() - 2);
  }
  if (host.find(':') != std::string_view::npos)
    return fail(ErrorCode::kInvalidArgument,
                "stub address '{}': write an IPv6 address in brackets; {}", text, kAccepted);
  if (host.find_first_of(" /]\0") != std::string_view::npos)
    return fail(ErrorCode::kInvalidArgument, "stub address '{}': '{}' is no host; {}", text, host,
                kAccepted);
  // QEMU writes "tcp::1234" for any local address, users write ":1234" for this machine.
  return host.empty() ? std::string_view("localhost") : host;
}

}  // namespace

Result<StubAddress> StubAddress::parse(std::string_view text) {
  constexpr std::string_view kUnixPrefix = "unix:";
  constexpr std::string_view kTcpPrefix = "tcp:";
  if (text.starts_with(kUnixPrefix)) return parse_unix(text, text.substr(kUnixPrefix.size()));
  std::string_view rest = text;
  // "tcp:1234" is a host named tcp only if nothing else follows.
  if (rest.starts_with(kTcpPrefix) && rest.find(':', kTcpPrefix.size()) != std::string_view::npos)
    rest.remove_prefix(kTcpPrefix.size());
  const std::size_t colon = rest.rfind(':');
  if (colon == std::string_view::npos)
    return fail(ErrorCode::kInvalidArgument, "stub address '{}' has no port; {}", text, kAccepted);
  GS_ASSIGN(const std::string_view host, parse_host(text, rest.substr(0, colon)));
  GS_ASSIGN(const std::uint16_t port, parse_port(text, rest.substr(colon + 1)));
  return StubAddress{.kind = Kind::kTcp, .host = std::string(host), .port = port};
}

std::string StubAddress::to_string() const {
  if (kind == Kind::kUnix) return "unix:" + path;
  if (host.find(':') != std::string::npos) return fmt::format("[{}]:{}", host, port);
  return fmt::format("{}:{}", host, port);
}

}  // namespace guestscope::gdb
