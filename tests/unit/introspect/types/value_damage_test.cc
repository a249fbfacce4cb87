// Values whose types make no sense: what can be told is, the rest is reported in its place, and the
// nesting holds.
#include <doctest/doctest.h>

#include <chrono>

#include "introspect/limits.h"
#include "tests/support/btf_builder.h"
#include "type_test_support.h"

namespace guestscope {
namespace {

struct Outcome {
  bool well_nested;
  int damages;
  std::size_t length;
};

Outcome visit(const Btf& btf, TypeId type, ByteSpan bytes) {
  PrintVisitor visitor;
  const auto done = visit_value(btf, type, bytes, visitor);
  REQUIRE(done);
  return {visitor.well_nested(), visitor.damages, visitor.out.size()};
}

}  // namespace

TEST_CASE("a type that does not exist, or has no end, is an error") {
  BtfBuilder builder;
  const TypeId circle = builder.refer(BtfKind::kTypedef, 1, "circle");
  const TypeId self = builder.array(builder.next_id(), 1);
  const Btf btf = builder.build();
  PrintVisitor visitor;
  CHECK(visit_value(btf, 99, Memory(8), visitor).error().code == ErrorCode::kNotFound);
  CHECK(visit_value(btf, circle, Memory(8), visitor).error().code == ErrorCode::kCorrupt);
  CHECK(visit_value(btf, self, Memory(8), visitor).error().code == ErrorCode::kCorrupt);
  CHECK(visitor.out.empty());
}

TEST_CASE("a member outside its structure is reported in its place, the others are printed") {
  BtfBuilder builder;
  const TypeId number = builder.integer("int", 4, 32, 1);
  const TypeId owner = builder.aggregate(
      BtfKind::kStruct, "s", 8,
      {{"a", number, 0}, {"b", number, 40}, {"c", number, 1 << 20}, {"d", number, 32}});
  CHECK(
      print(builder.build(), owner, Memory(8).put(0, 1, 4).put(4, 2, 4)) ==
      "{a:1,b:!struct s has a member outside of it!,c:!struct s has a member outside of it!,d:2}");
}

TEST_CASE("a member without size is reported in its place") {
  BtfBuilder builder;
  const TypeId forward = builder.add(BtfKind::kFwd, "f", 0, 0);
  const TypeId number = builder.integer("int", 4, 32, 1);
  const TypeId owner =
      builder.aggregate(BtfKind::kStruct, "s", 8, {{"f", forward, 0}, {"n", number, 32}});
  CHECK(print(builder.build(), owner, Memory(8).put(4, 2, 4)) ==
        "{f:!BTF of test: fwd f (type 1) has no size!,n:2}");
}

TEST_CASE("a variable outside its section, or larger than its room, is reported in its place") {
  BtfBuilder builder;
  const TypeId number = builder.integer("int", 4, 32, 1);
  const TypeId a = builder.add(BtfKind::kVar, "a", 0, number, {1});
  const TypeId b = builder.add(BtfKind::kVar, "b", 0, number, {1});
  const TypeId c = builder.add(BtfKind::kVar, "c", 0, number, {1});
  const TypeId section =
      builder.add(BtfKind::kDatasec, ".bss", 3, 8, {a, 0, 2, b, UINT32_MAX, 4, c, 4, 4});
  CHECK(print(builder.build(), section, Memory(8).put(4, 3, 4)) ==
        "{a:!int int lies outside its structure!,"
        "b:!datasec .bss has a variable outside of it!,c:3}");
}

TEST_CASE("a structure that contains itself ends at the depth limit") {
  BtfBuilder builder;
  const TypeId self = builder.aggregate(BtfKind::kStruct, "s", 8, {{"s", builder.next_id(), 0}});
  const Outcome outcome = visit(builder.build(), self, Memory(8));
  CHECK(outcome.well_nested);
  CHECK(outcome.damages == 1);
}

TEST_CASE("a union that contains itself twice ends, and says that something is left out") {
  BtfBuilder builder;
  const TypeId self = builder.next_id();
  builder.aggregate(BtfKind::kUnion, "u", 8, {{"a", self, 0}, {"b", self, 0}});
  const TypeId hidden = builder.next_id();
  builder.aggregate(BtfKind::kUnion, "h", 8, {{"", hidden, 0}, {"", hidden, 0}, {"x", self, 0}});
  const Btf btf = builder.build();
  for (const TypeId id : {self, hidden}) {
    const Outcome outcome = visit(btf, id, Memory(8));
    CHECK(outcome.well_nested);
    CHECK(outcome.damages > 0);
    CHECK(outcome.length < 100 * (kValueStepsBase + 8 * kValueStepsPerByte));
    CHECK(print(btf, id, Memory(8)).find("(left out):!union") != std::string::npos);
  }
}

TEST_CASE("an array of four thousand million empty structures prints as empty") {
  BtfBuilder builder;
  const TypeId nothing = builder.aggregate(BtfKind::kStruct, "nothing", 0, {});
  const TypeId many = builder.array(nothing, UINT32_MAX);
  CHECK(print(builder.build(), many, Memory(0)) == "[]");
}

TEST_CASE("many views of a long array are cut off with a word about it") {
  BtfBuilder builder;
  const TypeId byte = builder.integer("unsigned char", 1, 8);
  const TypeId row = builder.array(byte, 4096);
  const std::vector<BtfBuilder::Member> views(1000, {"view", row, 0});
  const TypeId owner = builder.aggregate(BtfKind::kUnion, "u", 4096, views);
  const Outcome outcome = visit(builder.build(), owner, Memory(4096));
  CHECK(outcome.well_nested);
  CHECK(outcome.damages > 0);
}

TEST_CASE("an honest value of many parts is not cut off") {
  BtfBuilder builder;
  const TypeId number = builder.integer("unsigned char", 1, 8);
  const TypeId row = builder.array(number, 1 << 20);
  CHECK(visit(builder.build(), row, Memory(1 << 20)).damages == 0);
}

TEST_CASE("a long enumeration that never matches does not take its length for each element") {
  BtfBuilder builder;
  std::vector<BtfBuilder::Enumerator> list(60'000, {"E", 77});
  const TypeId type = builder.enumeration(BtfKind::kEnum, "e", 1, list);
  const TypeId row = builder.array(type, 1 << 20);
  const Btf btf = builder.build();
  const auto start = std::chrono::steady_clock::now();
  const Outcome outcome = visit(btf, row, Memory(1 << 20).put(0, 1, 1));
  // 63 thousand million comparisons would take minutes.
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(20));
  CHECK(outcome.well_nested);
  CHECK(outcome.damages == 1);
}

}  // namespace guestscope
