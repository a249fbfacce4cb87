#include "introspect/dwarf_emitter.h"

#include <algorithm>

#include "introspect/limits.h"

namespace guestscope {
namespace {

// BTF_INT_*, include/uapi/linux/btf.h.
constexpr std::uint32_t kSigned = 1;
constexpr std::uint32_t kBool = 4;
// Of a member that shares its word with its width.
constexpr std::uint64_t kMaxPackedOffset = 0xffffff;
constexpr std::uint64_t kMaxIntBytes = 16;

// BTF_INT_CHAR is in the format, and nobody writes it.
std::uint32_t int_encoding(std::uint64_t encoding) {
  switch (encoding) {
    case DW_ATE_boolean: return kBool;
    case DW_ATE_signed:
    case DW_ATE_signed_char: return kSigned;
    default: return 0;
  }
}

BtfKind qualifier_kind(int tag) {
  if (tag == DW_TAG_const_type) return BtfKind::kConst;
  return tag == DW_TAG_volatile_type ? BtfKind::kVolatile : BtfKind::kRestrict;
}

std::uint32_t clamped(std::uint64_t size) {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(size, UINT32_MAX));
}

}  // namespace

Result<Bytes> DwarfEmitter::run() {
  ids_.reset(definitions_.named().size());
  for (std::size_t i = 0; i < definitions_.named().size(); ++i) writer_.reserve();
  TypeId id = 1;
  std::vector<std::uint32_t> words;
  for (const auto& definition : definitions_.named()) {
    Dwarf_Die die = definition.die;
    const DieFacts facts = reader_.facts(die);
    words.clear();
    writer_.define(id++, body(die, facts, words, 0));
    if (reader_.failed()) return Bytes{};
  }
  for (Dwarf_Die die : definitions_.others()) id_of(die, 0);
  if (reader_.failed()) return Bytes{};
  return writer_.finish();
}

TypeId DwarfEmitter::id_of(Dwarf_Die& type, unsigned level) {
  if (reader_.failed()) return 0;
  if (level > kMaxDwarfDepth) {
    reader_.damaged("types are nested too deep");
    return 0;
  }
  const TypeForm form = form_of(dwarf_tag(&type));
  if (form == TypeForm::kNone) return 0;
  const auto key = reinterpret_cast<std::uintptr_t>(type.addr);
  if (const std::uint64_t* id = ids_.find(key)) return static_cast<TypeId>(*id);
  ids_.set(key, 0);  // void, for a type that consists of itself
  const TypeId id = write(type, form, reader_.facts(type), level + 1);
  ids_.set(key, id);
  return id;
}

TypeId DwarfEmitter::target(const DieFacts& facts, unsigned level) {
  Dwarf_Die type;
  return reader_.follow(facts, DieFacts::kType, type) ? id_of(type, level) : 0;
}

TypeId DwarfEmitter::write(Dwarf_Die& type, TypeForm form, const DieFacts& facts, unsigned level) {
  switch (form) {
    case TypeForm::kBase: return base(facts);
    case TypeForm::kPointer:
      return writer_.intern({.kind = BtfKind::kPtr, .size_or_type = target(facts, level)});
    case TypeForm::kAlias:
      return writer_.intern(
          {.kind = BtfKind::kTypedef, .name = facts.name(), .size_or_type = target(facts, level)});
    case TypeForm::kQualifier:
      return writer_.intern(
          {.kind = qualifier_kind(dwarf_tag(&type)), .size_or_type = target(facts, level)});
    case TypeForm::kSame: return target(facts, level);
    case TypeForm::kArray: return arrays(type, facts, level);
    case TypeForm::kFunction: return function(type, facts, level);
    case TypeForm::kAggregate:
    case TypeForm::kEnum: break;
    case TypeForm::kNone: return 0;
  }
  Dwarf_Die definition;
  if (reader_.follow(facts, DieFacts::kSignature, definition)) return id_of(definition, level);
  if (!facts.name().empty()) return named(type, facts);
  std::vector<std::uint32_t> words;
  return writer_.intern(body(type, facts, words, level));
}

