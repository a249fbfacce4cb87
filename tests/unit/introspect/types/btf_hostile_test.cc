// BTF that lies: nothing may crash, run long, or read outside the bytes.
#include <doctest/doctest.h>

#include "introspect/layout.h"
#include "introspect/limits.h"
#include "tests/support/btf_builder.h"
#include "type_test_support.h"

namespace guestscope {
namespace {

// Uses every accessor on every type.
void exercise(const Btf& btf) {
  constexpr FieldNeed kAnything[] = {{"a|id|low|x.y", kOptional}, {"flags.set", kOptional}};
  const Bytes memory(512);
  for (TypeId id = 0; id <= btf.type_count(); ++id) {
    (void)btf.describe(id);
    (void)btf.size_of(id);
    (void)btf.is_signed(id);
    for (const BtfMember& member : btf.members(id)) (void)btf.place(member);
    for (const BtfEnumerator& each : btf.enumerators(id)) (void)each;
    for (const BtfParam& each : btf.params(id)) (void)each;
    for (const BtfVariable& each : btf.variables(id)) (void)each;
    if (const auto layout = StructLayout::bind(btf, id, kAnything))
      if (const auto view = StructView::over(*layout, memory)) (void)view->s64(0);
    PrintVisitor visitor;
    const auto done = visit_value(btf, id, memory, visitor);
    CHECK((done ? visitor.well_nested() : visitor.out.empty()));
  }
}

ErrorCode parse_error(const Bytes& bytes) {
  const auto btf = Btf::parse(ByteSpan(bytes), "test");
  REQUIRE_FALSE(btf);
  return btf.error().code;
}

Bytes with_byte(Bytes bytes, std::size_t at, int value) {
  bytes.at(at) = static_cast<std::byte>(value);
  return bytes;
}

}  // namespace

TEST_CASE("every truncation of BTF is an error") {
  const Bytes whole = file_bytes(fixture("types.btf"));
  REQUIRE(Btf::parse(ByteSpan(whole), "whole"));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    // A copy of exactly that size, so that the address sanitizer sees a read beyond it.
    const Bytes part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    CAPTURE(size);
    CHECK_FALSE(Btf::parse(ByteSpan(part), "truncated"));
  }
}

TEST_CASE("BTF with any one byte changed is refused or can be walked") {
  const Bytes whole = file_bytes(fixture("types.btf"));
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const int value : {0x00, 0x01, 0x7f, 0xff}) {
      const Bytes changed = with_byte(whole, at, value);
      CAPTURE(at);
      CAPTURE(value);
      if (const auto btf = Btf::parse(ByteSpan(changed), "changed")) exercise(*btf);
    }
  }
}

TEST_CASE("a header that is not one of ours is refused for its reason") {
  const Bytes good = BtfBuilder().bytes();
  CHECK(Btf::parse(ByteSpan(good), "test"));
  CHECK(parse_error({}) == ErrorCode::kCorrupt);
  CHECK(parse_error(with_byte(good, 0, 0)) == ErrorCode::kCorrupt);
  CHECK(parse_error(with_byte(with_byte(good, 0, 0xeb), 1, 0x9f)) == ErrorCode::kUnsupported);
  CHECK(parse_error(with_byte(good, 2, 2)) == ErrorCode::kUnsupported);
  CHECK(parse_error(with_byte(good, 4, 23)) == ErrorCode::kCorrupt);
  CHECK(parse_error(with_byte(good, 7, 0xff)) == ErrorCode::kCorrupt);
}

TEST_CASE("strings must begin with the empty one and end") {
  const Bytes good = BtfBuilder().bytes();
  CHECK(parse_error(with_byte(good, good.size() - 1, 'x')) == ErrorCode::kCorrupt);
  BtfBuilder builder;
  builder.integer("int", 4, 32);
  const Bytes named = builder.bytes();
  CHECK(parse_error(with_byte(named, named.size() - 5, 'x')) == ErrorCode::kCorrupt);
  CHECK(parse_error(with_byte(named, named.size() - 1, 'x')) == ErrorCode::kCorrupt);
}

TEST_CASE("references to types and names that do not exist are refused") {
  BtfBuilder target;
  target.refer(BtfKind::kPtr, 2);
  CHECK(parse_error(target.bytes()) == ErrorCode::kCorrupt);
  BtfBuilder element;
  element.array(9, 1);
  CHECK(parse_error(element.bytes()) == ErrorCode::kCorrupt);
  BtfBuilder member;
  member.aggregate(BtfKind::kStruct, "s", 4, {{"m", 2, 0}});
  CHECK(parse_error(member.bytes()) == ErrorCode::kCorrupt);
  BtfBuilder variable;
  variable.add(BtfKind::kDatasec, ".data", 1, 4, {7, 0, 4});
  CHECK(parse_error(variable.bytes()) == ErrorCode::kCorrupt);
  BtfBuilder name;
  name.add(BtfKind::kEnum, "e", 1, 4, {999, 0});
  CHECK(parse_error(name.bytes()) == ErrorCode::kCorrupt);
}

