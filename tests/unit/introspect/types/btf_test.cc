#include "introspect/btf.h"

#include <doctest/doctest.h>

#include <utility>

#include "tests/support/btf_builder.h"
#include "type_test_support.h"

namespace guestscope {

TEST_CASE("types are found by kind and name") {
  const Btf btf = fixture_btf();
  const auto inner = btf.find(BtfKind::kStruct, "inner");
  REQUIRE(inner);
  CHECK(btf.name_of(*inner) == "inner");
  CHECK(btf.describe(*inner) == "struct inner");
  CHECK(btf.size_of(*inner) == 16);
  CHECK_FALSE(btf.find(BtfKind::kUnion, "inner"));
  CHECK_FALSE(btf.find(BtfKind::kStruct, "inne"));
  CHECK_FALSE(btf.find(BtfKind::kStruct, ""));
}

TEST_CASE("every type that shares a name is found, in the order of ids") {
  BtfBuilder builder;
  const TypeId first = builder.aggregate(BtfKind::kStruct, "bucket", 4, {});
  builder.integer("bucket", 4, 32);
  const TypeId second = builder.aggregate(BtfKind::kStruct, "bucket", 8, {});
  const Btf btf = builder.build();
  CHECK(btf.find(BtfKind::kStruct, "bucket") == first);
  CHECK(btf.find_all(BtfKind::kStruct, "bucket") == std::vector<TypeId>{first, second});
}

TEST_CASE("an id that does not exist reads as void, and has neither size nor members") {
  const Btf btf = fixture_btf();
  for (const TypeId id : {btf.type_count(), UINT32_MAX}) {
    CHECK_FALSE(btf.contains(id));
    CHECK(btf.kind(id) == BtfKind::kVoid);
    CHECK(btf.name_of(id) == "");
    CHECK(btf.members(id).empty());
    CHECK(btf.enumerators(id).empty());
    CHECK(btf.params(id).empty());
    CHECK(btf.variables(id).empty());
    CHECK(btf.size_of(id).error().code == ErrorCode::kNotFound);
  }
}

TEST_CASE("an empty Btf has only void") {
  const Btf btf;
  CHECK(btf.type_count() == 1);
  CHECK(btf.kind(0) == BtfKind::kVoid);
  CHECK_FALSE(btf.find(BtfKind::kInt, "int"));
  CHECK(btf.string_at(0) == "");
}

TEST_CASE("modifiers are seen through") {
  BtfBuilder builder;
  const TypeId number = builder.integer("int", 4, 32, 1);
  const TypeId tagged = builder.refer(BtfKind::kTypeTag, number, "user");
  const TypeId constant = builder.refer(BtfKind::kConst, tagged);
  const TypeId restricted = builder.refer(BtfKind::kRestrict, constant);
  const TypeId unstable = builder.refer(BtfKind::kVolatile, restricted);
  const TypeId named = builder.refer(BtfKind::kTypedef, unstable, "number");
  const TypeId variable = builder.add(BtfKind::kVar, "n", 0, named, {1});
  const TypeId mark = builder.add(BtfKind::kDeclTag, "mark", 0, variable, {UINT32_MAX});
  const Btf btf = builder.build();
  CHECK(btf.resolve(mark) == number);
  CHECK(btf.size_of(variable) == 4);
  CHECK(btf.is_signed(named));
}

TEST_CASE("what has no size says so") {
  BtfBuilder builder;
  const TypeId forward = builder.add(BtfKind::kFwd, "task_struct", 0, 0);
  const TypeId prototype = builder.add(BtfKind::kFuncProto, "", 0, 0);
  const TypeId function = builder.refer(BtfKind::kFunc, prototype, "f");
  const TypeId elements = builder.array(forward, 3);
  const Btf btf = builder.build();
  for (const TypeId id : {TypeId{0}, forward, prototype, function, elements})
    CHECK(btf.size_of(id).error().code == ErrorCode::kUnsupported);
  CHECK(btf.size_of(forward).error().message ==
        "BTF of test: fwd task_struct (type 1) has no size");
}

TEST_CASE("enumerators of 32 and 64 bits are sign-extended when the enumeration is signed") {
  BtfBuilder builder;
  const TypeId narrow = builder.enumeration(BtfKind::kEnum, "e", 4, {{"A", 0xfffffffe}}, true);
  const TypeId unsigned_one = builder.enumeration(BtfKind::kEnum, "u", 4, {{"B", 0xfffffffe}});
  const TypeId wide = builder.enumeration(BtfKind::kEnum64, "w", 8, {{"C", 1}, {"D", 1ULL << 40}});
  const Btf btf = builder.build();
  CHECK(btf.enumerators(narrow)[0].value == static_cast<std::uint64_t>(-2));
  CHECK(btf.enumerators(unsigned_one)[0].value == 0xfffffffe);
  CHECK(btf.enumerators(wide).size() == 2);
  CHECK(btf.enumerators(wide)[1].name == "D");
  CHECK(btf.enumerators(wide)[1].value == 1ULL << 40);
}

TEST_CASE("bit fields of the old style are placed by their integer's offset and width") {
  BtfBuilder builder;
  const TypeId three_bits = builder.integer("unsigned int", 4, 3, 0, 5);
  const TypeId owner = builder.aggregate(BtfKind::kStruct, "s", 8, {{"field", three_bits, 32}});
  const Btf btf = builder.build();
  const auto place = btf.place(btf.members(owner)[0]);
  REQUIRE(place);
  CHECK(place->offset == 4);
  CHECK(place->bit_offset == 5);
  CHECK(place->bit_size == 3);
  CHECK(place->size == 1);
}

TEST_CASE("split BTF continues the ids and strings of its base") {
  BtfBuilder base_builder;
  const TypeId number = base_builder.integer("int", 4, 32, 1);
  base_builder.aggregate(BtfKind::kStruct, "shared", 4, {});
  const Btf base = base_builder.build();
  const auto base_strings =
      static_cast<std::uint32_t>(std::string_view("\0int\0shared", 12).size());

  BtfBuilder split_builder(base.type_count(), base_strings);
  const TypeId own = split_builder.aggregate(BtfKind::kStruct, "own", 4, {{"n", number, 0}});
  const TypeId shared = split_builder.aggregate(BtfKind::kStruct, "shared", 8, {});
  const Btf split = split_builder.build(&base);
  REQUIRE(split.type_count() == base.type_count() + 2);
  CHECK(split.name_of(own) == "own");
  CHECK(split.name_of(number) == "int");
  CHECK(split.members(own)[0].name == "n");
  CHECK(split.size_of(split.members(own)[0].type) == 4);
  CHECK(split.find(BtfKind::kInt, "int") == number);
  CHECK(split.find(BtfKind::kStruct, "shared") == shared);
  CHECK(split.find_all(BtfKind::kStruct, "shared") == std::vector<TypeId>{shared, 2});
}

TEST_CASE("a Btf that owns its bytes can be moved") {
  auto parsed = Btf::parse(file_bytes(fixture("types.btf")), "fixture");
  REQUIRE(parsed);
  const Btf moved = std::move(*parsed);
  CHECK(moved.find(BtfKind::kStruct, "everything"));
  CHECK(moved.memory_bytes() > file_bytes(fixture("types.btf")).size());
}

TEST_CASE("bytes after the BTF are ignored") {
  Bytes bytes = file_bytes(fixture("types.btf"));
  bytes.resize(bytes.size() + 7);
  CHECK(Btf::parse(ByteSpan(bytes), "padded"));
}

}  // namespace guestscope
