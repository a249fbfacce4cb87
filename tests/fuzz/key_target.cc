// Input: the text of a key up to a NUL, then BTF, by every type of which the text is taken for a
// key and its last bytes are printed.
#include <algorithm>

#include "daemon/bpftool_value.h"
#include "daemon/map_key.h"
#include "tests/fuzz/fuzz_targets.h"
#include "tests/support/btf_builder.h"

namespace guestscope::fuzz {

namespace {

constexpr TypeId kMaxTypes = 32;  // looked at of one input, so that a run stays short
constexpr std::size_t kMaxBytes = 256;

void make(const MapContents& shape, std::string_view text) {
  const auto key = make_key(shape, text);
  if (key) require(key->size() == shape.key_size, "a key has its size");
  const auto bytes = parse_hex_key(shape, text);
  if (bytes) require(bytes->size() == shape.key_size, "a key has its size");
}

}  // namespace

void run_key(ByteSpan input) {
  const std::string_view text = text_in(input);
  const ByteSpan types = input.subspan(std::min(input.size(), text.size() + 1));
  MapContents shape;
  shape.key_size = 4;
  make(shape, text);
  auto btf = Btf::parse(types, "fuzz");
  if (!btf) return;
  shape.btf = std::make_shared<const Btf>(*std::move(btf));
  const ByteSpan value = input.last(std::min(input.size(), kMaxBytes));
  for (TypeId id = 1; id < std::min(shape.btf->type_count() + 1, kMaxTypes); ++id) {
    shape.key_type = id;
    shape.key_size = std::min<std::uint64_t>(shape.btf->size_of(id).value_or(4), kMaxBytes);
    make(shape, text);
    std::string printed;
    append_bpftool_value(printed, *shape.btf, id, value);
    require(Json::accept(printed), "what is printed is JSON");
  }
}

std::vector<Bytes> key_seeds() {
  BtfBuilder types;
  const TypeId u16 = types.integer("u16", 2, 16);
  const TypeId s32 = types.integer("int", 4, 32, 1);
  const TypeId name = types.array(types.integer("char", 1, 8, 1), 8);
  const TypeId color = types.enumeration(BtfKind::kEnum, "color", 4, {{"RED", 0}, {"BLUE", 7}});
  const TypeId either = types.aggregate(BtfKind::kUnion, "", 8, {{"n", s32, 0}, {"text", name, 0}});
  types.aggregate(BtfKind::kStruct, "key", 16,
                  {{"port", u16, 0}, {"low", s32, 16, 3}, {"c", color, 32}, {"", either, 64}},
                  true);
  const Bytes described = types.bytes();
  std::vector<Bytes> seeds;
  for (const std::string_view text :
       {R"({"port":443,"low":-1,"c":"BLUE","n":1})", R"({"port":"0x1","low":0,"c":7,"text":"a"})",
        "0x0000000000000001", "-1", "RED", "\"eth0\"", "[1,2]"}) {
    Bytes seed = from_text(text);
    seed.push_back(std::byte{0});
    seed.insert(seed.end(), described.begin(), described.end());
    seeds.push_back(std::move(seed));
  }
  return seeds;
}

}  // namespace guestscope::fuzz
