// Against recorded output of bpftool where there is some; the rest is written down from its source.
#include "daemon/bpftool_json.h"

#include <doctest/doctest.h>

#include <cerrno>
#include <fstream>
#include <sstream>

#include "daemon/bpftool_show.h"
#include "daemon/bpftool_value.h"
#include "introspect/contents_builder.h"
#include "tests/support/btf_builder.h"

namespace guestscope {
namespace {

Bytes file_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const ByteSpan bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

Bytes bytes_in(const Json& array) {
  Bytes bytes;
  for (const Json& each : array)
    bytes.push_back(static_cast<std::byte>(std::stoi(each.get<std::string>(), nullptr, 16)));
  return bytes;
}

/// The type of a fixture's variable.
TypeId type_of(const Btf& btf, std::string_view variable) {
  const auto found = btf.find(BtfKind::kVar, variable);
  return found ? btf.type(*found).target : 0;
}

std::string dump(const MapInfo& map, const std::vector<const MapContents*>& parts,
                 BpftoolWriter::Options options = {}) {
  std::string text;
  const WriteBody write = [&](std::string_view piece) {
    text += piece;
    return true;
  };
  BpftoolWriter writer(map, options, write);
  for (const MapContents* part : parts) CHECK(writer.part(*part));
  CHECK(writer.end());
  return text;
}

/// Contents with the bytes of a recorded dump.
MapContents contents_of(const Json& recorded, MapInfo& map) {
  const Json& first = recorded.at(0);
  const bool per_cpu = first.contains("values");
  map.key_size = first["key"].size();
  map.value_size = (per_cpu ? first["values"][0]["value"] : first["value"]).size();
  std::size_t budget = 1 << 20;
  ContentsBuilder builder(map, {}, budget);
  if (per_cpu) {
    std::vector<unsigned> cpus;
    for (const Json& each : first["values"]) cpus.push_back(each["cpu"].get<unsigned>());
    builder.set_cpus(cpus);
  }
  builder.set_strides(round_up_8(map.key_size), round_up_8(map.value_size));
  for (const Json& entry : recorded) {
    const std::size_t record = builder.add(bytes_in(entry["key"]), {});
    const Json cells = per_cpu ? entry["values"] : Json::array({entry});
    for (std::size_t cell = 0; cell < cells.size(); ++cell)
      std::ranges::copy(bytes_in(cells[cell]["value"]), builder.value_of(record, cell).begin());
  }
  return builder.finish();
}

std::string value_text(const BtfBuilder& types, TypeId type, ByteSpan bytes) {
  const Btf btf = types.build();
  std::string text;
  append_bpftool_value(text, btf, type, bytes);
  CHECK(Json::accept(text));
  return text;
}

Bytes raw(std::string_view hex) { return parse_hex_bytes(hex).value(); }

/// A map of numbers, of which some indexes have entries.
struct Numbered {
  explicit Numbered(std::string type) {
    map.type = std::move(type);
    map.key_size = map.value_size = 4;
    map.max_entries = 4;
  }
  MapContents with(const std::vector<std::uint32_t>& indexes, int lookup_error = 0) {
    std::size_t budget = 1 << 20;
    ContentsBuilder builder(map, {}, budget);
    builder.set_keys(KeyForm::kNumber);
    builder.set_strides(8, 8);
    builder.set_lookup_error(lookup_error);
    for (const std::uint32_t index : indexes) builder.add(index, raw("07000000"));
    return builder.finish();
  }
  MapInfo map;
};

constexpr const char* kNoEntry = R"("value":{"error":"No such file or directory"}})";
constexpr const char* kSeven = R"("value":["0x07","0x00","0x00","0x00"]})";

std::string key(int index) {
  return fmt::format("{{\"key\":[\"0x0{}\",\"0x00\",\"0x00\",\"0x00\"],", index);
}

}  // namespace

TEST_CASE("recorded dumps of bpftool are reproduced byte for byte") {
  const Btf btf = *Btf::parse(file_bytes(GUESTSCOPE_FIXTURES "/bpftool_types.btf"), "fixture");
  const auto shared = std::make_shared<const Btf>(*Btf::parse(btf.bytes(), "fixture"));
  std::ifstream file(GUESTSCOPE_TEST_DATA "/bpftool-7.1.txt");
  int dumps = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with('#')) continue;
    std::istringstream words(line);
    std::string key_variable, value_variable, recorded;
    words >> key_variable >> value_variable;
    std::getline(words >> std::ws, recorded);
    CAPTURE(value_variable);
    ++dumps;
    if (value_variable == "enums" && !btf.find(BtfKind::kEnum64, "wide_unsigned")) {
      MESSAGE("this clang does not describe enumerations of 64 bits");
      continue;
    }
    MapInfo map;
    MapContents contents = contents_of(Json::parse(recorded), map);
    map.btf_id = 1;
    contents.btf = shared;
    contents.key_type = type_of(btf, key_variable);
    contents.value_type = type_of(btf, value_variable);
    CHECK(dump(map, {&contents}) == recorded + "\n");
  }
  CHECK(dumps == 9);
}

