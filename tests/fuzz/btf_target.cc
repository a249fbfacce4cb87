// Input: BTF, of which the last bytes are also the value that is walked by every type of it.
#include <algorithm>
#include <string>

#include "introspect/btf.h"
#include "introspect/value.h"
#include "tests/fuzz/fuzz_targets.h"
#include "tests/support/btf_builder.h"

namespace guestscope::fuzz {

namespace {

constexpr TypeId kMaxTypes = 64;  // walked of one input, so that a run stays short

/// Checks that the events make exactly one well-nested value.
class NestingVisitor final : public ValueVisitor {
 public:
  void begin_object() override { open('{'); }
  void key(std::string_view) override {
    require(!open_.empty() && open_.back() == '{' && !after_key_, "a key is in an object");
    after_key_ = true;
  }
  void end_object() override { close('{'); }
  void begin_array() override { open('['); }
  void end_array() override { close('['); }
  void boolean(bool) override { value(); }
  void u64(std::uint64_t) override { value(); }
  void s64(std::int64_t) override { value(); }
  void u128(std::uint64_t, std::uint64_t, bool) override { value(); }
  void f64(double) override { value(); }
  void string(std::string_view) override { value(); }
  void pointer(GuestVirt) override { value(); }
  void hex(ByteSpan) override { value(); }
  void null() override { value(); }

  bool nothing() const { return values_ == 0; }
  bool one_value() const { return values_ == 1 && open_.empty() && !after_key_; }

 private:
  void value() {
    if (open_.empty()) ++values_;
    require(after_key_ == (!open_.empty() && open_.back() == '{'), "a member has a key");
    after_key_ = false;
  }
  void open(char bracket) {
    value();
    open_ += bracket;
  }
  void close(char bracket) {
    require(!open_.empty() && open_.back() == bracket && !after_key_, "what is opened is closed");
    open_.pop_back();
  }

  std::string open_;
  bool after_key_ = false;
  int values_ = 0;
};

void look_at(const Btf& btf, TypeId id, ByteSpan value) {
  static_cast<void>(btf.describe(id));
  static_cast<void>(btf.resolve(id));
  static_cast<void>(btf.size_of(id));
  static_cast<void>(btf.is_signed(id));
  static_cast<void>(btf.find(btf.kind(id), btf.name_of(id)));
  for (const BtfMember& member : btf.members(id)) static_cast<void>(btf.place(member));
  for (const BtfParam& param : btf.params(id)) static_cast<void>(param);
  NestingVisitor visitor;
  const auto done = visit_value(btf, id, value, visitor);
  require(done ? visitor.one_value() : visitor.nothing(), "one whole value, or an error and none");
}

}  // namespace

void run_btf(ByteSpan input) {
  const auto btf = Btf::parse(input, "fuzz");
  if (!btf) return;
  const ByteSpan value = input.last(std::min<std::size_t>(input.size(), 256));
  const TypeId end = std::min(btf->type_count() + 1, kMaxTypes);  // one that does not exist, too
  for (TypeId id = 0; id < end; ++id) look_at(*btf, id, value);
}

std::vector<Bytes> btf_seeds() {
  BtfBuilder types;
  const TypeId u8 = types.integer("u8", 1, 8);
  const TypeId u32 = types.integer("int", 4, 32, 1);
  const TypeId letter = types.integer("char", 1, 8, 3);
  const TypeId wide = types.integer("u128", 16, 128);
  const TypeId name = types.array(letter, 16);
  const TypeId real = types.add(BtfKind::kFloat, "double", 0, 8);
  const TypeId color = types.enumeration(BtfKind::kEnum, "color", 4, {{"RED", 0}, {"BLUE", 7}});
  const TypeId flags = types.enumeration(BtfKind::kEnum64, "f", 8, {{"TOP", 1ULL << 63}}, true);
  const TypeId named = types.refer(BtfKind::kTypedef, color, "color_t");
  const TypeId fixed = types.refer(BtfKind::kConst, named);
  const TypeId self = types.refer(BtfKind::kPtr, types.next_id() + 1);
  types.aggregate(BtfKind::kStruct, "node", 72,
                  {{"next", self, 0},
                   {"name", name, 64},
                   {"color", fixed, 192},
                   {"real", real, 256},
                   {"wide", wide, 384},
                   {"flags", flags, 512}});
  const TypeId bits =
      types.aggregate(BtfKind::kStruct, "", 4, {{"a", u32, 0, 3}, {"b", u32, 3, 29}}, true);
  const TypeId either =
      types.aggregate(BtfKind::kUnion, "either", 4, {{"", bits, 0}, {"x", u32, 0}});
  const TypeId variable = types.add(BtfKind::kVar, "counter", 0, either, {1});
  types.add(BtfKind::kDatasec, ".bss", 1, 8, {variable, 0, 4});
  types.array(types.array(either, 3), 2);
  types.add(BtfKind::kFwd, "later", 0, 0);
  types.add(BtfKind::kFuncProto, "", 1, u32, {0, u8});
  types.refer(BtfKind::kTypedef, types.next_id(), "loop");
  return {types.bytes(), BtfBuilder().bytes()};
}

}  // namespace guestscope::fuzz
