#include "introspect/layout.h"

#include <doctest/doctest.h>

#include "tests/support/btf_builder.h"
#include "type_test_support.h"

namespace guestscope {

TEST_CASE("fields are bound with their offset, size and sign") {
  const Btf btf = fixture_btf();
  enum : std::size_t { kId, kTemperature, kName, kGrid, kList };
  constexpr FieldNeed kFields[] = {{"id"}, {"temperature"}, {"name"}, {"grid"}, {"list"}};
  const auto layout = StructLayout::bind(btf, "everything", kFields);
  REQUIRE(layout);
  CHECK(layout->name() == "struct everything");
  CHECK(layout->size() == 176);
  CHECK(layout->extent() == 176);
  CHECK(layout->field_count() == 5);
  CHECK((*layout)[kTemperature].offset == 8);
  CHECK((*layout)[kTemperature].size == 4);
  CHECK((*layout)[kTemperature].is_signed);
  CHECK_FALSE((*layout)[kId].is_signed);
  CHECK((*layout)[kName].offset == 12);
  CHECK((*layout)[kName].size == 8);
  CHECK((*layout)[kName].element_size == 1);
  CHECK((*layout)[kGrid].size == 24);
  CHECK((*layout)[kGrid].element_size == 12);
  CHECK((*layout)[kList].present);
  CHECK((*layout)[kList].offset == 176);
  CHECK((*layout)[kList].size == 0);
  CHECK((*layout)[kList].element_size == 16);
  CHECK_FALSE((*layout)[5].present);
}

TEST_CASE("paths lead through embedded structures and anonymous members") {
  const Btf btf = fixture_btf();
  constexpr FieldNeed kFields[] = {{"inner.d"}, {"inner.b"}, {"number.parts"}, {"inner"}};
  const auto layout = StructLayout::bind(btf, "everything", kFields);
  REQUIRE(layout);
  CHECK((*layout)[0].offset == 32 + 12);
  CHECK((*layout)[1].offset == 32 + 8);
  CHECK((*layout)[2].offset == 56);
  CHECK((*layout)[3].size == 16);
  CHECK(layout->extent() == 60);
}

TEST_CASE("paths do not lead through pointers") {
  const Btf btf = fixture_btf();
  constexpr FieldNeed kFields[] = {{"opaque.x", kOptional}, {"inners.a", kOptional}};
  const auto layout = StructLayout::bind(btf, "everything", kFields);
  REQUIRE(layout);
  CHECK_FALSE((*layout)[0].present);
  CHECK_FALSE((*layout)[1].present);
}

TEST_CASE("of alternatives the first that exists is taken") {
  const Btf btf = fixture_btf();
  constexpr FieldNeed kFields[] = {{"inner.queued|inner.c|inner.a"}, {"inner.a|inner.c"}};
  const auto layout = StructLayout::bind(btf, "everything", kFields);
  REQUIRE(layout);
  CHECK((*layout)[0].offset == 40);
  CHECK((*layout)[1].offset == 32);
}

TEST_CASE("one error lists every required field that is missing, and no optional one") {
  const Btf btf = fixture_btf();
  constexpr FieldNeed kFields[] = {
      {"id"}, {"nowhere"}, {"scx.flags", kOptional}, {"inner.x|inner.y"}, {"id.a"}};
  const auto layout = StructLayout::bind(btf, "everything", kFields);
  REQUIRE_FALSE(layout);
  CHECK(layout.error().code == ErrorCode::kUnsupported);
  CHECK(layout.error().message ==
        "BTF of fixture: struct everything has no nowhere, inner.x|inner.y, id.a");
}

TEST_CASE("an optional field that is missing is absent, and reads as zero") {
  const Btf btf = fixture_btf();
  constexpr FieldNeed kFields[] = {{"id"}, {"scx.flags", kOptional}};
  const auto layout = StructLayout::bind(btf, "everything", kFields);
  REQUIRE(layout);
  const Bytes bytes(8, std::byte{0xff});
  const auto view = StructView::over(*layout, bytes);
  REQUIRE(view);
  CHECK(view->has(0));
  CHECK_FALSE(view->has(1));
  CHECK(view->u64(1) == 0);
  CHECK(view->s64(1) == 0);
  CHECK(view->bytes(1).empty());
}

TEST_CASE("a structure that is missing, or none, is unsupported by name") {
  const Btf btf = fixture_btf();
  const auto missing = StructLayout::bind(btf, "task_struct", {});
  REQUIRE_FALSE(missing);
  CHECK(missing.error().code == ErrorCode::kUnsupported);
  CHECK(missing.error().message == "BTF of fixture: no structure task_struct");
  const TypeId number = *btf.find(BtfKind::kInt, "int");
  CHECK(StructLayout::bind(btf, number, {}).error().message ==
        "BTF of fixture: int int is no structure");
  CHECK(StructLayout::bind(btf, btf.type_count(), {}).error().code == ErrorCode::kNotFound);
}

TEST_CASE("of structures that share a name, the one with the required fields is taken") {
  BtfBuilder builder;
  const TypeId number = builder.integer("int", 4, 32, 1);
  builder.aggregate(BtfKind::kStruct, "bucket", 8, {{"other", number, 0}, {"lock", number, 32}});
  const TypeId wanted = builder.aggregate(BtfKind::kStruct, "bucket", 12,
                                          {{"head", number, 0}, {"lock", number, 64}});
  const TypeId more =
      builder.aggregate(BtfKind::kStruct, "bucket", 16,
                        {{"head", number, 0}, {"lock", number, 64}, {"x", number, 96}});
  const Btf btf = builder.build();
  constexpr FieldNeed kFields[] = {{"head"}, {"lock"}};
  CHECK(StructLayout::bind(btf, "bucket", kFields)->type() == wanted);
  constexpr FieldNeed kMore[] = {{"head"}, {"x", kOptional}};
  CHECK(StructLayout::bind(btf, "bucket", kMore)->type() == more);
  constexpr FieldNeed kNone[] = {{"head"}, {"nowhere"}};
  CHECK(StructLayout::bind(btf, "bucket", kNone).error().message ==
        "BTF of test: struct bucket has no nowhere");
}

TEST_CASE("a typedef of an anonymous structure is bound by its name") {
  BtfBuilder builder;
  const TypeId number = builder.integer("int", 4, 32, 1);
  const TypeId body = builder.aggregate(BtfKind::kStruct, "", 4, {{"counter", number, 0}});
  builder.refer(BtfKind::kTypedef, body, "atomic_t");
  const Btf btf = builder.build();
  constexpr FieldNeed kFields[] = {{"counter"}};
  CHECK(StructLayout::bind(btf, "atomic_t", kFields)->size() == 4);
}

TEST_CASE("the type behind a pointer or in an array is known") {
  const Btf btf = fixture_btf();
  constexpr FieldNeed kFields[] = {{"inners"}, {"list"}, {"opaque"}, {"callback"}, {"id"}};
  const auto layout = StructLayout::bind(btf, "everything", kFields);
  REQUIRE(layout);
  const TypeId inner = *btf.find(BtfKind::kStruct, "inner");
  CHECK(layout->pointee(0) == inner);
  CHECK(layout->pointee(1) == inner);
  CHECK(btf.kind(layout->pointee(2)) == BtfKind::kFwd);
  CHECK(btf.kind(layout->pointee(3)) == BtfKind::kFuncProto);
  CHECK(layout->pointee(4) == 0);
  CHECK(layout->pointee(99) == 0);
}

TEST_CASE("numbers are read with and without sign, of every width") {
  const Btf btf = fixture_btf();
  constexpr FieldNeed kFields[] = {{"id"}, {"temperature"}, {"ready"}, {"signed_wide"}, {"opaque"}};
  const auto layout = StructLayout::bind(btf, "everything", kFields);
  REQUIRE(layout);
  const Memory memory = Memory(176)
                            .put(0, 0x8000000000000001, 8)
                            .put(8, 0xfffffffe, 4)
                            .put(23, 1, 1)
                            .put(64, 0xffff888000001000, 8)
                            .put(128, 0xfffffffffffffffd, 8)
                            .put(136, UINT64_MAX, 8);
  const auto view = StructView::over(*layout, memory);
  REQUIRE(view);
  CHECK(view->u64(0) == 0x8000000000000001);
  CHECK(view->u64(1) == 0xfffffffe);
  CHECK(view->s64(1) == -2);
  CHECK(view->u64(2) == 1);
  CHECK(view->s64(3) == -3);
  CHECK(view->bytes(3).size() == 16);
  CHECK(view->pointer(4) == GuestVirt(0xffff888000001000));
}

TEST_CASE("bit fields are read with and without sign") {
  const Btf btf = fixture_btf();
  constexpr FieldNeed kFields[] = {{"low"}, {"negative"}, {"wide"}, {"set"}, {"colour"}};
  const auto layout = StructLayout::bind(btf, "flags", kFields);
  REQUIRE(layout);
  CHECK((*layout)[1].bit_offset == 3);
  CHECK((*layout)[1].bit_size == 5);
  // low 5, negative -2, wide 0x123456789a, set 1, colour 7
  const std::uint64_t word = 5 | 0x1eULL << 3 | 0x923456789aULL << 8 | 1ULL << 48 | 7ULL << 49;
  const Memory memory = Memory(8).put(0, word, 8);
  const auto view = StructView::over(*layout, memory);
  REQUIRE(view);
  CHECK(view->u64(0) == 5);
  CHECK(view->u64(1) == 0x1e);
  CHECK(view->s64(1) == -2);
  CHECK(view->u64(2) == 0x923456789a);
  CHECK(view->u64(3) == 1);
  CHECK(view->u64(4) == 7);
}

TEST_CASE("a bit field that crosses nine bytes is read whole") {
  BtfBuilder builder;
  const TypeId wide = builder.integer("u64", 8, 64);
  builder.aggregate(BtfKind::kStruct, "packed", 9, {{"low", wide, 0, 7}, {"field", wide, 7, 64}},
                    true);
  const Btf btf = builder.build();
  constexpr FieldNeed kFields[] = {{"field"}};
  const auto layout = StructLayout::bind(btf, "packed", kFields);
  REQUIRE(layout);
  CHECK((*layout)[0].size == 9);
  const Memory memory = Memory(9).put(0, 0x80, 8).put(8, 0x7f, 1);
  CHECK(StructView::over(*layout, memory)->u64(0) == 0xfe00000000000001);
}

TEST_CASE("text is read up to its NUL, or whole") {
  const Btf btf = fixture_btf();
  constexpr FieldNeed kFields[] = {{"name"}};
  const auto layout = StructLayout::bind(btf, "everything", kFields);
  REQUIRE(layout);
  CHECK(StructView::over(*layout, Memory(20).text(12, "abc"))->text(0) == "abc");
  CHECK(StructView::over(*layout, Memory(20).text(12, "12345678"))->text(0) == "12345678");
}

TEST_CASE("bytes that end before the last bound field are refused, and more are not needed") {
  const Btf btf = fixture_btf();
  constexpr FieldNeed kFields[] = {{"id"}, {"temperature"}};
  const auto layout = StructLayout::bind(btf, "everything", kFields);
  REQUIRE(layout);
  CHECK(layout->extent() == 12);
  CHECK(StructView::over(*layout, Bytes(12)));
  const auto refused = StructView::over(*layout, Bytes(11));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ErrorCode::kCorrupt);
  CHECK(refused.error().message == "struct everything: 11 bytes, but its fields need 12");
}

TEST_CASE("a field that lies outside its structure is an error, for optional ones too") {
  BtfBuilder builder;
  const TypeId number = builder.integer("int", 4, 32, 1);
  const TypeId huge = builder.array(number, 1U << 31);
  const TypeId inner = builder.aggregate(BtfKind::kStruct, "inner", 4, {{"far", number, 4000}});
  builder.aggregate(BtfKind::kStruct, "s", 8,
                    {{"x", number, 40}, {"y", huge, 0}, {"z", inner, 32}, {"w", number, 4096}});
  const Btf btf = builder.build();
  for (const char* path : {"x", "y", "z.far", "w"}) {
    const FieldNeed needs[] = {{path, kOptional}};
    const auto layout = StructLayout::bind(btf, "s", needs);
    CAPTURE(path);
    REQUIRE_FALSE(layout);
    CHECK(layout.error().code == ErrorCode::kCorrupt);
  }
}

}  // namespace guestscope