TEST_CASE("an unknown kind is refused, since nobody knows its length") {
  BtfBuilder builder;
  builder.add(static_cast<BtfKind>(20), "new", 0, 0);
  CHECK(parse_error(builder.bytes()) == ErrorCode::kUnsupported);
  BtfBuilder zero;
  zero.add(BtfKind::kVoid, "void", 0, 0);
  CHECK(parse_error(zero.bytes()) == ErrorCode::kUnsupported);
}

TEST_CASE("a last type that claims more items than there are is refused") {
  for (const std::size_t count : {2U, 0xffffU}) {
    BtfBuilder builder;
    builder.add(BtfKind::kStruct, "s", count, 4, {0, 0, 0});
    // The message, since what lies behind is corrupt in other ways, too.
    CHECK(Btf::parse(builder.bytes(), "test").error().message ==
          "BTF of test: its last type is truncated");
  }
  BtfBuilder headless;
  headless.add(BtfKind::kPtr, "", 0, 0);
  CHECK(parse_error(with_byte(headless.bytes(), 12, 11)) == ErrorCode::kCorrupt);
}

TEST_CASE("typedefs in a circle, and more than the limit of them, are an error") {
  BtfBuilder circle;
  circle.refer(BtfKind::kTypedef, 2, "a");
  circle.refer(BtfKind::kTypedef, 1, "b");
  const Btf btf = circle.build();
  CHECK(btf.resolve(1).error().code == ErrorCode::kCorrupt);
  CHECK(btf.size_of(1).error().code == ErrorCode::kCorrupt);
  exercise(btf);

  BtfBuilder chain;
  TypeId last = chain.integer("int", 4, 32);
  for (unsigned i = 0; i < kMaxModifiers; ++i) last = chain.refer(BtfKind::kConst, last);
  const TypeId too_far = chain.refer(BtfKind::kConst, last);
  const Btf long_one = chain.build();
  CHECK(long_one.resolve(last) == 1);
  CHECK(long_one.resolve(too_far).error().code == ErrorCode::kCorrupt);
}

TEST_CASE("an array of itself, and arrays nested too deep, are an error") {
  BtfBuilder self;
  const TypeId id = self.array(self.next_id(), 1);
  CHECK(self.build().size_of(id).error().code == ErrorCode::kCorrupt);

  BtfBuilder nested;
  TypeId last = nested.integer("int", 4, 32);
  for (unsigned i = 0; i < kMaxTypeDepth; ++i) last = nested.array(last, 1);
  const TypeId too_deep = nested.array(last, 1);
  const Btf btf = nested.build();
  CHECK(btf.size_of(last) == 4);
  CHECK(btf.size_of(too_deep).error().code == ErrorCode::kCorrupt);
  exercise(btf);
}

TEST_CASE("a size that does not fit 64 bits is an error and does not wrap") {
  BtfBuilder builder;
  TypeId last = builder.aggregate(BtfKind::kStruct, "big", UINT32_MAX, {});
  last = builder.array(last, UINT32_MAX);
  const TypeId two_levels = last;
  last = builder.array(last, UINT32_MAX);
  const Btf btf = builder.build();
  CHECK(btf.size_of(two_levels) == std::uint64_t{UINT32_MAX} * UINT32_MAX);
  CHECK(btf.size_of(last).error().code == ErrorCode::kCorrupt);
  exercise(btf);

  // 2^31 * 2^31 * 4 bytes wrap to none.
  BtfBuilder wrapping;
  const TypeId byte = wrapping.integer("char", 1, 8);
  const TypeId wrapped =
      wrapping.array(wrapping.array(wrapping.array(byte, 1U << 31), 1U << 31), 4);
  CHECK(wrapping.build().size_of(wrapped).error().code == ErrorCode::kCorrupt);
}

TEST_CASE("a bit field wider than its type, or of a type that is no number, is an error") {
  BtfBuilder builder;
  const TypeId number = builder.integer("int", 4, 32);
  const TypeId inner = builder.aggregate(BtfKind::kStruct, "inner", 4, {});
  const TypeId owner = builder.aggregate(BtfKind::kStruct, "s", 64,
                                         {{"wide", number, 0, 33},
                                          {"odd", inner, 64, 3},
                                          {"skewed", inner, 131},
                                          {"good", number, 35, 32}},
                                         true);
  const Btf btf = builder.build();
  const auto members = btf.members(owner);
  CHECK(btf.place(members[0]).error().code == ErrorCode::kCorrupt);
  CHECK(btf.place(members[1]).error().code == ErrorCode::kCorrupt);
  CHECK(btf.place(members[2]).error().code == ErrorCode::kCorrupt);
  REQUIRE(btf.place(members[3]));
  CHECK(btf.place(members[3])->size == 5);
}

TEST_CASE("anonymous members that contain each other are searched within the limit") {
  BtfBuilder builder;
  const TypeId self = builder.next_id();
  builder.aggregate(BtfKind::kStruct, "loop", 8,
                    {{"", self, 0}, {"", self, 0}, {"", self, 0}, {"x", self, 0}});
  const Btf btf = builder.build();
  constexpr FieldNeed kMissing[] = {{"nowhere"}};
  CHECK(StructLayout::bind(btf, "loop", kMissing).error().code == ErrorCode::kUnsupported);
  exercise(btf);
}

}  // namespace guestscope
