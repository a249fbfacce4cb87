#include "daemon/request.h"

#include <doctest/doctest.h>

namespace guestscope {
namespace {

using Segments = std::vector<std::string>;
using Query = std::map<std::string, std::string>;

Request parsed(std::string_view target) {
  auto request = Request::parse(target);
  if (!request) FAIL(request.error().to_string());
  return *std::move(request);
}

void check_invalid(std::string_view target, std::string_view why) {
  CAPTURE(std::string(target));
  const auto request = Request::parse(target);
  REQUIRE_FALSE(request);
  CHECK(request.error().code == ErrorCode::kInvalidArgument);
  CHECK(request.error().message == why);
}

TEST_CASE("a path is taken apart at its slashes, and each segment decoded once") {
  CHECK(parsed("/").path == Segments{""});
  CHECK(parsed("/maps").path == Segments{"maps"});
  CHECK(parsed("/maps/").path == Segments{"maps", ""});
  CHECK(parsed("/maps/a%2Fb%20c").path == Segments{"maps", "a/b c"});
  CHECK(parsed("/maps/%2525").path == Segments{"maps", "%25"});
  CHECK(parsed("/maps/%C3%A4%ff").path == Segments{"maps", "\xc3\xa4\xff"});
  CHECK(parsed("/maps/%00").path == Segments{"maps", std::string(1, '\0')});
  CHECK(parsed("/maps/a+b").path == Segments{"maps", "a+b"});
}

TEST_CASE("a query is taken apart at its ampersands and the first equals sign of each part") {
  CHECK(parsed("/maps").query.empty());
  CHECK(parsed("/maps?").query.empty());
  CHECK(parsed("/maps?raw").query == Query{{"raw", ""}});
  CHECK(parsed("/maps?raw=&name=a%26b%3dc").query == Query{{"raw", ""}, {"name", "a&b=c"}});
  CHECK(parsed("/maps?name=a=b").query == Query{{"name", "a=b"}});
  CHECK(parsed("/maps?na%6de=x").query == Query{{"name", "x"}});
  CHECK(parsed("/maps?a=?/").query == Query{{"a", "?/"}});
}

TEST_CASE("what follows a number sign is for the client alone") {
  CHECK(parsed("/maps#a?raw").query.empty());
  CHECK(parsed("/maps?raw#&raw").query == Query{{"raw", ""}});
}

TEST_CASE("every bad percent-encoding is refused, in segments, names and values") {
  for (const std::string_view bad :
       {"%", "%1", "a%", "%zz", "%1g", "%g1", "% 1", "%+1", "%-1", "%0x", "%%41", "%4%31"}) {
    const std::string why = fmt::format("bad percent-encoding in '{}'", bad);
    check_invalid(fmt::format("/{}", bad), why);
    check_invalid(fmt::format("/maps/{}/x", bad), why);
    check_invalid(fmt::format("/maps?{}", bad), why);
    check_invalid(fmt::format("/maps?{}=1", bad), why);
    check_invalid(fmt::format("/maps?name={}&raw", bad), why);
  }
}

TEST_CASE("a path begins with a slash") {
  check_invalid("", "path '' does not begin with '/'");
  check_invalid("maps", "path 'maps' does not begin with '/'");
  check_invalid("?raw", "path '?raw' does not begin with '/'");
  check_invalid("#/maps", "path '' does not begin with '/'");
}

TEST_CASE("a parameter given twice is refused, however it is written and whatever its values") {
  check_invalid("/maps?name=a&name=b", "parameter 'name' is given twice");
  check_invalid("/maps?raw&raw", "parameter 'raw' is given twice");
  check_invalid("/maps?raw=1&x&r%61w=1", "parameter 'raw' is given twice");
}

TEST_CASE("a parameter that a path does not know is refused by name") {
  const Request request = parsed("/maps?name=x&raw");
  CHECK(request.allow_only({"raw", "name"}));
  const auto refused = request.allow_only({"raw"});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ErrorCode::kInvalidArgument);
  CHECK(refused.error().message == "this path has no parameter 'name'");
  CHECK(parsed("/maps?").allow_only({}));
}

TEST_CASE("a flag is on when named, off when absent, and nothing but on or off") {
  CHECK_FALSE(*parsed("/maps").flag("raw"));
  for (const char* on : {"/maps?raw", "/maps?raw=", "/maps?raw=1", "/maps?raw=true"})
    CHECK(*parsed(on).flag("raw"));
  for (const char* off : {"/maps?raw=0", "/maps?raw=false"}) CHECK_FALSE(*parsed(off).flag("raw"));
  for (const char* bad : {"/maps?raw=yes", "/maps?raw=TRUE", "/maps?raw=2", "/maps?raw=%00"}) {
    CAPTURE(std::string(bad));
    const auto flag = parsed(bad).flag("raw");
    REQUIRE_FALSE(flag);
    CHECK(flag.error().code == ErrorCode::kInvalidArgument);
    CHECK(flag.error().message.starts_with("parameter 'raw' is on or off, not '"));
  }
}

}  // namespace
}  // namespace guestscope
