// The records of BTF as plain values, and BtfList, which decodes an array of them on demand.
//
// A list points into the bytes of the Btf it came from and must not outlive it. Records have been
// checked by Btf::parse(), so decoding cannot fail. Threads: plain values.
// Source of truth: include/uapi/linux/btf.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string_view>

namespace guestscope {

class Btf;
using TypeId = std::uint32_t;

enum class BtfKind : std::uint8_t {
  kVoid = 0,
  kInt = 1,
  kPtr = 2,
  kArray = 3,
  kStruct = 4,
  kUnion = 5,
  kEnum = 6,
  kFwd = 7,
  kTypedef = 8,
  kVolatile = 9,
  kConst = 10,
  kRestrict = 11,
  kFunc = 12,
  kFuncProto = 13,
  kVar = 14,
  kDatasec = 15,
  kFloat = 16,
  kDeclTag = 17,
  kTypeTag = 18,
  kEnum64 = 19,
};
inline constexpr std::uint32_t kBtfKinds = 20;

/// "struct", "typedef": as C and bpftool say it.
std::string_view to_string(BtfKind kind);

struct BtfType {
  BtfKind kind = BtfKind::kVoid;
  bool kind_flag = false;   ///< struct: members carry bit sizes; enum: signed; fwd: union
  std::uint16_t count = 0;  ///< members, enumerators, parameters, variables
  std::uint32_t name_offset = 0;
  std::uint32_t size = 0;  ///< bytes; 0 for kinds that refer to a type
  TypeId target = 0;       ///< what a pointer, typedef, … refers to; a function prototype's result
};

struct BtfMember {
  std::string_view name;  ///< empty for anonymous members
  TypeId type = 0;
  std::uint32_t bit_offset = 0;
  std::uint8_t bit_size = 0;  ///< as written in the member; use Btf::place()

  static BtfMember decode(const Btf& btf, const std::byte* at, bool kind_flag,
                          std::uint32_t stride);
};

struct BtfEnumerator {
  std::string_view name;
  std::uint64_t value = 0;  ///< sign-extended when the enum is signed

  static BtfEnumerator decode(const Btf& btf, const std::byte* at, bool kind_flag,
                              std::uint32_t stride);
};

struct BtfParam {
  std::string_view name;
  TypeId type = 0;  ///< 0 at the end of a list: variable arguments

  static BtfParam decode(const Btf& btf, const std::byte* at, bool kind_flag, std::uint32_t stride);
};

/// A variable of a DATASEC; its name and type are those of the VAR `type`.
struct BtfVariable {
  TypeId type = 0;
  std::uint32_t offset = 0;
  std::uint32_t size = 0;

  static BtfVariable decode(const Btf& btf, const std::byte* at, bool kind_flag,
                            std::uint32_t stride);
};

struct BtfInt {
  std::uint8_t bits = 0;
  std::uint8_t bit_offset = 0;  ///< old-style bit fields; otherwise 0
  bool is_signed = false;
  bool is_char = false;
  bool is_bool = false;
};

struct BtfArray {
  TypeId element = 0;
  TypeId index = 0;
  std::uint32_t count = 0;
};

/// Where a member lies in its structure.
struct MemberPlace {
  std::uint32_t offset = 0;     ///< bytes; for a bit field, of the byte with its first bit
  std::uint64_t size = 0;       ///< bytes; for a bit field, of the bytes that it touches
  std::uint8_t bit_offset = 0;  ///< 0 to 7, in the byte at `offset`
  std::uint8_t bit_size = 0;    ///< 1 to 128, or 0: not a bit field
  TypeId type = 0;              ///< behind modifiers
};

template <typename Item>
class BtfList {
 public:
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = Item;
    using difference_type = std::ptrdiff_t;
    using pointer = void;
    using reference = Item;

    Iterator() = default;
    Iterator(const BtfList* list, std::uint32_t at) : list_(list), at_(at) {}
    Item operator*() const { return (*list_)[at_]; }
    Iterator& operator++() { return ++at_, *this; }
    Iterator operator++(int) { return Iterator(list_, at_++); }
    bool operator==(const Iterator&) const = default;

   private:
    const BtfList* list_ = nullptr;
    std::uint32_t at_ = 0;
  };

  BtfList() = default;
  BtfList(const Btf& btf, const std::byte* first, std::uint32_t count, std::uint32_t stride,
          bool kind_flag)
      : btf_(&btf), first_(first), count_(count), stride_(stride), kind_flag_(kind_flag) {}

  std::size_t size() const { return count_; }
  bool empty() const { return count_ == 0; }
  /// `i` must be below size().
  Item operator[](std::size_t i) const {
    return Item::decode(*btf_, first_ + i * stride_, kind_flag_, stride_);
  }
  Iterator begin() const { return Iterator(this, 0); }
  Iterator end() const { return Iterator(this, count_); }

 private:
  const Btf* btf_ = nullptr;
  const std::byte* first_ = nullptr;
  std::uint32_t count_ = 0;
  std::uint32_t stride_ = 0;
  bool kind_flag_ = false;
};

}  // namespace guestscope
