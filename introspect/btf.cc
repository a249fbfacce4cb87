#include "introspect/btf.h"

#include <algorithm>

#include "introspect/limits.h"
#include "introspect/short_string.h"

namespace guestscope {
namespace {

constexpr std::uint32_t kTypeBytes = 12;
constexpr std::uint64_t kPointerBytes = 8;
constexpr std::uint32_t kMaxBitField = 128;

std::uint32_t load32(const std::byte* at) { return static_cast<std::uint32_t>(load_le(at, 4)); }

bool refers_to_type(BtfKind kind) {
  switch (kind) {
    case BtfKind::kPtr:
    case BtfKind::kTypedef:
    case BtfKind::kVolatile:
    case BtfKind::kConst:
    case BtfKind::kRestrict:
    case BtfKind::kFunc:
    case BtfKind::kFuncProto:
    case BtfKind::kVar:
    case BtfKind::kDeclTag:
    case BtfKind::kTypeTag: return true;
    default: return false;
  }
}

bool is_modifier(BtfKind kind) {
  switch (kind) {
    case BtfKind::kTypedef:
    case BtfKind::kVolatile:
    case BtfKind::kConst:
    case BtfKind::kRestrict:
    case BtfKind::kVar:
    case BtfKind::kDeclTag:
    case BtfKind::kTypeTag: return true;
    default: return false;
  }
}

}  // namespace

std::string_view to_string(BtfKind kind) {
  static constexpr std::string_view kNames[kBtfKinds] = {
      "void", "int",     "pointer",  "array",    "struct",   "union", "enum",
      "fwd",  "typedef", "volatile", "const",    "restrict", "func",  "func_proto",
      "var",  "datasec", "float",    "decl_tag", "type_tag", "enum64"};
  const auto index = static_cast<std::size_t>(kind);
  return index < kBtfKinds ? kNames[index] : "unknown";
}

BtfMember BtfMember::decode(const Btf& btf, const std::byte* at, bool kind_flag, std::uint32_t) {
  const std::uint32_t offset = load32(at + 8);
  BtfMember member{.name = btf.string_at(load32(at)), .type = load32(at + 4), .bit_offset = offset};
  if (kind_flag) {
    member.bit_offset = offset & 0xffffff;
    member.bit_size = static_cast<std::uint8_t>(offset >> 24);
  }
  return member;
}

BtfEnumerator BtfEnumerator::decode(const Btf& btf, const std::byte* at, bool kind_flag,
                                    std::uint32_t stride) {
  std::uint64_t value = 0;
  if (stride == 12) {  // ENUM64: low word, high word
    value = load_le(at + 4, 8);
  } else {
    value = load32(at + 4);
    if (kind_flag)
      value = static_cast<std::uint64_t>(std::int64_t{static_cast<std::int32_t>(load32(at + 4))});
  }
  return {.name = btf.string_at(load32(at)), .value = value};
}

BtfParam BtfParam::decode(const Btf& btf, const std::byte* at, bool, std::uint32_t) {
  return {.name = btf.string_at(load32(at)), .type = load32(at + 4)};
}

BtfVariable BtfVariable::decode(const Btf&, const std::byte* at, bool, std::uint32_t) {
  return {.type = load32(at), .offset = load32(at + 4), .size = load32(at + 8)};
}

const std::byte* Btf::record(TypeId id) const {
  const Btf* home = this;
  while (id < home->first_id_) home = home->base_;
  const std::size_t entry = id - home->first_id_;
  if (id == 0 || entry >= home->records_.size()) return nullptr;
  return &home->types_[home->records_[entry]];
}

std::string_view Btf::string_at(std::uint32_t offset) const {
  const Btf* home = this;
  while (offset < home->first_string_) home = home->base_;
  return short_string_at(home->strings_, offset - home->first_string_);
}

BtfType Btf::type(TypeId id) const {
  const std::byte* at = record(id);
  if (at == nullptr) return {};
  const std::uint32_t info = load32(at + 4);
  const std::uint32_t size_or_type = load32(at + 8);
  const auto kind = static_cast<BtfKind>((info >> 24) & 0x1f);
  BtfType type{.kind = kind,
               .kind_flag = info >> 31 != 0,
               .count = static_cast<std::uint16_t>(info & 0xffff),
               .name_offset = load32(at)};
  // In an array and a forward declaration the word is unused.
  if (refers_to_type(kind))
    type.target = size_or_type;
  else if (kind != BtfKind::kArray && kind != BtfKind::kFwd)
    type.size = size_or_type;
  return type;
}

std::string Btf::describe(TypeId id) const {
  const std::string_view name = name_of(id);
  return fmt::format("{} {}", to_string(kind(id)), name.empty() ? "(anonymous)" : name);
}

template <typename Item>
BtfList<Item> Btf::list(TypeId id, std::uint32_t stride) const {
  const BtfType header = type(id);
  return BtfList<Item>(*this, record(id) + kTypeBytes, header.count, stride, header.kind_flag);
}

BtfList<BtfMember> Btf::members(TypeId id) const {
  const BtfKind of = kind(id);
  if (of != BtfKind::kStruct && of != BtfKind::kUnion) return {};
  return list<BtfMember>(id, 12);
}

BtfList<BtfEnumerator> Btf::enumerators(TypeId id) const {
  const BtfKind of = kind(id);
  if (of != BtfKind::kEnum && of != BtfKind::kEnum64) return {};
  return list<BtfEnumerator>(id, of == BtfKind::kEnum ? 8 : 12);
}

BtfList<BtfParam> Btf::params(TypeId id) const {
  if (kind(id) != BtfKind::kFuncProto) return {};
  return list<BtfParam>(id, 8);
}

BtfList<BtfVariable> Btf::variables(TypeId id) const {
  if (kind(id) != BtfKind::kDatasec) return {};
  return list<BtfVariable>(id, 12);
}

BtfInt Btf::int_info(TypeId id) const {
  if (kind(id) != BtfKind::kInt) return {};
  const std::uint32_t word = load32(record(id) + kTypeBytes);
  const std::uint32_t encoding = (word >> 24) & 0xf;
  return {.bits = static_cast<std::uint8_t>(word & 0xff),
          .bit_offset = static_cast<std::uint8_t>((word >> 16) & 0xff),
          .is_signed = (encoding & 1) != 0,
          .is_char = (encoding & 2) != 0,
          .is_bool = (encoding & 4) != 0};
}

BtfArray Btf::array(TypeId id) const {
  if (kind(id) != BtfKind::kArray) return {};
  const std::byte* at = record(id) + kTypeBytes;
  return {.element = load32(at), .index = load32(at + 4), .count = load32(at + 8)};
}

template <typename Visit>
void Btf::for_each_named(BtfKind kind_wanted, std::string_view name, Visit visit) const {
  for (const Btf* home = this; home != nullptr; home = home->base_) {
    bool more = true;
    home->index_.for_each_candidate(name, [&](std::uint32_t entry) {
      const TypeId id = home->first_id_ + entry;
      if (home->kind(id) == kind_wanted && home->name_of(id) == name) more = visit(id);
      return more;
    });
    if (!more) return;
  }
}

std::optional<TypeId> Btf::find(BtfKind kind_wanted, std::string_view name) const {
  std::optional<TypeId> found;
  for_each_named(kind_wanted, name, [&](TypeId id) {
    found = id;
    return false;
  });
  return found;
}

std::vector<TypeId> Btf::find_all(BtfKind kind_wanted, std::string_view name) const {
  std::vector<TypeId> found;
  for_each_named(kind_wanted, name, [&](TypeId id) {
    found.push_back(id);
    return true;
  });
  return found;
}

Result<TypeId> Btf::resolve(TypeId id) const {
  TypeId at = id;
  for (unsigned steps = 0; steps <= kMaxModifiers; ++steps) {
    if (!contains(at)) return fail(ErrorCode::kNotFound, "BTF of {}: no type {}", name_, at);
    const BtfType header = type(at);
    if (!is_modifier(header.kind)) return at;
    at = header.target;
  }
  return fail(ErrorCode::kCorrupt, "BTF of {}: type {} leads through more than {} modifiers", name_,
              id, kMaxModifiers);
}

Result<std::uint64_t> Btf::size_of(TypeId id) const {
  std::uint64_t count = 1;
  TypeId at = id;
  for (unsigned depth = 0; depth <= kMaxTypeDepth; ++depth) {
    GS_ASSIGN(at, resolve(at));
    const BtfType header = type(at);
    std::uint64_t size = header.size;
    switch (header.kind) {
      case BtfKind::kArray: {
        const BtfArray info = array(at);
        if (__builtin_mul_overflow(count, std::uint64_t{info.count}, &count))
          return fail(ErrorCode::kCorrupt, "BTF of {}: type {} is absurdly large", name_, id);
        at = info.element;
        continue;
      }
      case BtfKind::kVoid:
      case BtfKind::kFwd:
      case BtfKind::kFunc:
      case BtfKind::kFuncProto:
        return fail(ErrorCode::kUnsupported, "BTF of {}: {} (type {}) has no size", name_,
                    describe(at), at);
      case BtfKind::kPtr: size = kPointerBytes; break;
      default: break;
    }
    if (__builtin_mul_overflow(count, size, &size))
      return fail(ErrorCode::kCorrupt, "BTF of {}: type {} is absurdly large", name_, id);
    return size;
  }
  return fail(ErrorCode::kCorrupt, "BTF of {}: type {} is nested more than {} deep", name_, id,
              kMaxTypeDepth);
}

Result<MemberPlace> Btf::place(const BtfMember& member) const {
  MemberPlace place;
  GS_ASSIGN(place.type, resolve(member.type));
  GS_ASSIGN(place.size, size_of(place.type));
  const BtfKind of = kind(place.type);
  std::uint64_t first_bit = member.bit_offset;
  std::uint64_t bits = member.bit_size;
  if (of == BtfKind::kInt && bits == 0) {
    // The old style: the bit field's width and position are a type of their own.
    const BtfInt info = int_info(place.type);
    if (info.bits != place.size * 8 || info.bit_offset != 0) bits = info.bits;
    first_bit += info.bit_offset;
  }
  if (bits == 0 && first_bit % 8 != 0) bits = place.size * 8;
  place.offset = static_cast<std::uint32_t>(first_bit / 8);
  if (bits == 0) return place;
  const bool can_be_narrow = of == BtfKind::kInt || of == BtfKind::kEnum || of == BtfKind::kEnum64;
  if (!can_be_narrow || bits > kMaxBitField || bits > place.size * 8)
    return fail(ErrorCode::kCorrupt, "BTF of {}: member {} is a bit field of {} bits of {}", name_,
                member.name, bits, describe(place.type));
  place.bit_offset = static_cast<std::uint8_t>(first_bit % 8);
  place.bit_size = static_cast<std::uint8_t>(bits);
  place.size = (place.bit_offset + bits + 7) / 8;
  return place;
}

bool Btf::is_signed(TypeId id) const {
  const auto behind = resolve(id);
  if (!behind) return false;
  const BtfType header = type(*behind);
  if (header.kind == BtfKind::kInt) return int_info(*behind).is_signed;
  return (header.kind == BtfKind::kEnum || header.kind == BtfKind::kEnum64) && header.kind_flag;
}

std::size_t Btf::memory_bytes() const {
  return owned_.capacity() + records_.capacity() * sizeof(records_[0]) + index_.memory_bytes();
}

}  // namespace guestscope
