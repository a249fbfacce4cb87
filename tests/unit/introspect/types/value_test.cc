#include "introspect/value.h"

#include <doctest/doctest.h>

#include "tests/support/btf_builder.h"
#include "type_test_support.h"

namespace guestscope {
namespace {

/// What a single integer type prints for a number.
std::string print_number(std::uint32_t size, std::uint32_t bits, std::uint32_t encoding,
                         std::uint64_t value) {
  BtfBuilder builder;
  const TypeId id = builder.integer("number", size, bits, encoding);
  return print(builder.build(), id, Memory(size).put(0, value, std::min(size, 8U)));
}

std::string print_chars(std::string_view name, std::uint32_t encoding, std::string_view text,
                        std::uint32_t count) {
  BtfBuilder builder;
  const TypeId element = builder.integer(name, 1, 8, encoding);
  const TypeId modified = builder.refer(BtfKind::kConst, builder.refer(BtfKind::kTypedef, element));
  return print(builder.build(), builder.array(modified, count), Memory(count).text(0, text));
}

std::string print_array_of(BtfBuilder builder, TypeId element, std::uint32_t count,
                           ByteSpan bytes) {
  const TypeId id = builder.array(element, count);
  return print(builder.build(), id, bytes);
}

}  // namespace

TEST_CASE("integers of every size are exact, signed ones signed") {
  CHECK(print_number(1, 8, 0, 0xff) == "255");
  CHECK(print_number(1, 8, 1, 0xff) == "-1");
  CHECK(print_number(2, 16, 1, 0x8000) == "-32768");
  CHECK(print_number(4, 32, 0, 0xffffffff) == "4294967295");
  CHECK(print_number(4, 32, 1, 0xffffffff) == "-1");
  CHECK(print_number(8, 64, 0, UINT64_MAX) == "18446744073709551615");
  CHECK(print_number(8, 64, 1, 1ULL << 63) == "-9223372036854775808");
}

TEST_CASE("integers of 128 bits keep all of them") {
  CHECK(print_number(16, 128, 0, UINT64_MAX) == "u0:ffffffffffffffff");
  BtfBuilder builder;
  const TypeId id = builder.integer("__int128", 16, 128, 1);
  const Memory minus_two = Memory(16).put(0, UINT64_MAX - 1, 8).put(8, UINT64_MAX, 8);
  CHECK(print(builder.build(), id, minus_two) == "sffffffffffffffff:fffffffffffffffe");
}

TEST_CASE("booleans are true or false") {
  CHECK(print_number(1, 8, 4, 0) == "false");
  CHECK(print_number(1, 8, 4, 1) == "true");
}

TEST_CASE("an integer of a size that no processor has is shown as bytes") {
  BtfBuilder builder;
  const TypeId id = builder.integer("odd", 20, 160);
  CHECK(print(builder.build(), id, Memory(20)) == "hex " + std::string(40, '0'));
}

TEST_CASE("floating-point numbers are numbers, other sizes of them bytes") {
  BtfBuilder builder;
  const TypeId single = builder.add(BtfKind::kFloat, "float", 0, 4);
  const TypeId twice = builder.add(BtfKind::kFloat, "double", 0, 8);
  const TypeId half = builder.add(BtfKind::kFloat, "half", 0, 2);
  const Btf btf = builder.build();
  CHECK(print(btf, single, Memory(4).put(0, 0x3fc00000, 4)) == "1.5");
  CHECK(print(btf, twice, Memory(8).put(0, 0xc004000000000000, 8)) == "-2.5");
  CHECK(print(btf, half, Memory(2).put(0, 0x3c00, 2)) == "hex 003c");
}

TEST_CASE("enumerators go by name, other values by number") {
  BtfBuilder builder;
  const TypeId plain =
      builder.enumeration(BtfKind::kEnum, "colour", 4, {{"RED", 0}, {"GREEN", 5}, {"LIME", 5}});
  const TypeId is_signed =
      builder.enumeration(BtfKind::kEnum, "balance", 4, {{"DEBT", 0xfffffffd}}, true);
  const TypeId wide =
      builder.enumeration(BtfKind::kEnum64, "wide", 8, {{"BIG", 1ULL << 40}, {"TOP", UINT64_MAX}});
  const TypeId small = builder.enumeration(BtfKind::kEnum, "small", 1, {{"LAST", 255}});
  const Btf btf = builder.build();
  CHECK(print(btf, plain, Memory(4)) == "\"RED\"");
  CHECK(print(btf, plain, Memory(4).put(0, 5, 4)) == "\"GREEN\"");
  CHECK(print(btf, plain, Memory(4).put(0, 0xffffffff, 4)) == "4294967295");
  CHECK(print(btf, is_signed, Memory(4).put(0, 0xfffffffd, 4)) == "\"DEBT\"");
  CHECK(print(btf, is_signed, Memory(4).put(0, 0xffffffff, 4)) == "-1");
  CHECK(print(btf, wide, Memory(8).put(0, 1ULL << 40, 8)) == "\"BIG\"");
  CHECK(print(btf, wide, Memory(8).put(0, UINT64_MAX, 8)) == "\"TOP\"");
  CHECK(print(btf, wide, Memory(8).put(0, 7, 8)) == "7");
  CHECK(print(btf, small, Memory(1).put(0, 255, 1)) == "\"LAST\"");
}

TEST_CASE("a negative enumerator written without sign is found in a narrow field") {
  BtfBuilder builder;
  const TypeId balance = builder.enumeration(BtfKind::kEnum, "balance", 4, {{"DEBT", 0xfffffffd}});
  const TypeId owner = builder.aggregate(BtfKind::kStruct, "s", 4, {{"b", balance, 0, 5}}, true);
  CHECK(print(builder.build(), owner, Memory(4).put(0, 0x1d, 4)) == "{b:\"DEBT\"}");
}

TEST_CASE("pointers of any kind are addresses") {
  BtfBuilder builder;
  const TypeId to_void = builder.refer(BtfKind::kPtr, 0);
  const TypeId to_function =
      builder.refer(BtfKind::kPtr, builder.add(BtfKind::kFuncProto, "", 0, 0));
  const Btf btf = builder.build();
  const Memory memory = Memory(8).put(0, 0xffff888000001000, 8);
  CHECK(print(btf, to_void, memory) == "0xffff888000001000");
  CHECK(print(btf, to_function, memory) == "0xffff888000001000");
}

TEST_CASE("char arrays that are text are strings, up to their NUL") {
  CHECK(print_chars("char", 1, "idle", 8) == "\"idle\"");
  CHECK(print_chars("char", 0, "12345678", 8) == "\"12345678\"");
  CHECK(print_chars("char", 1, std::string_view("ab\0\xff", 4), 8) == "\"ab\"");
  CHECK(print_chars("char", 1, "", 4) == "\"\"");
  CHECK(print_chars("signed char", 3, "ok", 4) == "\"ok\"");
}

TEST_CASE("char arrays that are no text, and byte arrays, are numbers") {
  CHECK(print_chars("char", 1, "a\x01", 3) == "[97,1,0]");
  CHECK(print_chars("char", 1, "\xff", 2) == "[-1,0]");
  CHECK(print_chars("unsigned char", 0, "idle", 5) == "[105,100,108,101,0]");
  CHECK(print_chars("char", 4, "\1", 2) == "[true,false]");
}

TEST_CASE("arrays of arrays nest, and empty and flexible ones are empty") {
  const Btf btf = fixture_btf();
  BtfBuilder builder;
  const TypeId number = builder.integer("int", 4, 32, 1);
  const TypeId row = builder.array(number, 2);
  CHECK(print_array_of(builder, row, 2, Memory(16).put(0, 1, 4).put(12, 0xffffffff, 4)) ==
        "[[1,0],[0,-1]]");
  CHECK(print_array_of(builder, number, 0, Memory(16)) == "[]");
}

TEST_CASE("anonymous members belong to their parent, as in C") {
  const Btf btf = fixture_btf();
  const TypeId inner = *btf.find(BtfKind::kStruct, "inner");
  const Memory memory = Memory(16).put(0, 1, 4).put(8, 2, 4).put(12, 3, 4);
  CHECK(print(btf, inner, memory) == "{a:1,b:12884901890,c:2,d:3}");
}

TEST_CASE("unnamed padding is left out") {
  BtfBuilder builder;
  const TypeId number = builder.integer("int", 4, 32, 1);
  const TypeId owner =
      builder.aggregate(BtfKind::kStruct, "s", 8, {{"", number, 0, 5}, {"x", number, 32}}, true);
  CHECK(print(builder.build(), owner, Memory(8).put(4, 7, 4)) == "{x:7}");
}

TEST_CASE("bit fields keep their width, their sign and their type") {
  const Btf btf = fixture_btf();
  const TypeId flags = *btf.find(BtfKind::kStruct, "flags");
  const std::uint64_t word = 5 | 0x1eULL << 3 | 0x923456789aULL << 8 | 1ULL << 48 | 7ULL << 49;
  CHECK(print(btf, flags, Memory(8).put(0, word, 8)) ==
        "{low:5,negative:-2,wide:627943307418,set:true,colour:\"BLUE\"}");
}

TEST_CASE("bit fields of the old style keep them too") {
  BtfBuilder builder;
  const TypeId low = builder.integer("unsigned int", 4, 3, 0, 0);
  const TypeId negative = builder.integer("int", 4, 5, 1, 0);
  const TypeId shifted = builder.integer("int", 4, 4, 1, 8);
  const TypeId plain = builder.integer("int", 4, 32, 1);
  const TypeId owner = builder.aggregate(
      BtfKind::kStruct, "s", 8,
      {{"low", low, 0}, {"negative", negative, 3}, {"shifted", shifted, 0}, {"plain", plain, 32}});
  const Memory memory = Memory(8).put(0, 5 | 0x1e << 3 | 0xf << 8, 4).put(4, 9, 4);
  CHECK(print(builder.build(), owner, memory) == "{low:5,negative:-2,shifted:-1,plain:9}");
}

TEST_CASE("a bit field of 128 bits is exact") {
  BtfBuilder builder;
  const TypeId wide = builder.integer("__int128", 16, 128, 1);
  const TypeId owner =
      builder.aggregate(BtfKind::kStruct, "s", 16, {{"a", wide, 0, 4}, {"b", wide, 4, 100}}, true);
  const Memory memory = Memory(16).put(0, 0xffffffffffffffe3, 8).put(8, UINT64_MAX, 8);
  CHECK(print(builder.build(), owner, memory) == "{a:3,b:sffffffffffffffff:fffffffffffffffe}");
}

TEST_CASE("a data section is one object of its variables") {
  BtfBuilder builder;
  const TypeId number = builder.integer("int", 4, 32, 1);
  const TypeId hits = builder.add(BtfKind::kVar, "hits", 0, number, {1});
  const TypeId misses = builder.add(BtfKind::kVar, "misses", 0, number, {1});
  const TypeId proto = builder.add(BtfKind::kFuncProto, "", 0, 0);
  const TypeId function = builder.refer(BtfKind::kFunc, proto, "f");
  const TypeId section =
      builder.add(BtfKind::kDatasec, ".bss", 3, 12, {hits, 0, 4, misses, 8, 4, function, 4, 2});
  CHECK(print(builder.build(), section, Memory(12).put(0, 3, 4).put(4, 0xabcd, 2).put(8, 9, 4)) ==
        "{hits:3,misses:9,f:hex cdab}");
}

TEST_CASE("void and forward declarations are bytes") {
  BtfBuilder builder;
  const TypeId forward = builder.add(BtfKind::kFwd, "task_struct", 0, 0);
  const Btf btf = builder.build();
  CHECK(print(btf, forward, Memory(3).put(0, 0x010203, 3)) == "hex 030201");
  CHECK(print(btf, 0, Memory(2)) == "hex 0000");
}

TEST_CASE("modifiers, variables and tags are seen through") {
  BtfBuilder builder;
  TypeId id = builder.integer("int", 4, 32, 1);
  for (const BtfKind kind : {BtfKind::kTypedef, BtfKind::kConst, BtfKind::kVolatile,
                             BtfKind::kRestrict, BtfKind::kTypeTag})
    id = builder.refer(kind, id);
  id = builder.add(BtfKind::kVar, "v", 0, id, {0});
  id = builder.add(BtfKind::kDeclTag, "t", 0, id, {UINT32_MAX});
  CHECK(print(builder.build(), id, Memory(4).put(0, 42, 4)) == "42");
}

TEST_CASE("a structure with one member of every kind prints whole") {
  const Btf btf = fixture_btf();
  const Memory memory = Memory(176)
                            .put(0, 7, 8)
                            .put(8, 0xfffffffb, 4)
                            .text(12, "busy")
                            .put(20, 0x030201, 3)
                            .put(23, 1, 1)
                            .put(24, 5, 4)
                            .put(28, 0xfffffffd, 4)
                            .put(32, 1, 4)
                            .put(56, 0x04030201, 4)
                            .put(64, 0xffff888000001000, 8)
                            .text(96, "ab")
                            .text(100, "cdef")
                            .put(104, 1, 4)
                            .put(128, UINT64_MAX, 8)
                            .put(136, UINT64_MAX, 8)
                            .put(144, 1, 8)
                            .put(160, 0x3ff0000000000000, 8)
                            .put(168, 0x3f000000, 4)
                            .put(172, 'x', 1);
  CHECK(print(btf, *btf.find(BtfKind::kStruct, "everything"), memory) ==
        "{id:7,temperature:-5,name:\"busy\",raw:[1,2,3],ready:true,colour:\"GREEN\","
        "balance:\"DEBT\",inner:{a:1,b:0,c:0,d:0},"
        "flags:{low:0,negative:0,wide:0,set:false,colour:\"RED\"},"
        "number:{whole:67305985,parts:[1,2,3,4]},opaque:0xffff888000001000,callback:0x0,"
        "inners:[0x0,0x0],words:[\"ab\",\"cdef\"],grid:[[1,0,0],[0,0,0]],"
        "signed_wide:sffffffffffffffff:ffffffffffffffff,unsigned_wide:u0:1,ratio:1,fraction:0.5,"
        "letter:120,nothing:{},list:[]}");
}

TEST_CASE("what the kernel keeps in a value is shown as what it is") {
  BtfBuilder builder;
  const TypeId u32 = builder.integer("u32", 4, 32);
  const TypeId u64 = builder.integer("u64", 8, 64);
  const TypeId two = builder.array(u64, 2);
  const auto kept = [&](std::string_view name, std::uint32_t size) {
    return builder.aggregate(BtfKind::kStruct, name, size, {{"__opaque", two, 0}});
  };
  const TypeId lock = builder.aggregate(BtfKind::kStruct, "bpf_spin_lock", 4, {{"val", u32, 0}});
  const TypeId timer = builder.aggregate(BtfKind::kStruct, "bpf_timer", 16,
                                         {{"", u64, 0, 64}, {"", u64, 64, 64}}, true);
  const TypeId head = kept("bpf_list_head", 16);
  const TypeId root = kept("bpf_rb_root", 16);
  const TypeId node = kept("bpf_rb_node", 32);
  const TypeId count =
      builder.aggregate(BtfKind::kStruct, "bpf_refcount", 4, {{"__opaque", u32, 0}});
  const TypeId dynptr = kept("bpf_dynptr", 16);
  const TypeId task = builder.aggregate(BtfKind::kStruct, "task", 4, {{"pid", u32, 0}});
  const TypeId kptr = builder.refer(BtfKind::kPtr, builder.refer(BtfKind::kTypeTag, task, "kptr"));
  const TypeId grown = builder.aggregate(BtfKind::kStruct, "bpf_spin_lock", 8, {{"val", u32, 0}});
  const TypeId owner = builder.aggregate(
      BtfKind::kStruct, "s", 24, {{"before", u32, 0}, {"lock", lock, 32}, {"timer", timer, 64}});
  const Btf btf = builder.build();
  const Memory memory = Memory(32)
                            .put(0, 0xffff888000001003, 8)
                            .put(8, 0xffff888005000040, 8)
                            .put(16, 3, 8)
                            .put(24, 4, 8);
  CHECK(print(btf, lock, memory) == "{locked:true}");
  CHECK(print(btf, lock, Memory(4)) == "{locked:false}");
  CHECK(print(btf, timer, memory) == "{initialized:true,address:0xffff888000001003}");
  CHECK(print(btf, timer, Memory(16)) == "{initialized:false,address:0x0}");
  CHECK(print(btf, head, memory) == "{next:0xffff888000001003,prev:0xffff888005000040}");
  CHECK(print(btf, root, memory) == "{root:0xffff888000001003,leftmost:0xffff888005000040}");
  CHECK(print(btf, node, memory) ==
        "{parent:0xffff888000001000,right:0xffff888005000040,left:0x3,owner:0x4}");
  CHECK(print(btf, count, Memory(4).put(0, 3, 4)) == "{count:3}");
  CHECK(print(btf, dynptr, memory) == "{data:0xffff888000001003,size:64,offset:4294936704}");
  CHECK(print(btf, kptr, memory) == "0xffff888000001003");
  CHECK(print(btf, owner, Memory(24).put(0, 7, 4).put(4, 1, 4)) ==
        "{before:7,lock:{locked:true},timer:{initialized:false,address:0x0}}");
  // Only the kernel's own have its size.
  CHECK(print(btf, grown, Memory(8).put(0, 5, 4)) == "{val:5}");
}

TEST_CASE("pointers to functions are told from others, and a plan knows which values have none") {
  struct Visitor : PrintVisitor {
    void function(GuestVirt address) override { string(fmt::format("f{:x}", address.value())); }
  } visitor;
  BtfBuilder builder;
  const TypeId number = builder.integer("u64", 8, 64);
  const TypeId proto = builder.add(BtfKind::kFuncProto, "", 0, number);
  const TypeId named = builder.refer(BtfKind::kTypedef, proto, "run_t");
  const TypeId function = builder.refer(BtfKind::kPtr, named);
  const TypeId data = builder.refer(BtfKind::kPtr, number);
  const TypeId inner = builder.aggregate(BtfKind::kUnion, "", 8, {{"run", function, 0}});
  const TypeId owner =
      builder.aggregate(BtfKind::kStruct, "s", 16, {{"data", data, 0}, {"", inner, 64}});
  const TypeId several = builder.array(owner, 2);
  const TypeId next = builder.next_id() + 1;
  const TypeId chain = builder.aggregate(BtfKind::kStruct, "chain", 8, {{"next", next, 0}});
  const TypeId plain = builder.aggregate(BtfKind::kStruct, "plain", 8, {{"v", number, 0}});
  const TypeId itself = builder.aggregate(BtfKind::kStruct, "circle", 8,
                                          {{"circle", builder.next_id(), 0}, {"v", number, 0}});
  const Btf btf = builder.build();
  ValuePlan plan(btf);
  CHECK(visit_value(plan, owner, Memory(16).put(0, 1, 8).put(8, 2, 8), visitor));
  CHECK(visitor.out == "{data:0x1,run:\"f2\"}");
  for (const TypeId has : {function, owner, several}) CHECK(plan.has_functions(has));
  for (const TypeId lacks : {number, named, data, chain, plain, itself, TypeId{99}})
    CHECK_FALSE(plan.has_functions(lacks));
}

TEST_CASE("one plan prints many values of many types as a plan for each does") {
  const Btf btf = fixture_btf();
  ValuePlan plan(btf);
  for (int round = 0; round < 2; ++round) {
    for (TypeId id = 0; id <= btf.type_count(); ++id) {
      Bytes bytes(btf.size_of(id).value_or(8));
      for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 37 + id);
      PrintVisitor visitor;
      const auto done = visit_value(plan, id, bytes, visitor);
      CHECK((done ? visitor.out : done.error().message) == print(btf, id, bytes));
    }
  }
}

TEST_CASE("bytes beyond the type are ignored, fewer are an error before anything is visited") {
  const Btf btf = fixture_btf();
  const TypeId inner = *btf.find(BtfKind::kStruct, "inner");
  CHECK(print(btf, inner, Memory(99)) == "{a:0,b:0,c:0,d:0}");
  for (std::size_t size = 0; size < 16; ++size) {
    PrintVisitor visitor;
    const auto done = visit_value(btf, inner, Memory(size), visitor);
    REQUIRE_FALSE(done);
    CHECK(done.error().code == ErrorCode::kCorrupt);
    CHECK(visitor.out.empty());
  }
  CHECK(print(btf, inner, Memory(15)) == "struct inner needs 16 bytes and has 15");
}

}  // namespace guestscope
