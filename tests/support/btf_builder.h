// BtfBuilder: BTF put together record by record, for what no compiler emits: old styles and damage.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "introspect/btf.h"

namespace guestscope {

class BtfBuilder {
 public:
  /// Ids and string offsets continue those of a base with so many.
  explicit BtfBuilder(TypeId first_id = 1, std::uint32_t first_string = 0)
      : next_id_(first_id), first_string_(first_string) {}

  std::uint32_t text(std::string_view name) {
    if (name.empty()) return 0;
    const auto offset = first_string_ + static_cast<std::uint32_t>(strings_.size());
    strings_ += name;
    strings_ += '\0';
    return offset;
  }

  TypeId add(BtfKind kind, std::string_view name, std::size_t count, std::uint32_t size_or_type,
             const std::vector<std::uint32_t>& words = {}, bool kind_flag = false) {
    types_.insert(types_.end(),
                  {text(name),
                   static_cast<std::uint32_t>(count) | static_cast<std::uint32_t>(kind) << 24 |
                       (kind_flag ? 1U << 31 : 0U),
                   size_or_type});
    types_.insert(types_.end(), words.begin(), words.end());
    return next_id_++;
  }

  TypeId integer(std::string_view name, std::uint32_t size, std::uint32_t bits,
                 std::uint32_t encoding = 0, std::uint32_t bit_offset = 0) {
    return add(BtfKind::kInt, name, 0, size, {encoding << 24 | bit_offset << 16 | bits});
  }
  TypeId refer(BtfKind kind, TypeId target, std::string_view name = "") {
    return add(kind, name, 0, target);
  }
  TypeId array(TypeId element, std::uint32_t count) {
    return add(BtfKind::kArray, "", 0, 0, {element, element, count});
  }

  struct Member {
    std::string_view name;
    TypeId type;
    std::uint32_t bit_offset;
    std::uint32_t bit_size = 0;
  };
  TypeId aggregate(BtfKind kind, std::string_view name, std::uint32_t size,
                   const std::vector<Member>& members, bool kind_flag = false) {
    std::vector<std::uint32_t> words;
    for (const Member& member : members)
      words.insert(words.end(),
                   {text(member.name), member.type, member.bit_offset | member.bit_size << 24});
    return add(kind, name, members.size(), size, words, kind_flag);
  }

  struct Enumerator {
    std::string_view name;
    std::uint64_t value;
  };
  TypeId enumeration(BtfKind kind, std::string_view name, std::uint32_t size,
                     const std::vector<Enumerator>& list, bool is_signed = false) {
    std::vector<std::uint32_t> words;
    for (const Enumerator& each : list) {
      words.insert(words.end(), {text(each.name), static_cast<std::uint32_t>(each.value)});
      if (kind == BtfKind::kEnum64) words.push_back(static_cast<std::uint32_t>(each.value >> 32));
    }
    return add(kind, name, list.size(), size, words, is_signed);
  }

  /// The id that the next type will have: for types that refer to themselves.
  TypeId next_id() const { return next_id_; }

  Bytes bytes() const {
    Bytes result;
    const auto put = [&](std::uint64_t value, int size) {
      for (int i = 0; i < size; ++i)
        result.push_back(static_cast<std::byte>((value >> (8 * i)) & 0xff));
    };
    put(0xeb9f, 2), put(1, 1), put(0, 1), put(24, 4);
    put(0, 4), put(types_.size() * 4, 4);
    put(types_.size() * 4, 4), put(strings_.size(), 4);
    for (const std::uint32_t word : types_) put(word, 4);
    for (const char c : strings_) put(static_cast<unsigned char>(c), 1);
    return result;
  }

  Btf build(const Btf* base = nullptr) const {
    auto btf = Btf::parse(bytes(), "test", base);
    return btf ? std::move(*btf) : Btf{};
  }

 private:
  std::vector<std::uint32_t> types_;
  std::string strings_ = std::string(1, '\0');
  TypeId next_id_;
  std::uint32_t first_string_;
};

}  // namespace guestscope
