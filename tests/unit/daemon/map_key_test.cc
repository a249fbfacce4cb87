#include "daemon/map_key.h"

#include <doctest/doctest.h>

#include <random>

#include "daemon/json_value.h"
#include "tests/support/btf_builder.h"

namespace guestscope {
namespace {

MapContents shape_of(const BtfBuilder& types, TypeId type, std::size_t size) {
  MapContents shape;
  shape.key_size = size;
  shape.btf = std::make_shared<const Btf>(types.build());
  shape.key_type = type;
  return shape;
}

MapContents untyped(std::size_t size, KeyForm form = KeyForm::kBytes) {
  MapContents shape;
  shape.keys = form;
  shape.key_size = size;
  return shape;
}

/// The key as hex, or the message of the error.
std::string made(const MapContents& shape, std::string_view text) {
  const auto key = make_key(shape, text);
  if (!key) CHECK(key.error().code == ErrorCode::kInvalidArgument);
  return key ? hex_bytes(*key) : key.error().message;
}

struct Types : BtfBuilder {
  TypeId u8 = integer("unsigned char", 1, 8);
  TypeId u16 = refer(BtfKind::kTypedef, integer("unsigned short", 2, 16), "u16");
  TypeId u32 = integer("unsigned int", 4, 32);
  TypeId s32 = integer("int", 4, 32, 1);
  TypeId u64 = integer("u64", 8, 64);
  TypeId s64 = integer("s64", 8, 64, 1);
  TypeId u128 = integer("u128", 16, 128);
  TypeId s128 = integer("s128", 16, 128, 1);
  TypeId yes = integer("_Bool", 1, 8, 4);
  TypeId letter = integer("char", 1, 8, 1);
  TypeId real = add(BtfKind::kFloat, "double", 0, 8);
  TypeId single = add(BtfKind::kFloat, "float", 0, 4);
  TypeId half = add(BtfKind::kFloat, "half", 0, 2);
  TypeId pointer = refer(BtfKind::kPtr, 0);
  TypeId color = enumeration(BtfKind::kEnum, "color", 4,
                             {{"RED", 0}, {"GREEN", 5}, {"BLUE", 0xfffffffd}}, true);
  TypeId wide = enumeration(BtfKind::kEnum64, "wide", 8, {{"BIG", 0xfedcba9876543210}});
  TypeId old = enumeration(BtfKind::kEnum, "old", 4, {{"DEBT", 0xfffffffd}});
  TypeId name = array(letter, 8);
  TypeId pair = aggregate(BtfKind::kStruct, "pair", 8,
                          {{"cpu", u32, 0}, {"port", u16, 32}, {"proto", u8, 48}});
};

}  // namespace

TEST_CASE("an index is a number in the size of the key") {
  for (const KeyForm form : {KeyForm::kIndex, KeyForm::kNumber}) {
    CHECK(made(untyped(4, form), "258") == "02010000");
    CHECK(made(untyped(4, form), "0x102") == "02010000");
    CHECK(made(untyped(4, form), "4294967296") == "key: 4294967296 does not fit 4 bytes");
    CHECK(made(untyped(4, form), "-1") == "key: '-1' is not a number");
    CHECK(made(untyped(4, form), "") == "key: '' is not a number");
    CHECK(made(untyped(4, form), "1 ") == "key: '1 ' is not a number");
  }
}

TEST_CASE("a map whose entries have no keys says so") {
  CHECK(made(untyped(0, KeyForm::kNone), "1") == "the entries of this map have no keys");
  CHECK_FALSE(parse_hex_key(untyped(0, KeyForm::kNone), ""));
}

TEST_CASE("without a type a key is all its bytes as hex, or a number that is shorter") {
  CHECK(made(untyped(4), "01020304") == "01020304");
  CHECK(made(untyped(4), "0x01020304") == "01020304");
  CHECK(made(untyped(4), "\"01020304\"") == "01020304");
  CHECK(made(untyped(4), "1") == "01000000");
  CHECK(made(untyped(4), "0x102") == "02010000");
  CHECK(made(untyped(8), "18446744073709551615") == "ffffffffffffffff");
  CHECK(made(untyped(2), "65536") == "key: 65536 does not fit 2 bytes");
  CHECK(made(untyped(12), "1").starts_with("key: '1' is neither 24 hex digits"));
  CHECK(made(untyped(4), "zz").starts_with("key: 'zz' is neither 8 hex digits"));
  CHECK(made(untyped(4), "{}").starts_with("key: '{}' is neither"));
  Types types;
  CHECK(made(shape_of(types, types.u64, 4), "01020304") == "01020304");  // does not fit
}

TEST_CASE("key_hex is the bytes in memory order whatever the type") {
  Types types;
  const MapContents shape = shape_of(types, types.u32, 4);
  CHECK(*parse_hex_key(shape, "01020304") ==
        Bytes{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}});
  CHECK(*parse_hex_key(shape, "0x01020304") == *parse_hex_key(shape, "01020304"));
  for (const char* wrong : {"", "1", "010203", "0102030405", "0102030g", "0x0x0102", "+1020304"})
    CHECK_FALSE(parse_hex_key(shape, wrong));
}