TEST_CASE("a map without types has its bytes only, an empty one no entries") {
  Numbered numbered("hash");
  MapContents contents = numbered.with({1});
  contents.keys = KeyForm::kBytes;
  CHECK(dump(numbered.map, {&contents}) == "[" + key(1) + kSeven + "]\n");
  const MapContents none = Numbered("prog_array").with({});
  CHECK(dump(Numbered("prog_array").map, {&none}) == "[]\n");
  CHECK(dump(numbered.map, {}) == "[]\n");
}

TEST_CASE("the kernel does not list the keys of queues and local storages") {
  for (const char* type : {"queue", "task_storage", "ringbuf"}) {
    Numbered numbered(type);
    MapContents contents = numbered.with({1});
    contents.keys = KeyForm::kBytes;
    CHECK(dump(numbered.map, {&contents}) == "[]\n");
    CHECK_FALSE(bpftool_reads_contents(numbered.map));
  }
  CHECK(bpftool_reads_contents(Numbered("hash").map));
}

TEST_CASE("empty places are left out of maps of maps and of programs, and errors elsewhere") {
  Numbered progs("prog_array");
  const MapContents contents = progs.with({1, 3});
  CHECK(dump(progs.map, {&contents}) == "[" + key(1) + kSeven + "," + key(3) + kSeven + "]\n");
  Numbered devices("devmap");
  CHECK(dump(devices.map, {&contents}) == "[" + key(0) + kNoEntry + "," + key(1) + kSeven + "," +
                                              key(2) + kNoEntry + "," + key(3) + kSeven + "]\n");
  CHECK(dump(devices.map, {&contents}, {.with_absent = false}) ==
        "[" + key(1) + kSeven + "," + key(3) + kSeven + "]\n");
}

TEST_CASE("empty places between parts are listed once") {
  Numbered devices("devmap");
  MapContents first = devices.with({0});
  first.next = MapCursor{.position = 2};
  const MapContents second = devices.with({3});
  CHECK(dump(devices.map, {&first, &second}) == "[" + key(0) + kSeven + "," + key(1) + kNoEntry +
                                                    "," + key(2) + kNoEntry + "," + key(3) +
                                                    kSeven + "]\n");
  CHECK(dump(devices.map, {&second}, {.first = 2}) ==
        "[" + key(2) + kNoEntry + "," + key(3) + kSeven + "]\n");
}

TEST_CASE("where look-ups fail every key has the error") {
  Numbered perf("perf_event_array");
  perf.map.max_entries = 2;
  const MapContents unsupported = perf.with({1}, 524);
  const std::string error = R"("value":{"error":"Unknown error 524"}})";
  CHECK(dump(perf.map, {&unsupported}) == "[" + key(0) + error + "," + key(1) + error + "]\n");
  MapContents no_space = perf.with({1}, ENOSPC);
  no_space.keys = KeyForm::kBytes;
  CHECK(dump(perf.map, {&no_space}) ==
        "[" + key(1) + R"("value":{"error":"No space left on device"}})" + "]\n");
}

TEST_CASE("what could not be read is an error, or null among the values of CPUs") {
  MapInfo map;
  map.btf_id = 1;
  map.key_size = map.value_size = 4;
  std::size_t budget = 1 << 20;
  ContentsBuilder builder(map, {}, budget);
  builder.set_strides(8, 8);
  builder.add(raw("01000000"), {});
  builder.unreadable(0, 0);
  const MapContents contents = builder.finish();
  CHECK(dump(map, {&contents}) == "[" + key(1) + R"("value":{"error":"Bad address"}})" + "]\n");
  ContentsBuilder cells(map, {}, budget);
  cells.set_cpus({0, 2});
  cells.set_strides(8, 8);
  cells.add(raw("01000000"), raw("07000000"));
  cells.unreadable(0, 1);
  const MapContents values = cells.finish();
  CHECK(
      dump(map, {&values}) ==
      "[" + key(1) +
          R"("values":[{"cpu":0,"value":["0x07","0x00","0x00","0x00"]},{"cpu":1,"value":null}]}])" +
          "\n");
}

