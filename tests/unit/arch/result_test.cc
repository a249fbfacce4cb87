#include "arch/result.h"

#include <doctest/doctest.h>

#include <limits>

#include "arch/address.h"
#include "arch/bytes.h"

namespace guestscope {
namespace {

Result<int> half(int value) {
  if (value % 2 != 0) return fail_at(0x1000, ErrorCode::kCorrupt, "{} is odd", value);
  return value / 2;
}

Result<int> quarter(int value) {
  GS_ASSIGN(const int first, half(value));
  GS_ASSIGN(const int second, half(first));
  return second;
}

TEST_CASE("an error passes through the macros with its code, address and message") {
  CHECK(quarter(8) == 2);
  const auto failed = quarter(6);
  REQUIRE_FALSE(failed);
  CHECK(failed.error().code == ErrorCode::kCorrupt);
  CHECK(failed.error().to_string() == "at 0x0000000000001000: 3 is odd");
}

TEST_CASE("an error collects its field path from the inside out") {
  Error error{.code = ErrorCode::kNotMapped, .message = "page not present (level 2)"};
  error.address = 0xffff888003a41000;
  CHECK(error.within("pgd").within("mm").within("task_struct").to_string() ==
        "task_struct.mm.pgd at 0xffff888003a41000: page not present (level 2)");
}

TEST_CASE("only a wrong file, a lacking kernel or wrong input is worth no retry") {
  CHECK(is_transient(ErrorCode::kNotReady));
  CHECK(is_transient(ErrorCode::kNotMapped));
  CHECK(is_transient(ErrorCode::kUnreachable));
  CHECK_FALSE(is_transient(ErrorCode::kUnsupported));
  CHECK_FALSE(is_transient(ErrorCode::kMismatch));
  CHECK_FALSE(is_transient(ErrorCode::kInvalidArgument));
}

TEST_CASE("address arithmetic reports overflow unless wrapping is asked for") {
  const GuestVirt high(std::numeric_limits<std::uint64_t>::max() - 7);
  CHECK(high.offset(7).has_value());
  CHECK_FALSE(high.offset(8).has_value());
  CHECK(high.wrapping_add(8) == GuestVirt(0));
  CHECK(GuestVirt(0x1ff8).bytes_to_boundary(0x1000) == 8);
  CHECK(GuestVirt(0x2000).bytes_to_boundary(0x1000) == 0x1000);
}

TEST_CASE("a byte reader reads little-endian numbers and refuses every byte beyond its end") {
  const Bytes bytes = {std::byte{1}, std::byte{2}, std::byte{3}, std::byte{0}};
  const ByteReader reader(bytes);
  CHECK(reader.number(0, 2) == 0x0201);
  CHECK(reader.number(1, 3) == 0x000302);
  CHECK_FALSE(reader.number(2, 3));
  CHECK_FALSE(reader.number(0, 9));
  CHECK_FALSE(reader.bytes(5, 0));
  CHECK_FALSE(reader.bytes(1, std::numeric_limits<std::size_t>::max()));
  CHECK(reader.get<le16>(1).value() == 0x0302);
  CHECK(reader.c_string(0)->size() == 3);
  CHECK_FALSE(ByteReader(ByteSpan(bytes).first(3)).c_string(0));
}

TEST_CASE("text in an array ends at its first NUL or at the array's end") {
  const Bytes bytes = {std::byte{'a'}, std::byte{'b'}, std::byte{0}, std::byte{'c'}};
  CHECK(text_in(bytes) == "ab");
  CHECK(text_in(ByteSpan(bytes).first(2)) == "ab");
  CHECK(text_in({}).empty());
}

}  // namespace
}  // namespace guestscope
