#include "daemon/contents_json.h"

#include <doctest/doctest.h>

#include "introspect/contents_builder.h"
#include "tests/support/btf_builder.h"

namespace guestscope {
namespace {

/// Contents of keys and values of four bytes, made record by record.
class Filled {
 public:
  explicit Filled(std::vector<unsigned> cpus = {}) : builder_(info(), {}, budget_) {
    builder_.set_cpus(std::move(cpus));
    builder_.set_strides(4, 4);
  }
  void indexed() {
    builder_.set_indexed(0);
    builder_.set_strides(0, 4);
  }
  void record(std::uint32_t key, const std::vector<std::uint32_t>& values) {
    const std::size_t at = builder_.count();
    builder_.append(1);
    if (const auto into = builder_.key_of(at); into.size() == 4) store(into, key);
    for (std::size_t cell = 0; cell < values.size(); ++cell)
      store(builder_.value_of(at, cell), values[cell]);
  }
  ContentsBuilder* operator->() { return &builder_; }
  MapContents finish() { return builder_.finish(); }

 private:
  static MapInfo info() {
    MapInfo map;
    map.key_size = map.value_size = 4;
    return map;
  }
  static void store(std::span<std::byte> into, std::uint32_t value) {
    for (std::size_t i = 0; i < into.size(); ++i)
      into[i] = static_cast<std::byte>(value >> (8 * i) & 0xff);
  }

  std::size_t budget_ = std::size_t{64} << 20;
  ContentsBuilder builder_;
};

bool write_all(const MapContents& contents, const EntryOptions& options, const Problems& further,
               const WriteBody& write) {
  EntriesWriter writer(options, further, write);
  return writer.part(contents) && writer.end();
}

std::string written(const MapContents& contents, const EntryOptions& options = {},
                    const Problems& further = {}) {
  std::string text;
  CHECK(write_all(contents, options, further, [&](std::string_view piece) {
    text += piece;
    return true;
  }));
  return text;
}

void with_types(MapContents& contents, TypeId key, TypeId value, const BtfBuilder& types) {
  contents.btf = std::make_shared<const Btf>(types.build());
  contents.key_type = key;
  contents.value_type = value;
}

TEST_CASE("keys of an indexed map are numbers, values without types hex") {
  Filled filled;
  filled.indexed();
  filled.record(0, {1});
  filled.record(0, {0x01020304});
  const MapContents contents = filled.finish();
  CHECK(written(contents) ==
        R"("entries":[{"key":0,"value":"01000000"},{"key":1,"value":"04030201"}])");
  CHECK(written(contents, {.raw = true}) ==
        R"("entries":[{"key":0,"key_hex":"00000000","value":"01000000","value_hex":"01000000"},)"
        R"({"key":1,"key_hex":"01000000","value":"04030201","value_hex":"04030201"}])");
}

TEST_CASE("keys of a hash map are bytes, or what their type says, and raw adds the bytes") {
  Filled filled;
  filled.record(7, {9});
  MapContents contents = filled.finish();
  CHECK(written(contents) == R"("entries":[{"key":"07000000","value":"09000000"}])");
  BtfBuilder types;
  const TypeId u32 = types.integer("u32", 4, 32);
  with_types(contents, u32, u32, types);
  CHECK(written(contents) == R"("entries":[{"key":7,"value":9}])");
  CHECK(written(contents, {.raw = true}) ==
        R"("entries":[{"key":7,"key_hex":"07000000","value":9,"value_hex":"09000000"}])");
  contents.key_type = 0;
  CHECK(written(contents) == R"("entries":[{"key":"07000000","value":9}])");
}

TEST_CASE("a per-CPU map has one value for each possible CPU, by its number") {
  Filled filled({0, 3});
  filled.record(1, {10, 13});
  CHECK(
      written(filled.finish()) ==
      R"("entries":[{"key":"01000000","values":[{"cpu":0,"value":"0a000000"},{"cpu":3,"value":"0d000000"}]}])");
}

TEST_CASE("what could not be read is null, in hex too, and its neighbours are there") {
  Filled filled({0, 1});
  filled.record(1, {10, 11});
  filled->unreadable(0, 1);
  filled->problems().add("entries[0]", {.code = ErrorCode::kNotMapped,
                                        .message = "no page",
                                        .path = {},
                                        .address = 0xffff888000001000});
  CHECK(
      written(filled.finish(), {.raw = true}) ==
      R"("entries":[{"key":"01000000","key_hex":"01000000","values":[)"
      R"({"cpu":0,"value":"0a000000","value_hex":"0a000000"},{"cpu":1,"value":null,"value_hex":null}]}],)"
      R"("problems":[{"at":"entries[0]","address":"0xffff888000001000","error":"no page"}])");
}

TEST_CASE("an empty map has an empty list and no problems") {
  Filled filled;
  CHECK(written(filled.finish()) == R"("entries":[])");
}

TEST_CASE("a type that does not fit leaves the bytes as hex, with a problem that says where") {
  Filled filled;
  filled.record(7, {9});
  filled.record(8, {9});
  MapContents contents = filled.finish();
  BtfBuilder types;
  const TypeId u32 = types.integer("u32", 4, 32);
  const TypeId u64 = types.integer("u64", 8, 64);
  with_types(contents, u32, u64, types);
  const Json json = Json::parse("{" + written(contents) + "}");
  CHECK(json["entries"] ==
        Json::parse(R"([{"key":7,"value":"09000000"},{"key":8,"value":"09000000"}])"));
  REQUIRE(json["problems"].size() == 2);
  CHECK(json["problems"][0]["at"] == "entries[0].value");
  CHECK(json["problems"][1]["at"] == "entries[1].value");
}

TEST_CASE("a function that has a name is shown by it in values, and by its address in keys") {
  std::size_t budget = 1 << 20;
  MapInfo map;
  map.key_size = map.value_size = 8;
  ContentsBuilder builder(map, {}, budget);
  builder.set_strides(8, 8);
  for (const std::uint8_t address : {std::uint8_t{16}, std::uint8_t{32}})
    builder.add(Bytes{std::byte{address}}, Bytes{std::byte{address}});
  MapContents contents = builder.finish();
  BtfBuilder types;
  const TypeId function = types.refer(BtfKind::kPtr, types.add(BtfKind::kFuncProto, "", 0, 0));
  with_types(contents, function, function, types);
  contents.functions[16] = "do_idle+0x1a";
  CHECK(written(contents, {.raw = true}) ==
        R"("entries":[{"key":"0x10","key_hex":"1000000000000000","value":"do_idle+0x1a",)"
        R"("value_hex":"1000000000000000"},{"key":"0x20","key_hex":"2000000000000000",)"
        R"("value":"0x20","value_hex":"2000000000000000"}])");
}

TEST_CASE("the problems of the list come before those of the contents") {
  Filled filled;
  filled->problems().add("entries[0]", {.code = ErrorCode::kCorrupt, .message = "second"});
  Problems further;
  further.add("maps with id 2", {.code = ErrorCode::kCorrupt, .message = "first"});
  CHECK(written(filled.finish(), {}, further) ==
        R"("entries":[],"problems":[{"at":"maps with id 2","error":"first"},)"
        R"({"at":"entries[0]","error":"second"}])");
}

TEST_CASE("parts are one list of entries, and problems say where in the whole they are") {
  std::string text;
  const WriteBody write = [&](std::string_view piece) {
    text += piece;
    return true;
  };
  EntriesWriter writer({}, {}, write);
  for (const std::uint32_t first : {0U, 2U}) {
    Filled filled;
    filled.record(first, {first * 10});
    filled.record(first + 1, {first * 10 + 10});
    MapContents contents = filled.finish();
    if (first == 2) with_types(contents, 99, 0, BtfBuilder());
    CHECK(writer.part(contents));
  }
  CHECK(writer.end());
  const Json json = Json::parse("{" + text + "}");
  CHECK(json["entries"].size() == 4);
  CHECK(json["problems"][0]["at"] == "entries[2].key");
}

TEST_CASE("one CPU's values are told when only they are wanted") {
  Filled filled({0, 1, 3});
  filled.record(1, {10, 11, 13});
  CHECK(written(filled.finish(), {.cpu = 3}) ==
        R"("entries":[{"key":"01000000","values":[{"cpu":3,"value":"0d000000"}]}])");
}

TEST_CASE("facts stand beside values or instead of them, and those of the map before its entries") {
  Filled filled;
  filled.record(1, {2});
  filled->set_facts(0, {{.name = "owner", .value = Facts{{"pid", 7}, {"comm", "a\"b"}}}});
  filled->add_map_fact("bits_set", 3);
  CHECK(written(filled.finish()) ==
        R"("bits_set":3,"entries":[{"key":"01000000","value":"02000000",)"
        R"("owner":{"pid":7,"comm":"a\"b"}}])");
  Filled facts_only;
  facts_only->set_keys(KeyForm::kNumber);
  facts_only.record(5, {9});
  facts_only->show_facts_only();
  facts_only->set_facts(
      0, {{.name = "prog_id", .value = 9U},
          {.name = "at", .value = GuestVirt(0xffff888000000000)},
          {.name = "list", .value = FactList{FactValue(true), FactValue(), FactValue("x")}}});
  CHECK(written(facts_only.finish(), {.raw = true}) ==
        R"("entries":[{"key":5,"key_hex":"05000000","value_hex":"09000000","prog_id":9,)"
        R"("at":"0xffff888000000000","list":[true,null,"x"]}])");
}