TEST_CASE("what the kernel keeps for itself is zero, as a look-up gives it") {
  BtfBuilder types;
  const TypeId u32 = types.integer("u32", 4, 32);
  const TypeId both = types.array(u32, 2);
  MapInfo map;
  map.btf_id = 1;
  map.key_size = 4;
  map.value_size = 8;
  std::size_t budget = 1 << 20;
  ContentsBuilder builder(map, {}, budget);
  builder.set_strides(8, 8);
  builder.add(raw("01000000"), raw("0102030405060708"));
  MapContents contents = builder.finish();
  contents.btf = std::make_shared<const Btf>(types.build());
  contents.value_type = both;
  contents.hidden = {{.offset = 2, .size = 3},
                     {.offset = 6, .size = 2, .first_byte = 1},
                     {.offset = 7, .size = 2},
                     {.offset = UINT32_MAX, .size = 1}};
  CHECK(dump(map, {&contents}) ==
        "[" + key(1) +
            R"("value":["0x01","0x02","0x00","0x00","0x00","0x06","0x01","0x00"],)"
            R"("formatted":{"value":[513,67072]}}])"
            "\n");
}

TEST_CASE("a data section is an array of objects with one member, and has no key") {
  BtfBuilder types;
  const TypeId number = types.integer("int", 4, 32, 1);
  const TypeId a = types.add(BtfKind::kVar, "a", 0, number, {1});
  const TypeId b = types.add(BtfKind::kVar, "b", 0, types.refer(BtfKind::kConst, number), {1});
  const TypeId section = types.add(BtfKind::kDatasec, ".data", 2, 8, {a, 0, 4, b, 4, 4});
  CHECK(value_text(types, section, raw("07000000ffffffff")) == R"({".data":[{"a":7},{"b":-1}]})");
  MapInfo map;
  map.btf_id = 1;
  map.key_size = 4;
  map.value_size = 8;
  std::size_t budget = 1 << 20;
  ContentsBuilder builder(map, {}, budget);
  builder.set_indexed(0);
  builder.set_strides(0, 8);
  builder.append(1);
  MapContents contents = builder.finish();
  contents.btf = std::make_shared<const Btf>(types.build());
  contents.value_type = section;
  CHECK(dump(map, {&contents})
            .ends_with(R"("formatted":{"value":{".data":[{"a":0},{"b":0}]}}}])"
                       "\n"));
}

TEST_CASE("values that bpftool cannot print stand there, and what follows them too") {
  BtfBuilder types;
  const TypeId number = types.integer("int", 4, 32, 1);
  const TypeId real = types.add(BtfKind::kFloat, "float", 0, 4);
  const TypeId forward = types.add(BtfKind::kFwd, "f", 0, 0);
  const TypeId both = types.integer("signed char", 1, 8, 3);
  const TypeId owner = types.aggregate(
      BtfKind::kStruct, "s", 16,
      {{"r", real, 0}, {"f", forward, 32}, {"v", 0, 32}, {"c", both, 64}, {"n", number, 96}});
  CHECK(value_text(types, owner, raw("0000c03f00000000ff00000009000000")) ==
        R"({"r":1.5,"f":null,"v":null,"c":-1,"n":9})");
}

TEST_CASE("chars with an encoding of their own are letters or escapes") {
  BtfBuilder types;
  const TypeId letter = types.integer("u_char", 1, 8, 2);
  CHECK(value_text(types, letter, raw("41")) == R"("A")");
  CHECK(value_text(types, letter, raw("0a")) == R"("\u000a")");
  CHECK(value_text(types, letter, raw("22")) == R"("\"")");
  CHECK(value_text(types, types.array(letter, 3), raw("414200")) == R"("AB")");
  const TypeId renamed = types.array(types.refer(BtfKind::kTypedef, letter, "letter_t"), 3);
  CHECK(value_text(types, renamed, raw("414200")) == R"(["A","B","\u0000"])");
}

TEST_CASE("enumerators are compared as 32 bits with a sign") {
  BtfBuilder types;
  const TypeId small = types.enumeration(BtfKind::kEnum, "small", 1, {{"LAST", 255}, {"ONE", 1}});
  const TypeId plain = types.enumeration(BtfKind::kEnum, "e", 4, {{"TOP", 0x80000000}});
  CHECK(value_text(types, small, raw("ff")) == "-1");
  CHECK(value_text(types, small, raw("01")) == "\"ONE\"");
  CHECK(value_text(types, plain, raw("00000080")) == "\"TOP\"");
  CHECK(value_text(types, plain, raw("feffffff")) == "-2");
}

TEST_CASE("old-style bit fields and odd widths are hex strings") {
  BtfBuilder types;
  const TypeId low = types.integer("unsigned int", 4, 3, 0, 0);
  const TypeId shifted = types.integer("int", 4, 4, 1, 8);
  const TypeId odd = types.integer("u24", 4, 24);
  const TypeId owner =
      types.aggregate(BtfKind::kStruct, "s", 8, {{"a", low, 1}, {"b", shifted, 0}, {"c", odd, 32}});
  CHECK(value_text(types, owner, raw("0a0f000001020300")) ==
        R"({"a":"0x5","b":"0xf","c":"0x30201"})");
}