TypeId DwarfEmitter::named(Dwarf_Die& type, const DieFacts& facts) {
  const int tag = dwarf_tag(&type);
  const auto& candidates = definitions_.of_name(name_shape(tag, facts.name()));
  if (candidates.size() == 1) return candidates.front() + 1;
  if (facts.is_declaration()) return declaration(tag, facts.name());
  const Shape shape = shapes_.of(type);
  for (const std::uint32_t candidate : candidates)
    if (definitions_.named()[candidate].shape == shape) return candidate + 1;
  // Defined where the scan does not look: within a function, or in a unit of another language.
  std::vector<std::uint32_t> words;
  return writer_.intern(body(type, facts, words, 0));
}

// BTF has no forward declaration of an enum; the kernel writes an empty one.
TypeId DwarfEmitter::declaration(int tag, std::string_view name) {
  if (tag == DW_TAG_enumeration_type)
    return writer_.intern({.kind = BtfKind::kEnum, .name = name, .size_or_type = 4});
  return writer_.intern(
      {.kind = BtfKind::kFwd, .name = name, .kind_flag = tag == DW_TAG_union_type});
}

TypeId DwarfEmitter::base(const DieFacts& facts) {
  const std::uint64_t size = facts.number(DieFacts::kByteSize).value_or(0);
  const std::uint64_t encoding = facts.number(DieFacts::kEncoding).value_or(0);
  if (encoding == DW_ATE_float || encoding == DW_ATE_complex_float)
    return writer_.intern(
        {.kind = BtfKind::kFloat, .name = facts.name(), .size_or_type = clamped(size)});
  // BTF's integers end at 128 bits; _BitInt(N) does not.
  if (size > kMaxIntBytes)
    return array(integer("unsigned char", 1, 8, DW_ATE_unsigned_char), clamped(size));
  const std::uint64_t bits = facts.number(DieFacts::kBitSize).value_or(size * 8);
  return integer(facts.name(), size, std::min(bits, size * 8), encoding);
}

TypeId DwarfEmitter::integer(std::string_view name, std::uint64_t size, std::uint64_t bits,
                             std::uint64_t encoding) {
  const std::uint32_t word = int_encoding(encoding) << 24 | static_cast<std::uint32_t>(bits & 0xff);
  return writer_.intern({.kind = BtfKind::kInt,
                         .name = name,
                         .size_or_type = clamped(size),
                         .words = std::span(&word, 1)});
}

TypeId DwarfEmitter::array(TypeId element, std::uint32_t count) {
  // The type of the index is in no DWARF of C; pahole calls it so.
  const TypeId index = integer("__ARRAY_SIZE_TYPE__", 4, 32, DW_ATE_unsigned);
  const std::uint32_t words[] = {element, index, count};
  return writer_.intern({.kind = BtfKind::kArray, .words = words});
}

TypeId DwarfEmitter::arrays(Dwarf_Die& type, const DieFacts& facts, unsigned level) {
  TypeId id = target(facts, level);
  const DieArray dimensions = reader_.array(type);
  for (std::size_t i = dimensions.dimensions; i-- > 0;) id = array(id, dimensions.counts[i]);
  return id;
}

TypeId DwarfEmitter::function(Dwarf_Die& type, const DieFacts& facts, unsigned level) {
  std::vector<std::uint32_t> words;
  const TypeId result = target(facts, level);
  reader_.for_each_child(type, [&](Dwarf_Die& child) {
    const int tag = dwarf_tag(&child);
    if (words.size() / 2 == BtfWriter::kMaxItems) return;
    if (tag == DW_TAG_unspecified_parameters) {
      words.insert(words.end(), {0, 0});
    } else if (tag == DW_TAG_formal_parameter) {
      const DieFacts parameter = reader_.facts(child);
      const TypeId parameter_type = target(parameter, level);
      words.insert(words.end(), {writer_.text(parameter.name()), parameter_type});
    }
  });
  return writer_.intern({.kind = BtfKind::kFuncProto,
                         .count = words.size() / 2,
                         .size_or_type = result,
                         .words = words});
}

