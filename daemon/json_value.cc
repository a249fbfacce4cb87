#include "daemon/json_value.h"

#include <cmath>
#include <vector>

#include "introspect/value.h"

namespace guestscope {

namespace {

/// Builds a Json from the events of a walk, which are well nested.
class JsonBuilder final : public ValueVisitor {
 public:
  Json take() { return std::move(root_); }

  void begin_object() override { open(Json::object()); }
  void key(std::string_view name) override { key_ = name; }
  void end_object() override { open_.pop_back(); }
  void begin_array() override { open(Json::array()); }
  void end_array() override { open_.pop_back(); }
  void boolean(bool value) override { put(value); }
  void u64(std::uint64_t value) override { put(value); }
  void s64(std::int64_t value) override { put(value); }
  void u128(std::uint64_t high, std::uint64_t low, bool is_signed) override {
    __extension__ using Wide = unsigned __int128;
    __extension__ using SignedWide = __int128;
    const Wide value = static_cast<Wide>(high) << 64 | low;
    put(is_signed ? fmt::format("{}", static_cast<SignedWide>(value)) : fmt::format("{}", value));
  }
  void f64(double value) override {
    if (std::isfinite(value))
      put(value);
    else
      put(fmt::format("{}", value));  // JSON has no word for these; null would mean "not readable"
  }
  void string(std::string_view text) override { put(std::string(text)); }
  void pointer(GuestVirt address) override { put(fmt::format("{:#x}", address.value())); }
  void hex(ByteSpan bytes) override { put(hex_bytes(bytes)); }
  void null() override { put(nullptr); }

 private:
  Json* put(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    Json& member = parent[key_];
    member = std::move(value);
    return &member;
  }
  void open(Json empty) { open_.push_back(put(std::move(empty))); }

  Json root_;
  std::string key_;
  std::vector<Json*>
      open_;  // a parent gets no further members while a child is open, so these stay valid
};

}  // namespace

std::string hex_address(std::uint64_t address) { return fmt::format("{:#018x}", address); }

std::string hex_bytes(ByteSpan bytes) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const std::byte byte : bytes) {
    text += kDigits[std::to_integer<std::size_t>(byte >> 4)];
    text += kDigits[std::to_integer<std::size_t>(byte & std::byte{15})];
  }
  return text;
}

Result<Json> typed_value(const Btf& btf, TypeId type, ByteSpan bytes) {
  JsonBuilder builder;
  GS_CHECK(visit_value(btf, type, bytes, builder));
  return builder.take();
}

std::string dump_json(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace guestscope
