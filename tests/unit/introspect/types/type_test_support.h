// What the tests of types share: the fixtures, bytes from numbers, and a visitor that prints.
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <string>

#include "introspect/value.h"

namespace guestscope {

inline std::string fixture(const std::string& name) {
  return std::string(GUESTSCOPE_FIXTURES) + "/" + name;
}

inline Bytes file_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto* begin = reinterpret_cast<const std::byte*>(text.data());
  return {begin, begin + text.size()};
}

inline Btf fixture_btf() {
  auto btf = Btf::parse(file_bytes(fixture("types.btf")), "fixture");
  return btf ? std::move(*btf) : Btf{};
}

/// Little-endian bytes of a structure, written field by field.
class Memory {
 public:
  explicit Memory(std::size_t size) : bytes_(size) {}
  Memory& put(std::size_t offset, std::uint64_t value, std::size_t size) {
    for (std::size_t i = 0; i < size; ++i)
      bytes_.at(offset + i) = static_cast<std::byte>((value >> (8 * i)) & 0xff);
    return *this;
  }
  Memory& text(std::size_t offset, std::string_view value) {
    for (const char c : value) bytes_.at(offset++) = static_cast<std::byte>(c);
    return *this;
  }
  operator ByteSpan() const { return bytes_; }

 private:
  Bytes bytes_;
};

/// Prints as JSON does, with damage as !message!, and notes whether the calls were well nested.
class PrintVisitor : public ValueVisitor {
 public:
  void begin_object() override { open('{'); }
  void key(std::string_view name) override {
    comma();
    out += fmt::format("{}:", name);
    after_key_ = true;
  }
  void end_object() override { close('{', '}'); }
  void begin_array() override { open('['); }
  void end_array() override { close('[', ']'); }
  void boolean(bool value) override { leaf(value ? "true" : "false"); }
  void u64(std::uint64_t value) override { leaf(fmt::format("{}", value)); }
  void s64(std::int64_t value) override { leaf(fmt::format("{}", value)); }
  void u128(std::uint64_t high, std::uint64_t low, bool is_signed) override {
    leaf(fmt::format("{}{:x}:{:x}", is_signed ? "s" : "u", high, low));
  }
  void f64(double value) override { leaf(fmt::format("{}", value)); }
  void string(std::string_view text) override { leaf(fmt::format("\"{}\"", text)); }
  void pointer(GuestVirt address) override { leaf(fmt::format("{:#x}", address.value())); }
  void hex(ByteSpan bytes) override {
    std::string text = "hex ";
    for (const std::byte byte : bytes) text += fmt::format("{:02x}", std::to_integer<int>(byte));
    leaf(text);
  }
  void null() override { leaf("null"); }
  void damaged(const Error& error) override {
    ++damages;
    leaf(fmt::format("!{}!", error.message));
  }

  /// One complete value, every bracket closed by its partner.
  bool well_nested() const { return well_nested_ && open_.empty() && values_ == 1; }

  std::string out;
  int damages = 0;

 private:
  void comma() {
    if (!out.empty() && out.back() != '{' && out.back() != '[' && !after_key_) out += ',';
  }
  void value_begins() {
    const bool in_object = !open_.empty() && open_.back() == '{';
    if (in_object != after_key_) well_nested_ = false;
    if (open_.empty()) ++values_;
    comma();
    after_key_ = false;
  }
  void leaf(std::string_view text) {
    value_begins();
    out += text;
  }
  void open(char bracket) {
    value_begins();
    out += bracket;
    open_ += bracket;
  }
  void close(char opened, char bracket) {
    if (open_.empty() || open_.back() != opened || after_key_) well_nested_ = false;
    if (!open_.empty()) open_.pop_back();
    out += bracket;
  }

  std::string open_;
  bool after_key_ = false;
  bool well_nested_ = true;
  int values_ = 0;
};

/// What visit_value prints, or its error's message.
inline std::string print(const Btf& btf, TypeId type, ByteSpan bytes) {
  PrintVisitor visitor;
  const auto done = visit_value(btf, type, bytes, visitor);
  if (!done) return visitor.out.empty() ? done.error().message : "ERROR AFTER OUTPUT";
  return visitor.well_nested() ? visitor.out : "BAD NESTING " + visitor.out;
}

}  // namespace guestscope