BtfRecord DwarfEmitter::body(Dwarf_Die& type, const DieFacts& facts,
                             std::vector<std::uint32_t>& words, unsigned level) {
  if (dwarf_tag(&type) == DW_TAG_enumeration_type) return enumeration(type, facts, words);
  return aggregate(type, facts, words, level);
}

BtfRecord DwarfEmitter::aggregate(Dwarf_Die& type, const DieFacts& facts,
                                  std::vector<std::uint32_t>& words, unsigned level) {
  bool has_bit_fields = false;
  std::vector<std::uint64_t> widths;
  std::vector<std::uint64_t> offsets;
  reader_.for_each_child(type, [&](Dwarf_Die& child) {
    if (dwarf_tag(&child) != DW_TAG_member || widths.size() == BtfWriter::kMaxItems) return;
    const DieMember member = reader_.member(child);
    if (!member.is_placed || member.bit_offset > UINT32_MAX) return;
    has_bit_fields |= member.bit_size != 0;
    const TypeId member_type = target(member.facts, level);
    words.insert(words.end(), {writer_.text(member.facts.name()), member_type,
                               static_cast<std::uint32_t>(member.bit_offset)});
    widths.push_back(member.bit_size);
    offsets.push_back(member.bit_offset);
  });
  std::size_t count = 0;
  for (std::size_t i = 0; i < widths.size(); ++i) {
    // Beside bit fields, a place has 24 bits; what lies behind 2 MB cannot be written.
    if (has_bit_fields && offsets[i] > kMaxPackedOffset) continue;
    words[count * 3] = words[i * 3];
    words[count * 3 + 1] = words[i * 3 + 1];
    words[count * 3 + 2] = words[i * 3 + 2] | static_cast<std::uint32_t>(widths[i] << 24);
    ++count;
  }
  words.resize(count * 3);
  return {.kind = dwarf_tag(&type) == DW_TAG_union_type ? BtfKind::kUnion : BtfKind::kStruct,
          .name = facts.name(),
          .kind_flag = has_bit_fields,
          .count = count,
          .size_or_type = clamped(facts.number(DieFacts::kByteSize).value_or(0)),
          .words = words};
}

BtfRecord DwarfEmitter::enumeration(Dwarf_Die& type, const DieFacts& facts,
                                    std::vector<std::uint32_t>& words) {
  struct Enumerator {
    std::uint32_t name;
    std::uint64_t value;
  };
  std::vector<Enumerator> list;
  bool is_signed = false;
  const std::uint64_t size = facts.number(DieFacts::kByteSize).value_or(4);
  reader_.for_each_child(type, [&](Dwarf_Die& child) {
    if (dwarf_tag(&child) != DW_TAG_enumerator || list.size() == BtfWriter::kMaxItems) return;
    const DieFacts each = reader_.facts(child);
    is_signed |= each.is_negative(DieFacts::kConstValue);
    list.push_back({writer_.text(each.name()), each.number(DieFacts::kConstValue).value_or(0)});
  });
  const bool is_wide =
      size > 4 || std::ranges::any_of(list, [&](const Enumerator& each) {
        const auto value = static_cast<std::int64_t>(each.value);
        return is_signed ? value != static_cast<std::int32_t>(value) : each.value > UINT32_MAX;
      });
  for (const Enumerator& each : list) {
    words.insert(words.end(), {each.name, static_cast<std::uint32_t>(each.value)});
    if (is_wide) words.push_back(static_cast<std::uint32_t>(each.value >> 32));
  }
  return {.kind = is_wide ? BtfKind::kEnum64 : BtfKind::kEnum,
          .name = facts.name(),
          .kind_flag = is_signed,
          .count = list.size(),
          .size_or_type = clamped(size),
          .words = words};
}

}  // namespace guestscope