TEST_CASE("a number by its type is decimal or hex and has to fit") {
  Types types;
  const auto key = [&](TypeId type, std::size_t size, std::string_view text) {
    return made(shape_of(types, type, size), text);
  };
  CHECK(key(types.u32, 4, "01000000") == "40420f00");
  CHECK(key(types.u32, 4, "0xffffffff") == "ffffffff");
  CHECK(key(types.s32, 4, "-1") == "ffffffff");
  CHECK(key(types.s32, 4, "-2147483648") == "00000080");
  CHECK(key(types.s32, 4, "2147483648") == "key: 2147483648 does not fit int");
  CHECK(key(types.u32, 4, "-1") == "key: -1 does not fit unsigned int");
  CHECK(key(types.u16, 2, "70000") == "key: 70000 does not fit u16");
  CHECK(key(types.u8, 1, "300") == "key: 300 does not fit unsigned char");
  CHECK(key(types.u8, 1, "x") == "key: \"x\" is not a number");
  CHECK(key(types.u64, 8, "18446744073709551615") == "ffffffffffffffff");
  CHECK(key(types.u128, 16, "340282366920938463463374607431768211455") == std::string(32, 'f'));
  CHECK(
      key(types.u128, 16, "340282366920938463463374607431768211456").ends_with("is not a number"));
  CHECK(key(types.s128, 16, "-2") == "fe" + std::string(30, 'f'));
  CHECK(key(types.pointer, 8, "0xffff888000001000") ==
        "00100000"
        "8088ffff");
  CHECK(key(types.yes, 1, "true") == "01");
  CHECK(key(types.yes, 1, "0") == "00");
  CHECK(key(types.yes, 1, "2") == "key: \"2\" is not true or false");
  CHECK(key(types.real, 8, "-2.5") == "00000000000004c0");
  CHECK(key(types.single, 4, "inf") == "0000807f");
}

TEST_CASE("an enumerator is its name or its number") {
  Types types;
  const MapContents color = shape_of(types, types.color, 4);
  CHECK(made(color, "GREEN") == "05000000");
  CHECK(made(color, "\"BLUE\"") == "fdffffff");
  CHECK(made(color, "-3") == "fdffffff");
  CHECK(made(color, "77") == "4d000000");
  CHECK(made(color, "PINK") == "key: \"PINK\" is no enumerator of enum color");
  CHECK(made(shape_of(types, types.wide, 8), "BIG") == "1032547698badcfe");
  CHECK(made(shape_of(types, types.old, 4), "DEBT") == "fdffffff");
}

TEST_CASE("a char array is bare text or a JSON string, padded with zeros") {
  Types types;
  const MapContents name = shape_of(types, types.name, 8);
  CHECK(made(name, "eth0") == "6574683000000000");
  CHECK(made(name, "\"eth0\"") == "6574683000000000");
  CHECK(made(name, "12345678") == "3132333435363738");
  CHECK(made(name, "") == "0000000000000000");
  CHECK(made(name, "[1,0,-1,0,0,0,0,0]") == "0100ff0000000000");
  CHECK(made(name, "123456789") == "key: a text of 9 bytes, expected at most 8");
  CHECK(made(name, "[1]") == "key: an array of 1 elements, expected 8");
}

TEST_CASE("a structure has all its members, no others, and each fits") {
  Types types;
  const MapContents pair = shape_of(types, types.pair, 8);
  CHECK(made(pair, R"({"cpu":1,"port":443,"proto":6})") == "01000000bb010600");
  CHECK(made(pair, R"({"proto":"6","port":"0x1bb","cpu":1})") == "01000000bb010600");
  CHECK(made(pair, "01000000bb010600") == "01000000bb010600");
  CHECK(made(pair, R"({"cpu":1,"port":70000,"proto":6})") == "key.port: 70000 does not fit u16");
  CHECK(made(pair, R"({"cpu":1.5,"port":7,"proto":6})") == "key.cpu: 1.5 is not a number");
  CHECK(made(pair, R"({"cpu":null,"port":7,"proto":6})") == "key.cpu: null is not a number");
  CHECK(made(pair, R"({"cpu":1})") == "key: port, proto missing");
  CHECK(made(pair, R"({"cpu":1,"port":7,"proto":6,"x":1})") ==
        "key: struct pair has no member \"x\"");
  CHECK(made(pair, "[1]") == "key: [1] is not an object");
  CHECK(made(pair, "{") == "key: '{' is not valid JSON");
  CHECK(made(pair, "7").starts_with("key: '7' is neither JSON of struct pair nor 16 hex digits"));
}