TEST_CASE("entries without keys or values have none") {
  Filled filled;
  filled->set_keys(KeyForm::kNone);
  filled.record(0, {4});
  CHECK(written(filled.finish()) == R"("entries":[{"value":"04000000"}])");
}

TEST_CASE("problems are counted when they are too many to list") {
  Filled filled;
  for (std::uint32_t i = 0; i < kMaxProblems + 5; ++i) filled.record(i, {i});
  MapContents contents = filled.finish();
  with_types(contents, 99, 0, BtfBuilder());
  const Json json = Json::parse("{" + written(contents) + "}");
  REQUIRE(json["problems"].size() == kMaxProblems + 1);
  CHECK(json["problems"].back()["error"] == "and 5 further problems");
}

TEST_CASE("a large map is written in pieces, and no more of them once the reader has gone") {
  Filled filled;
  filled.indexed();
  for (std::uint32_t i = 0; i < 20000; ++i) filled.record(0, {i});
  const MapContents contents = filled.finish();
  std::vector<std::string> pieces;
  const auto write_until = [&](std::size_t last) {
    pieces.clear();
    return write_all(contents, {}, {}, [&](std::string_view piece) {
      pieces.emplace_back(piece);
      return pieces.size() < last;
    });
  };
  CHECK(write_until(1000));
  REQUIRE(pieces.size() > 5);
  std::string whole;
  for (const std::string& piece : pieces) {
    CHECK(piece.size() < 70000);
    whole += piece;
  }
  CHECK(Json::parse("{" + whole + "}")["entries"].size() == 20000);
  CHECK_FALSE(write_until(2));
  CHECK(pieces.size() == 2);
}

}  // namespace
}  // namespace guestscope
