#include "introspect/dwarf_shape.h"

#include <functional>

#include "introspect/limits.h"

namespace guestscope {
namespace {

// What a type that contains itself finds where its own shape will be.
constexpr Shape kCycle = 0x6379636c65;
// Larger ones make the table grow.
constexpr std::size_t kTypesOfSmallUnit = 512;

}  // namespace

TypeForm form_of(int tag) {
  switch (tag) {
    case DW_TAG_base_type: return TypeForm::kBase;
    case DW_TAG_pointer_type:
    case DW_TAG_reference_type:
    case DW_TAG_rvalue_reference_type: return TypeForm::kPointer;
    case DW_TAG_typedef: return TypeForm::kAlias;
    case DW_TAG_const_type:
    case DW_TAG_volatile_type:
    case DW_TAG_restrict_type: return TypeForm::kQualifier;
    case DW_TAG_atomic_type:
    case DW_TAG_immutable_type:
    case DW_TAG_packed_type:
    case DW_TAG_shared_type: return TypeForm::kSame;
    case DW_TAG_array_type: return TypeForm::kArray;
    case DW_TAG_structure_type:
    case DW_TAG_class_type:
    case DW_TAG_union_type: return TypeForm::kAggregate;
    case DW_TAG_enumeration_type: return TypeForm::kEnum;
    case DW_TAG_subroutine_type: return TypeForm::kFunction;
    default: return TypeForm::kNone;
  }
}

Shape mix(Shape shape, std::string_view text) {
  return mix(shape, std::uint64_t{std::hash<std::string_view>{}(text)});
}

Shape name_shape(int tag, std::string_view name) {
  const int kind = tag == DW_TAG_class_type ? DW_TAG_structure_type : tag;
  return mix(mix(Shape{1}, static_cast<std::uint64_t>(kind)), name);
}

void DwarfShapes::enter(Dwarf_CU* unit) {
  unit_ = unit;
  in_unit_.reset(kTypesOfSmallUnit);
}

Shape DwarfShapes::of(Dwarf_Die& type, Depth depth, unsigned level) {
  if (reader_.failed()) return 0;
  if (level > kMaxDwarfDepth) {
    reader_.damaged("types are nested too deep");
    return 0;
  }
  OffsetMap& known = type.cu == unit_ ? in_unit_ : elsewhere_;
  const std::uint64_t key = reinterpret_cast<std::uintptr_t>(type.addr) << 1 |
                            static_cast<std::uint64_t>(depth == Depth::kBehindPointer);
  if (const std::uint64_t* shape = known.find(key)) return *shape;
  known.set(key, kCycle);
  const Shape shape = compute(type, depth, level + 1);
  known.set(key, shape);
  return shape;
}

Shape DwarfShapes::compute(Dwarf_Die& type, Depth depth, unsigned level) {
  const int tag = dwarf_tag(&type);
  const auto start = static_cast<std::uint64_t>(tag);
  const TypeForm form = form_of(tag);
  switch (form) {
    case TypeForm::kAggregate: return aggregate(type, depth, level);
    case TypeForm::kEnum: return enumeration(type, depth, level);
    case TypeForm::kArray: return array(type, depth, level);
    case TypeForm::kFunction: return function(type, level);
    case TypeForm::kNone: return 0;
    default: break;
  }
  const DieFacts facts = reader_.facts(type);
  if (form == TypeForm::kBase)
    return mix(mix(mix(mix(start, facts.name()), facts.number(DieFacts::kByteSize).value_or(0)),
                   facts.number(DieFacts::kEncoding).value_or(0)),
               facts.number(DieFacts::kBitSize).value_or(0));
  if (form == TypeForm::kPointer) return mix(start, target(facts, Depth::kBehindPointer, level));
  if (form == TypeForm::kSame) return target(facts, depth, level);
  return mix(mix(start, facts.name()), target(facts, depth, level));
}

Shape DwarfShapes::target(const DieFacts& facts, Depth depth, unsigned level) {
  Dwarf_Die type;
  return reader_.follow(facts, DieFacts::kType, type) ? of(type, depth, level) : 0;
}

Shape DwarfShapes::aggregate(Dwarf_Die& type, Depth depth, unsigned level) {
  const DieFacts facts = reader_.facts(type);
  const std::string_view name = facts.name();
  Shape shape = name_shape(dwarf_tag(&type), name);
  if (!name.empty() && depth == Depth::kBehindPointer) return shape;
  // A declaration that names the type unit with the definition.
  Dwarf_Die definition;
  if (reader_.follow(facts, DieFacts::kSignature, definition)) return of(definition, depth, level);
  shape = mix(shape, facts.number(DieFacts::kByteSize).value_or(0));
  reader_.for_each_child(type, [&](Dwarf_Die& child) {
    if (dwarf_tag(&child) != DW_TAG_member) return;
    const DieMember member = reader_.member(child);
    shape = mix(mix(shape, member.facts.name()), member.bit_offset << 8 | member.bit_size);
    shape = mix(shape, target(member.facts, depth, level));
  });
  return shape;
}

Shape DwarfShapes::enumeration(Dwarf_Die& type, Depth depth, unsigned level) {
  const DieFacts facts = reader_.facts(type);
  const std::string_view name = facts.name();
  Shape shape = name_shape(DW_TAG_enumeration_type, name);
  if (!name.empty() && depth == Depth::kBehindPointer) return shape;
  Dwarf_Die definition;
  if (reader_.follow(facts, DieFacts::kSignature, definition)) return of(definition, depth, level);
  shape = mix(shape, facts.number(DieFacts::kByteSize).value_or(0));
  reader_.for_each_child(type, [&](Dwarf_Die& child) {
    if (dwarf_tag(&child) != DW_TAG_enumerator) return;
    const DieFacts each = reader_.facts(child);
    shape = mix(mix(shape, each.name()), each.number(DieFacts::kConstValue).value_or(0));
  });
  return shape;
}

Shape DwarfShapes::array(Dwarf_Die& type, Depth depth, unsigned level) {
  Shape shape = DW_TAG_array_type;
  const DieArray array = reader_.array(type);
  for (std::size_t i = 0; i < array.dimensions; ++i) shape = mix(shape, array.counts[i]);
  return mix(shape, target(reader_.facts(type), depth, level));
}

Shape DwarfShapes::function(Dwarf_Die& type, unsigned level) {
  Shape shape =
      mix(DW_TAG_subroutine_type, target(reader_.facts(type), Depth::kBehindPointer, level));
  reader_.for_each_child(type, [&](Dwarf_Die& child) {
    const int tag = dwarf_tag(&child);
    shape = mix(shape, static_cast<std::uint64_t>(tag));
    if (tag == DW_TAG_formal_parameter)
      shape = mix(shape, target(reader_.facts(child), Depth::kBehindPointer, level));
  });
  return shape;
}

}  // namespace guestscope
