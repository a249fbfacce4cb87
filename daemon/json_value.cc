#include "daemon/json_value.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "introspect/value.h"

namespace guestscope {

namespace {

/// Writes text from the events of a walk, which are well nested: no tree, so that a value of a
/// million elements costs its text and nothing more.
class JsonText final : public ValueVisitor {
 public:
  JsonText(std::string& text, const OnDamage& on_damage, const FunctionNames& functions)
      : text_(text), on_damage_(on_damage), functions_(functions) {}

  void begin_object() override { open('{'); }
  void key(std::string_view name) override {
    separate();
    append_string(text_, name);
    text_ += ':';
    after_key_ = true;
  }
  void end_object() override { close('}'); }
  void begin_array() override { open('['); }
  void end_array() override { close(']'); }
  void boolean(bool value) override { put(value ? "true" : "false"); }
  void u64(std::uint64_t value) override { put(fmt::format_int(value)); }
  void s64(std::int64_t value) override { put(fmt::format_int(value)); }
  void u128(std::uint64_t high, std::uint64_t low, bool is_signed) override {
    __extension__ using Wide = unsigned __int128;
    __extension__ using SignedWide = __int128;
    const Wide value = static_cast<Wide>(high) << 64 | low;
    string(is_signed ? fmt::format("{}", static_cast<SignedWide>(value))
                     : fmt::format("{}", value));
  }
  void f64(double value) override {
    if (std::isfinite(value))
      put(Json(value).dump());
    else
      string(
          fmt::format("{}", value));  // JSON has no word for these; null would mean "not readable"
  }
  void string(std::string_view text) override {
    separate();
    append_string(text_, text);
  }
  void pointer(GuestVirt address) override { string(fmt::format("{:#x}", address.value())); }
  void function(GuestVirt address) override {
    const auto found = functions_.find(address.value());
    if (found == functions_.end()) return pointer(address);
    string(found->second);
  }
  void hex(ByteSpan bytes) override { string(hex_bytes(bytes)); }
  void null() override { put("null"); }
  void damaged(const Error& error) override {
    null();
    if (on_damage_) on_damage_(error);
  }

 private:
  void separate() {
    if (!after_key_ && needs_comma_) text_ += ',';
    after_key_ = false;
    needs_comma_ = true;
  }
  void put(std::string_view word) {
    separate();
    text_ += word;
  }
  void put(const fmt::format_int& number) { put(std::string_view(number.data(), number.size())); }
  void open(char bracket) {
    separate();
    text_ += bracket;
    needs_comma_ = false;
  }
  void close(char bracket) {
    text_ += bracket;
    needs_comma_ = true;
  }

  std::string& text_;
  const OnDamage& on_damage_;
  const FunctionNames& functions_;
  bool needs_comma_ = false;
  bool after_key_ = false;
};

bool is_plain(std::string_view text) {
  return std::ranges::all_of(text,
                             [](char c) { return c >= ' ' && c <= '~' && c != '"' && c != '\\'; });
}

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

std::optional<Bytes> parse_hex_bytes(std::string_view text) {
  if (text.starts_with("0x") || text.starts_with("0X")) text.remove_prefix(2);
  if (text.size() % 2 != 0) return std::nullopt;
  Bytes bytes;
  for (std::size_t at = 0; at < text.size(); at += 2) {
    unsigned value = 0;
    const auto [end, error] = std::from_chars(&text[at], &text[at] + 2, value, 16);
    if (error != std::errc{} || end != &text[at] + 2) return std::nullopt;
    bytes.push_back(static_cast<std::byte>(value));
  }
  return bytes;
}

Result<void> append_value(std::string& text, ValuePlan& plan, TypeId type, ByteSpan bytes,
                          const OnDamage& on_damage, const FunctionNames& functions) {
  JsonText writer(text, on_damage, functions);
  return visit_value(plan, type, bytes, writer);
}

Result<void> append_value(std::string& text, const Btf& btf, TypeId type, ByteSpan bytes,
                          const OnDamage& on_damage) {
  ValuePlan plan(btf);
  return append_value(text, plan, type, bytes, on_damage);
}

void append_string(std::string& text, std::string_view value) {
  if (is_plain(value)) {
    text += '"';
    text += value;
    text += '"';
  } else {
    text += dump_json(Json(std::string(value)));
  }
}

std::string dump_json(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace guestscope
