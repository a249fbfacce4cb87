// The server on a loopback port, over plain sockets: its guests cannot be reached, or answer what
// a test put there.
#include "daemon/http_server.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>

#include "tests/unit/daemon/live_guest.h"

namespace guestscope {
namespace {

using namespace std::chrono_literals;

/// A connection that sends what it is told and reads what comes.
class Connection {
 public:
  explicit Connection(int port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    const int small = 4096;
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
    address.sin_port = ::htons(static_cast<std::uint16_t>(port));
    REQUIRE(::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() { ::close(fd_); }

  void send(std::string_view text) const {
    REQUIRE(::send(fd_, text.data(), text.size(), MSG_NOSIGNAL) ==
            static_cast<ssize_t>(text.size()));
  }
  void end_of_requests() const { ::shutdown(fd_, SHUT_WR); }
  void give_up_after(std::chrono::seconds time) const {
    const timeval limit{.tv_sec = time.count(), .tv_usec = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }
  /// One piece of what comes; empty at the end.
  std::string some() const {
    std::array<char, 4096> in{};
    const ssize_t n = ::recv(fd_, in.data(), in.size(), 0);
    return {in.data(), n > 0 ? static_cast<std::size_t>(n) : 0};
  }
  std::string rest() const {
    std::string text;
    for (std::string piece = some(); !piece.empty(); piece = some()) text += piece;
    return text;
  }

 private:
  int fd_;
};

struct Reply {
  std::string head;
  std::string body;

  bool has(std::string_view header) const { return head.find(header) != std::string::npos; }
};

/// A guest at an address where nobody listens, served on a port of the system's choice.
struct Server {
  Server() : api({&session}), http(api) {
    REQUIRE(http.start({.host = "127.0.0.1", .port = 0}));
    REQUIRE(ask("GET", "/healthz").has("HTTP/1.1 200"));
  }

  Reply ask(std::string_view method, std::string_view target, std::string_view more = {}) const {
    const Connection connection(http.port());
    connection.send(fmt::format("{} {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}\r\n", method,
                                target, more));
    const std::string text = connection.rest();
    const std::size_t end = text.find("\r\n\r\n");
    REQUIRE(end != text.npos);
    return {.head = text.substr(0, end + 2), .body = text.substr(end + 4)};
  }

  static GuestConfig nowhere() {
    GuestConfig config;
    config.gdb = {.kind = gdb::StubAddress::Kind::kUnix, .path = "/nowhere/stub"};
    return config;
  }

  GuestSession session{nowhere(), test::load_model()};
  Api api;
  HttpServer http;
};

std::string code_of(const Reply& reply) { return Json::parse(reply.body)["code"]; }

TEST_CASE_FIXTURE(Server, "an answer is JSON, not to be stored, and ends with a line feed") {
  const Reply reply = ask("GET", "/healthz");
  CHECK(reply.has("HTTP/1.1 200 OK\r\n"));
  CHECK(reply.has("Content-Type: application/json\r\n"));
  CHECK(reply.has("Cache-Control: no-store\r\n"));
  CHECK(reply.body == "{\"status\":\"ok\"}\n");
}

TEST_CASE_FIXTURE(Server, "a path that there is not is a problem document") {
  const Reply reply = ask("GET", "/nothing/here?x");
  CHECK(reply.has("HTTP/1.1 404"));
  CHECK(reply.has("Content-Type: application/problem+json\r\n"));
  CHECK(code_of(reply) == "not_found");
  CHECK(code_of(ask("GET", "/maps?raw&raw")) == "invalid_request");
}

TEST_CASE_FIXTURE(Server,
                  "other methods than GET and HEAD are refused, and the allowed ones named") {
  for (const char* method : {"POST", "PUT", "DELETE", "PATCH", "OPTIONS"}) {
    CAPTURE(std::string(method));
    const Reply reply = ask(method, "/healthz", "Content-Length: 0\r\n");
    CHECK(reply.has("HTTP/1.1 405"));
    CHECK(reply.has("Allow: GET, HEAD\r\n"));
    CHECK(code_of(reply) == "method_not_allowed");
  }
}

// Without Content-Length there is no body (RFC 9112, 6.3), as in what curl -X POST sends.
TEST_CASE_FIXTURE(Server, "a refused request without a body is answered at once") {
  const Connection connection(http.port());
  connection.give_up_after(2s);
  connection.send("POST /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  CHECK(connection.rest().starts_with("HTTP/1.1 405"));
}

TEST_CASE_FIXTURE(Server, "HEAD has the headers of GET and no body") {
  const Reply head = ask("HEAD", "/healthz");
  const Reply get = ask("GET", "/healthz");
  for (const char* header : {"200 OK", "Content-Length: 16", "Content-Type: application/json\r\n",
                             "Cache-Control: no-store"}) {
    CHECK(head.has(header));
    CHECK(get.has(header));
  }
  CHECK(head.body.empty());
  CHECK(ask("HEAD", "/nothing").has("HTTP/1.1 404"));
}

TEST_CASE_FIXTURE(Server, "a guest that cannot be reached is 503 with when to come again") {
  session.start();
  test::LiveGuest::wait_until([&] { return session.status().connection_error.has_value(); });
  for (const char* path : {"/maps", "/maps/3", "/progs", "/runqueues"}) {
    const Reply reply = ask("GET", path);
    CHECK(reply.has("HTTP/1.1 503"));
    CHECK(reply.has("Retry-After: 1\r\n"));
    CHECK(code_of(reply) == "guest_unreachable");
  }
  CHECK(ask("GET", "/readyz").has("Retry-After: 1\r\n"));
  CHECK(ask("GET", "/status").has("HTTP/1.1 200"));
}

TEST_CASE_FIXTURE(Server, "what is no HTTP gets an answer or an end, and others are still served") {
  {
    const Connection connection(http.port());
    connection.send("nonsense\r\n\r\n");
    connection.end_of_requests();
    const std::string text = connection.rest();
    CAPTURE(text);
    CHECK((text.empty() || text.find("400") != text.npos));
  }
  CHECK(ask("GET", fmt::format("/{}", std::string(100000, 'a'))).has("HTTP/1.1 4"));
  CHECK(ask("GET", "/healthz").has("HTTP/1.1 200"));
}

// What is not read of a refused request must not be taken for the next one.
TEST_CASE_FIXTURE(Server, "the body of a refused request is no request") {
  const std::string inner = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  const Connection connection(http.port());
  connection.send(fmt::format("POST /maps HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{}",
                              inner.size(), inner));
  std::string text;
  while (text.find("use GET") == text.npos) {
    const std::string piece = connection.some();
    REQUIRE_FALSE(piece.empty());
    text += piece;
  }
  connection.end_of_requests();
  text += connection.rest();
  CHECK(text.find("HTTP/1.1 405") != text.npos);
  CHECK(text.find("HTTP/1.1 200") == text.npos);
}

TEST_CASE_FIXTURE(Server, "a port in use is an error that names the address") {
  HttpServer second(api);
  const auto started = second.start({.host = "127.0.0.1", .port = http.port()});
  REQUIRE_FALSE(started);
  CHECK(started.error().code == ErrorCode::kSystem);
  CHECK(started.error().message.starts_with(
      fmt::format("cannot listen on 127.0.0.1:{}: ", http.port())));
  CHECK(second.stop(1ms));
  CHECK(ask("GET", "/healthz").has("HTTP/1.1 200"));
}

TEST_CASE_FIXTURE(Server, "an address of another machine is an error") {
  HttpServer second(api);
  const auto started = second.start({.host = "192.0.2.1", .port = 0});
  REQUIRE_FALSE(started);
  CHECK(started.error().message.starts_with("cannot listen on 192.0.2.1:0: "));
}

TEST_CASE_FIXTURE(Server, "an idle server stops within its grace") {
  CHECK(ask("GET", "/healthz").has("HTTP/1.1 200"));
  CHECK(http.stop(5s));
  CHECK(http.stop(0ms));
}

TEST_CASE("a server that is stopped as soon as it was started has stopped") {
  const Api api({});
  for (int i = 0; i < 20; ++i) {
    HttpServer http(api);
    REQUIRE(http.start({.host = "127.0.0.1", .port = 0}));
    const bool stopped = http.stop(1s);
    CHECK(stopped);
    if (!stopped) http.stop(5s);  // lest the destructor waits for ever
  }
}

TEST_CASE(
    "a server is stopped while a client does not read its streamed answer, once it has gone") {
  auto guest = test::LiveGuest::booted();
  mini::bpf_array array{};
  array.map.map_type = 2;
  array.map.key_size = 4;
  array.map.value_size = array.elem_size = 4096;
  array.map.max_entries = 1536;  // 12 MiB of hex: more than sockets buffer
  array.map.refcnt.counter = 1;
  guest->put_idr("map_idr", {{1, guest->put(array)}});
  test::LiveGuest live(std::move(guest));
  live.wait_until_ready();
  HttpServer http(live.api);
  REQUIRE(http.start({.host = "127.0.0.1", .port = 0}));
  {
    const Connection lazy(http.port());
    lazy.send("GET /maps/1 HTTP/1.1\r\nHost: x\r\n\r\n");
    // Until the body has begun: a stop between headers and body ends the answer at once.
    std::string text;
    while (text.find("\"entries\":[") == text.npos) {
      const std::string piece = lazy.some();
      REQUIRE_FALSE(piece.empty());
      text += piece;
    }
    CHECK(text.starts_with("HTTP/1.1 200"));
    CHECK_FALSE(http.stop(50ms));
  }
  CHECK(http.stop(20s));
}

}  // namespace
}  // namespace guestscope
