#include "daemon/json_value.h"

#include <doctest/doctest.h>

#include <bit>
#include <limits>

#include "tests/support/btf_builder.h"

namespace guestscope {
namespace {

constexpr std::uint32_t kSigned = 1, kChar = 2, kBool = 4;

template <typename... Numbers>
Bytes bytes_of(Numbers... numbers) {
  Bytes bytes;
  const auto put = [&](auto number) {
    const auto raw = std::as_bytes(std::span(&number, 1));
    bytes.insert(bytes.end(), raw.begin(), raw.end());
  };
  (put(numbers), ...);
  return bytes;
}

std::string printed(const BtfBuilder& builder, TypeId type, ByteSpan bytes) {
  const Btf btf = builder.build();
  std::string text = "<";
  const auto done = append_value(text, btf, type, bytes);
  if (done) return text.substr(1);
  CHECK(text == "<");  // on error nothing is appended
  return done.error().message;
}

TEST_CASE("addresses have all their digits and bytes stand in memory order") {
  CHECK(hex_address(0xffff888003a41000) == "0xffff888003a41000");
  CHECK(hex_address(0x1000) == "0x0000000000001000");
  CHECK(hex_bytes(bytes_of(std::uint32_t{1})) == "01000000");
  CHECK(hex_bytes(bytes_of(std::uint16_t{0xabcd})) == "cdab");
  CHECK(hex_bytes({}) == "");
}

TEST_CASE("64-bit numbers are exact") {
  BtfBuilder types;
  const TypeId u64 = types.integer("u64", 8, 64);
  const TypeId s64 = types.integer("s64", 8, 64, kSigned);
  const auto most = std::numeric_limits<std::uint64_t>::max();
  CHECK(printed(types, u64, bytes_of(most)) == "18446744073709551615");
  CHECK(printed(types, u64, bytes_of(std::uint64_t{9007199254740993})) == "9007199254740993");
  CHECK(printed(types, s64, bytes_of(most)) == "-1");
  CHECK(printed(types, s64, bytes_of(std::numeric_limits<std::int64_t>::min())) ==
        "-9223372036854775808");
}

TEST_CASE("128-bit numbers are decimal strings, signed and unsigned, to their limits") {
  BtfBuilder types;
  const TypeId u128 = types.integer("u128", 16, 128);
  const TypeId s128 = types.integer("s128", 16, 128, kSigned);
  const auto most = std::numeric_limits<std::uint64_t>::max();
  const std::uint64_t zero = 0, one = 1, top = std::uint64_t{1} << 63;
  CHECK(printed(types, u128, bytes_of(most, most)) ==
        "\"340282366920938463463374607431768211455\"");
  CHECK(printed(types, u128, bytes_of(zero, one)) == "\"18446744073709551616\"");
  CHECK(printed(types, s128, bytes_of(most, most)) == "\"-1\"");
  CHECK(printed(types, s128, bytes_of(zero, top)) ==
        "\"-170141183460469231731687303715884105728\"");
  CHECK(printed(types, u128, bytes_of(zero, zero)) == "\"0\"");
}

TEST_CASE("numbers that JSON has no word for are strings and never null") {
  BtfBuilder types;
  const TypeId f64 = types.add(BtfKind::kFloat, "double", 0, 8);
  const TypeId f32 = types.add(BtfKind::kFloat, "float", 0, 4);
  CHECK(printed(types, f64, bytes_of(std::numeric_limits<double>::infinity())) == "\"inf\"");
  CHECK(printed(types, f64, bytes_of(-std::numeric_limits<double>::infinity())) == "\"-inf\"");
  CHECK(printed(types, f64, bytes_of(std::numeric_limits<double>::quiet_NaN())) == "\"nan\"");
  CHECK(printed(types, f32, bytes_of(std::numeric_limits<float>::infinity())) == "\"inf\"");
  CHECK(printed(types, f64, bytes_of(-0.5)) == "-0.5");
  CHECK(printed(types, f32, bytes_of(0.25F)) == "0.25");
}

TEST_CASE("structures nest, members keep their order, and pointers are hex strings") {
  BtfBuilder types;
  const TypeId u32 = types.integer("u32", 4, 32);
  const TypeId flag = types.integer("bool", 1, 8, kBool);
  const TypeId pair = types.array(u32, 2);
  const TypeId pointer = types.refer(BtfKind::kPtr, u32);
  const TypeId color = types.enumeration(BtfKind::kEnum, "color", 4, {{"RED", 0}, {"GREEN", 1}});
  const TypeId inner = types.aggregate(BtfKind::kStruct, "in", 8, {{"z", pair, 0}});
  const TypeId outer = types.aggregate(BtfKind::kStruct, "out", 32,
                                       {{"b", inner, 0},
                                        {"a", pointer, 64},
                                        {"color", color, 128},
                                        {"on", flag, 160},
                                        {"x", u32, 192}});
  const Bytes bytes = bytes_of(1U, 2U, std::uint64_t{0xffff888000001000}, 1U, 1U, 7U, 0U);
  CHECK(printed(types, outer, bytes) ==
        R"({"b":{"z":[1,2]},"a":"0xffff888000001000","color":"GREEN","on":true,"x":7})");
  CHECK(printed(types, pair, bytes) == "[1,2]");
  CHECK(printed(types, types.array(inner, 2), bytes).starts_with(R"([{"z":[1,2]},{"z":[)"));
}

TEST_CASE("empty objects and arrays are there") {
  BtfBuilder types;
  const TypeId u32 = types.integer("u32", 4, 32);
  CHECK(printed(types, types.array(u32, 0), {}) == "[]");
  CHECK(printed(types, types.aggregate(BtfKind::kStruct, "none", 0, {}), {}) == "{}");
}

TEST_CASE("char arrays are text where they are text, and anything else stays valid JSON") {
  BtfBuilder types;
  const TypeId letter = types.integer("char", 1, 8, kSigned | kChar);
  const TypeId name = types.array(letter, 8);
  const auto text = [&](std::string_view eight) {
    return printed(types, name, std::as_bytes(std::span(eight)));
  };
  using namespace std::string_view_literals;
  CHECK(text("busy\0\0\0\0"sv) == "\"busy\"");
  CHECK(text("a\"b\\c\n\0\0"sv) == R"("a\"b\\c\n")");
  CHECK(text("\xc3\xa4\0\0\0\0\0\0"sv) == "\"\xc3\xa4\"");
  for (const std::string_view odd :
       {"\xff\xfe\0\0\0\0\0\0"sv, "\x01\x02\0\0\0\0\0\0"sv, "ab\0cd\0\0\0"sv}) {
    const std::string json = text(odd);
    CAPTURE(json);
    CHECK(Json::accept(json));
  }
}

TEST_CASE("names and texts of the guest that are no UTF-8 are replaced, never an exception") {
  BtfBuilder types;
  const TypeId u32 = types.integer("u32", 4, 32);
  const TypeId color = types.enumeration(BtfKind::kEnum, "c", 4,
                                         {{"R\xff"
                                           "D",
                                           7}});
  const TypeId odd =
      types.aggregate(BtfKind::kStruct, "s", 8, {{"\xf0\x28", u32, 0}, {"c", color, 32}});
  const std::string json = printed(types, odd, bytes_of(3U, 7U));
  CAPTURE(json);
  CHECK(Json::accept(json));
  CHECK(json.find("\xef\xbf\xbd") != std::string::npos);
  CHECK(json.find("\xff") == std::string::npos);
  CHECK(dump_json({{"comm", "a\x80"}}) == "{\"comm\":\"a\xef\xbf\xbd\"}");
}

TEST_CASE("too few bytes and types that do not exist are errors") {
  BtfBuilder types;
  const TypeId u32 = types.integer("u32", 4, 32);
  const Btf btf = types.build();
  std::string text;
  CHECK(append_value(text, btf, u32, bytes_of(std::uint16_t{1})).error().code ==
        ErrorCode::kCorrupt);
  CHECK(append_value(text, btf, 99, bytes_of(1U)).error().code == ErrorCode::kNotFound);
  CHECK(text.empty());
}

TEST_CASE("a part of a value that makes no sense is null, told, and leaves its neighbours") {
  BtfBuilder types;
  const TypeId u32 = types.integer("u32", 4, 32);
  const TypeId absurd = types.integer("absurd", 3, 200);
  const TypeId outer =
      types.aggregate(BtfKind::kStruct, "s", 8, {{"a", absurd, 0}, {"b", u32, 32}});
  const Btf btf = types.build();
  std::string text;
  int damages = 0;
  REQUIRE(append_value(text, btf, outer, bytes_of(1U, 2U), [&](const Error&) { ++damages; }));
  CHECK(text == R"({"a":null,"b":2})");
  CHECK(damages == 1);
  text.clear();
  CHECK(append_value(text, btf, outer, bytes_of(1U, 2U)));
}

TEST_CASE("a string is escaped where it has to be") {
  std::string text;
  append_string(text, "plain ~ text");
  append_string(text, "");
  append_string(text, "q\"b\\n\n\x7f");
  append_string(text, std::string(1, '\0'));
  CHECK(text == "\"plain ~ text\"\"\"\"q\\\"b\\\\n\\n\x7f\"\"\\u0000\"");
}

TEST_CASE("indented JSON is the same JSON") {
  const Json json = {{"b", {1, 2}}, {"a", nullptr}};
  CHECK(dump_json(json) == R"({"b":[1,2],"a":null})");
  CHECK(dump_json(json, 2).find("\n  \"b\"") != std::string::npos);
  CHECK(Json::parse(dump_json(json, 2)) == json);
}

}  // namespace
}  // namespace guestscope