TEST_CASE("bit fields fit their bits, in any byte") {
  Types types;
  const TypeId bits = types.aggregate(BtfKind::kStruct, "bits", 8,
                                      {{"low", types.u32, 0, 3},
                                       {"minus", types.s32, 3, 9},
                                       {"color", types.color, 12, 4},
                                       {"", types.u32, 16, 2},
                                       {"old", types.old, 18, 5},
                                       {"high", types.u64, 60, 4}},
                                      true);
  const MapContents shape = shape_of(types, bits, 8);
  CHECK(made(shape, R"({"low":5,"minus":-2,"color":"GREEN","old":"DEBT","high":15})") ==
        "f55f7400"
        "000000f0");
  CHECK(made(shape, R"({"low":8,"minus":0,"color":0,"old":0,"high":0})") ==
        "key.low: 8 does not fit 3 bits of unsigned int");
  CHECK(made(shape, R"({"low":0,"minus":-257,"color":0,"old":0,"high":0})") ==
        "key.minus: -257 does not fit 9 bits of int");
}

TEST_CASE("one member of a union is enough, several have to agree") {
  Types types;
  const TypeId parts = types.array(types.u8, 4);
  const TypeId halves =
      types.aggregate(BtfKind::kStruct, "", 8, {{"c", types.u32, 0}, {"d", types.u32, 32}});
  const TypeId either =
      types.aggregate(BtfKind::kUnion, "", 8, {{"b", types.u64, 0}, {"", halves, 0}});
  const TypeId number =
      types.aggregate(BtfKind::kUnion, "number", 4, {{"whole", types.u32, 0}, {"parts", parts, 0}});
  const TypeId outer =
      types.aggregate(BtfKind::kStruct, "outer", 16, {{"n", number, 0}, {"", either, 64}});
  const MapContents shape = shape_of(types, outer, 16);
  CHECK(made(shape, R"({"n":{"whole":1},"b":2})") == "01000000000000000200000000000000");
  CHECK(made(shape, R"({"n":{"parts":[1,0,0,0]},"c":2,"d":0})") ==
        "01000000000000000200000000000000");
  CHECK(made(shape, R"({"n":{"whole":1,"parts":[1,0,0,0]},"b":2,"c":2,"d":0})") ==
        "01000000000000000200000000000000");
  CHECK(made(shape, R"({"n":{"whole":1,"parts":[2,0,0,0]},"b":2})") ==
        "key.n.parts[0]: it contradicts another member of the same union");
  CHECK(made(shape, R"({"n":{},"b":2})") == "key.n: whole missing");
  CHECK(made(shape, R"({"n":{"whole":1}})") == "key: b missing");
  CHECK(made(shape, R"({"n":{"whole":1},"d":1})") == "key: c missing");
}

TEST_CASE("types without end or sense are errors") {
  Types types;
  const TypeId self = types.next_id();
  types.aggregate(BtfKind::kUnion, "u", 8, {{"", self, 0}, {"", self, 0}});
  const TypeId outside = types.aggregate(BtfKind::kStruct, "o", 4,
                                         {{"a", types.u32, 24}, {"b", types.u32, 8, 31}}, true);
  CHECK(make_key(shape_of(types, self, 8), "{}").error().code == ErrorCode::kCorrupt);
  CHECK(make_key(shape_of(types, outside, 4), R"({"a":1,"b":1})").error().code ==
        ErrorCode::kCorrupt);
  CHECK(make_key(shape_of(types, outside, 4), R"({"b":1})").error().code == ErrorCode::kCorrupt);
  CHECK(made(shape_of(types, types.half, 2), "003c") == "003c");
  CHECK(made(shape_of(types, 9999, 2), "003c") == "003c");
}

TEST_CASE("what append_value prints of random bytes makes the same key") {
  Types types;
  const TypeId inner =
      types.aggregate(BtfKind::kUnion, "", 16,
                      {{"whole", types.u128, 0}, {"text", types.name, 0}, {"s", types.s64, 64}});
  const TypeId rows = types.array(types.array(types.s32, 2), 2);
  const TypeId all = types.aggregate(BtfKind::kStruct, "all", 88,
                                     {{"low", types.u64, 0, 7},
                                      {"wide", types.s64, 7, 50},
                                      {"rest", types.u64, 57, 7},
                                      {"", inner, 64},
                                      {"rows", rows, 192},
                                      {"color", types.color, 320},
                                      {"old", types.old, 352},
                                      {"big", types.wide, 384},
                                      {"real", types.real, 448},
                                      {"half", types.half, 512},
                                      {"port", types.u16, 528},
                                      {"f", types.single, 544},
                                      {"signed", types.s128, 576}},
                                     true);
  const MapContents shape = shape_of(types, all, 88);
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    Bytes bytes(88);
    for (std::byte& byte : bytes) {
      const std::uint64_t value = random();
      byte = static_cast<std::byte>((value >> 8) % 4 == 0 ? 0 : value & 0xff);
    }
    bytes[63] = bytes[71] = std::byte{0x40};  // not a NaN, of which there are many
    std::string text;
    REQUIRE(append_value(text, *shape.btf, all, bytes));
    REQUIRE(made(shape, text) == hex_bytes(bytes));
  }
}

}  // namespace guestscope
