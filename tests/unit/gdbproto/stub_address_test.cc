#include "gdbproto/stub_address.h"

#include <doctest/doctest.h>

namespace guestscope::gdb {
namespace {

std::string parsed(std::string_view text) {
  const auto address = StubAddress::parse(text);
  return address ? address->to_string() : "error: " + address.error().message;
}

TEST_CASE("a stub address is written as users and QEMU write it") {
  CHECK(parsed("localhost:1234") == "localhost:1234");
  CHECK(parsed("tcp:10.0.0.1:1") == "10.0.0.1:1");
  CHECK(parsed("tcp::1234") == "localhost:1234");
  CHECK(parsed(":1234") == "localhost:1234");
  CHECK(parsed("[::1]:1234") == "[::1]:1234");
  CHECK(parsed("tcp:[fe80::1]:65535") == "[fe80::1]:65535");
  CHECK(parsed("tcp:1234") == "tcp:1234");
  CHECK(parsed("unix:/run/a b:1.sock") == "unix:/run/a b:1.sock");
}

TEST_CASE("a wrong stub address says what is wrong and what is accepted") {
  for (const char* bad : {"", "localhost", "localhost:", "localhost:0", "localhost:65536",
                          "localhost:12x", "localhost:-1", "::1:1234", "[::1:1234", "[]:1234",
                          "[::1]1234", "a b:1", "http://x:80", "unix:"}) {
    CAPTURE(bad);
    const auto address = StubAddress::parse(bad);
    REQUIRE_FALSE(address);
    CHECK(address.error().code == ErrorCode::kInvalidArgument);
    CHECK(address.error().message.find("expected HOST:PORT") != std::string::npos);
  }
}

TEST_CASE("a socket path is as long as the system allows and no longer") {
  CHECK(StubAddress::parse("unix:" + std::string(107, 'x')));
  CHECK_FALSE(StubAddress::parse("unix:" + std::string(108, 'x')));
}

}  // namespace
}  // namespace guestscope::gdb
