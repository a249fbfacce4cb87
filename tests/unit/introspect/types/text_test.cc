#include "introspect/text.h"

#include <doctest/doctest.h>

#include "introspect/short_string.h"

namespace guestscope {

TEST_CASE("plain ASCII, tabs and line ends are text") {
  CHECK(is_text(""));
  CHECK(is_text("swapper/0"));
  CHECK(is_text("a\tb\r\nc"));
}

TEST_CASE("valid UTF-8 of every length is text") {
  CHECK(is_text("\xc3\xa9"));
  CHECK(is_text("\xe2\x82\xac"));
  CHECK(is_text("\xf0\x9f\x90\xa7"));
  CHECK(is_text("\xf4\x8f\xbf\xbf"));
}

TEST_CASE("control characters are not text") {
  for (const char* bytes : {"\x01", "a\x1b[0m", "\x7f", "\xc2\x80", "\xc2\x9f"}) {
    CAPTURE(bytes);
    CHECK_FALSE(is_text(bytes));
  }
  CHECK_FALSE(is_text(std::string_view("a\0b", 3)));
}

TEST_CASE("broken UTF-8 is not text") {
  for (const char* bytes :
       {"\x80", "\xff", "\xc3", "\xe2\x82", "\xf0\x9f\x90", "\xc3x", "\xc0\xaf", "\xe0\x80\xaf",
        "\xf0\x80\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80"}) {
    CAPTURE(bytes);
    CHECK_FALSE(is_text(bytes));
  }
}

TEST_CASE("a name in a string table ends at its NUL, and is empty when it is not there") {
  const std::string table = std::string("\0abc\0", 5) + std::string(kMaxNameBytes, 'x') + '\0' +
                            std::string(kMaxNameBytes + 1, 'y') + '\0' + "open";
  const ByteSpan bytes = std::as_bytes(std::span(table));
  CHECK(short_string_at(bytes, 0) == "");
  CHECK(short_string_at(bytes, 1) == "abc");
  CHECK(short_string_at(bytes, 3) == "c");
  CHECK(short_string_at(bytes, 5) == std::string(kMaxNameBytes, 'x'));
  CHECK(short_string_at(bytes, 6 + kMaxNameBytes) == "");
  CHECK(short_string_at(bytes, table.size() - 4) == "");
  CHECK(short_string_at(bytes, table.size()) == "");
  CHECK(short_string_at(bytes, SIZE_MAX) == "");
}

}  // namespace guestscope