TEST_CASE("strings are escaped as bpftool does where that is valid JSON") {
  std::string text;
  append_bpftool_string(text, "a\\b\"c'd\n");
  CHECK(text == R"("a\nb\"c'd\n")");
  text.clear();
  append_bpftool_string(text, "\xff\x01");
  CHECK(Json::accept(text));
}

TEST_CASE("types without end or sense stay valid JSON and short") {
  BtfBuilder types;
  const TypeId self = types.next_id();
  types.aggregate(BtfKind::kUnion, "u", 8, {{"a", self, 0}, {"b", self, 0}});
  const TypeId nothing = types.aggregate(BtfKind::kStruct, "nothing", 0, {});
  const TypeId many = types.array(nothing, UINT32_MAX);
  const TypeId outside = types.aggregate(
      BtfKind::kStruct, "o", 8, {{"p", types.refer(BtfKind::kPtr, 0), 32}, {"x", self, 1 << 20}});
  for (const TypeId id : {self, many, outside})
    CHECK(value_text(types, id, Bytes(8)).size() < 1'000'000);
}

TEST_CASE("a map's header is as in map show") {
  MapInfo map;
  map.id = 7;
  map.name = "counts";
  map.type = "hash";
  map.key_size = 4;
  map.value_size = 8;
  map.max_entries = 64;
  map.flags = 0x80000001;
  map.frozen = true;
  map.btf_id = 12;
  CHECK(
      bpftool_map(map) ==
      R"({"id":7,"type":"hash","name":"counts","flags":-2147483647,"bytes_key":4,"bytes_value":8,)"
      R"("max_entries":64,"frozen":1,"btf_id":12})");
  map = MapInfo{};
  map.type = "type_40";
  CHECK(bpftool_map(map) ==
        R"({"id":0,"type":40,"flags":0,"bytes_key":0,"bytes_value":0,"max_entries":0,"frozen":0})");
}

TEST_CASE("a program is bpftool's object, with counters that are not zero only") {
  ProgInfo prog;
  prog.id = 84;
  prog.name = "a_program_of_long_name";
  prog.type = "tracing";
  prog.tag = "071d0c066a08c95e";
  prog.xlated_bytes = 16;
  CHECK(bpftool_prog(prog) ==
        R"({"id":84,"type":"tracing","name":"a_program_of_lo","tag":"071d0c066a08c95e",)"
        R"("gpl_compatible":false,"bytes_xlated":16,"jited":false})");
  prog.gpl_compatible = true;
  prog.loaded_at_ns = 5;
  prog.uid = 1000;
  prog.jited_bytes = 20;
  prog.memlock_bytes = 4096;
  prog.map_ids = {9, 3};
  prog.btf_id = 12;
  prog.has_misses = true;
  prog.per_cpu = {{0, {.runs = 2, .nanoseconds = 30, .recursion_misses = 1}}, {1, {.runs = 3}}};
  CHECK(bpftool_prog(prog) ==
        R"({"id":84,"type":"tracing","name":"a_program_of_long_name","tag":"071d0c066a08c95e",)"
        R"("gpl_compatible":true,"run_time_ns":30,"run_cnt":5,"recursion_misses":1,"uid":1000,)"
        R"("bytes_xlated":16,"jited":true,"bytes_jited":20,"bytes_memlock":4096,"map_ids":[9,3],)"
        R"("btf_id":12})");
  prog = ProgInfo{};
  prog.type = "type_40";
  CHECK(bpftool_list(std::vector{prog, prog}, bpftool_prog) ==
        R"([{"id":0,"type":40,"tag":"","gpl_compatible":false,"bytes_xlated":0,"jited":false},)"
        R"({"id":0,"type":40,"tag":"","gpl_compatible":false,"bytes_xlated":0,"jited":false}])"
        "\n");
  CHECK(bpftool_list(std::vector<ProgInfo>{}, bpftool_prog) == "[]\n");
}

TEST_CASE("a link has the members that bpftool knows of its type, in bpftool's order") {
  LinkInfo link;
  link.id = 3;
  link.type = "cgroup";
  link.prog_id = 7;
  link.facts = {{.name = "attach_type", .value = "cgroup_inet_ingress"},
                {.name = "cgroup_id", .value = std::uint64_t{4294967297}},
                {.name = "path", .value = "/"}};
  CHECK(bpftool_link(link) == R"({"id":3,"type":"cgroup","prog_id":7,"cgroup_id":4294967297,)"
                              R"("attach_type":"cgroup_inet_ingress"})");
  link.type = "xdp";
  CHECK(bpftool_link(link) == R"({"id":3,"type":"xdp","prog_id":7})");
  link.type = "type_90";
  CHECK(bpftool_link(link) == R"({"id":3,"type":90,"prog_id":7})");
}

}  // namespace guestscope
