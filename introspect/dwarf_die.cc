#include "introspect/dwarf_die.h"

#include <cstring>

#include "introspect/limits.h"

namespace guestscope {
namespace {

// What one look at a DIE costs beside its bytes.
constexpr std::uint64_t kDieCost = 4;
constexpr std::uint64_t kMaxBits = std::uint64_t{UINT32_MAX} * 8;

DieFacts::Slot slot_of(unsigned code) {
  switch (code) {
    case DW_AT_name: return DieFacts::kName;
    case DW_AT_type: return DieFacts::kType;
    case DW_AT_signature: return DieFacts::kSignature;
    case DW_AT_declaration: return DieFacts::kDeclaration;
    case DW_AT_byte_size: return DieFacts::kByteSize;
    case DW_AT_bit_size: return DieFacts::kBitSize;
    case DW_AT_bit_offset: return DieFacts::kBitOffset;
    case DW_AT_data_bit_offset: return DieFacts::kDataBitOffset;
    case DW_AT_data_member_location: return DieFacts::kMemberLocation;
    case DW_AT_encoding: return DieFacts::kEncoding;
    case DW_AT_upper_bound: return DieFacts::kUpperBound;
    case DW_AT_count: return DieFacts::kCount;
    case DW_AT_const_value: return DieFacts::kConstValue;
    default: return DieFacts::kSlots;
  }
}

std::uint64_t rest_of_unit(Dwarf_Die& die) {
  const Dwarf_Off at = dwarf_dieoffset(&die);
  const Dwarf_Off unit = at - dwarf_cuoffset(&die);
  Dwarf_Off end = 0;
  std::size_t header = 0;
  if (dwarf_nextcu(dwarf_cu_getdwarf(die.cu), unit, &end, &header, nullptr, nullptr, nullptr) !=
          0 ||
      end < at)
    return UINT32_MAX;
  return end - at;
}

bool has_signed_form(const Dwarf_Attribute& attribute) {
  return attribute.form == DW_FORM_sdata || attribute.form == DW_FORM_implicit_const;
}

// Before DWARF 3 a member's place was an expression, and "plus this constant" the only one in use.
std::optional<std::uint64_t> plus_constant(Dwarf_Attribute attribute) {
  Dwarf_Block block{};
  if (dwarf_formblock(&attribute, &block) != 0 || block.length < 2 || block.length > 11 ||
      block.data[0] != DW_OP_plus_uconst)
    return std::nullopt;
  std::uint64_t value = 0;
  for (Dwarf_Word i = 1; i < block.length && i <= 9; ++i) {
    value |= std::uint64_t{block.data[i] & 0x7fU} << (7 * (i - 1));
    if ((block.data[i] & 0x80) == 0)
      return i + 1 == block.length ? std::optional(value) : std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

// Only stored: libdw has checked an attribute's length when dwarf_getattrs() has returned, and not
// yet when it calls this.
int DieFacts::store(Dwarf_Attribute* attribute, void* facts) {
  auto& into = *static_cast<DieFacts*>(facts);
  const Slot slot = slot_of(attribute->code);
  if (slot == kSlots) return DWARF_CB_OK;
  into.attributes_[slot] = *attribute;
  into.present_ |= 1U << slot;
  return DWARF_CB_OK;
}

std::string_view DieFacts::name() const {
  if (!has(kName)) return {};
  Dwarf_Attribute attribute = attributes_[kName];
  const char* text = dwarf_formstring(&attribute);
  if (text == nullptr) return {};
  const std::size_t length = ::strnlen(text, kMaxNameBytes + 1);
  return length > kMaxNameBytes ? std::string_view{} : std::string_view(text, length);
}

bool DieFacts::is_declaration() const {
  bool value = false;
  Dwarf_Attribute attribute = attributes_[kDeclaration];
  return has(kDeclaration) && dwarf_formflag(&attribute, &value) == 0 && value;
}

std::optional<std::uint64_t> DieFacts::number(Slot slot) const {
  if (!has(slot)) return std::nullopt;
  Dwarf_Attribute attribute = attributes_[slot];
  Dwarf_Word value = 0;
  Dwarf_Sword signed_value = 0;
  // Forms without a sign (data1 …) are read as unsigned: compilers write what may be negative as
  // sdata.
  if (has_signed_form(attribute)) {
    if (dwarf_formsdata(&attribute, &signed_value) != 0) return std::nullopt;
    return static_cast<std::uint64_t>(signed_value);
  }
  if (dwarf_formudata(&attribute, &value) != 0) return std::nullopt;
  return value;
}

bool DieFacts::is_negative(Slot slot) const {
  const auto value = number(slot);
  return value && has_signed_form(attributes_[slot]) && static_cast<std::int64_t>(*value) < 0;
}

DieReader::DieReader(std::uint64_t bytes) : budget_(kDwarfWorkBase + kDwarfWorkPerByte * bytes) {}

void DieReader::damaged(std::string_view what) {
  if (error_) return;
  error_ = Error{.code = ErrorCode::kCorrupt, .message = fmt::format("DWARF: {}", what)};
}

void DieReader::spend(std::uint64_t bytes) {
  if (bytes > budget_) {
    budget_ = 0;
    return damaged("its entries refer to each other without end");
  }
  budget_ -= bytes;
}

// As dwarf_siblingof(). What that walks through is paid for: an entry without DW_AT_sibling makes
// it look at everything within.
int DieReader::next_sibling(Dwarf_Die& die) {
  Dwarf_Die next{};
  const int status = dwarf_siblingof(&die, &next);
  if (status < 0) return status;
  if (next.addr == nullptr) {
    // The unit's last entry, and nothing marks the end of the list.
    spend(rest_of_unit(die));
  } else if (next.addr <= die.addr) {
    damaged("an entry's sibling lies before it");
    return 1;
  } else {
    spend(static_cast<std::uint64_t>(static_cast<const char*>(next.addr) -
                                     static_cast<const char*>(die.addr)));
  }
  die = next;
  return status;
}

DieFacts DieReader::facts(Dwarf_Die& die) {
  DieFacts facts;
  if (failed()) return facts;
  spend(kDieCost);
  if (dwarf_getattrs(&die, &DieFacts::store, &facts, 0) != 1) {
    damaged(dwarf_errmsg(-1));
    facts.present_ = 0;
  }
  return facts;
}

bool DieReader::follow(const Dwarf_Attribute& reference, Dwarf_Die& target) {
  if (failed()) return false;
  Dwarf_Attribute attribute = reference;
  if (dwarf_formref_die(&attribute, &target) != nullptr) return true;
  damaged(dwarf_errmsg(-1));
  return false;
}

DieMember DieReader::member(Dwarf_Die& die) {
  DieMember member{.facts = facts(die)};
  const auto& facts = member.facts;
  std::uint64_t bytes = 0;
  if (facts.has(DieFacts::kMemberLocation)) {
    auto location = facts.number(DieFacts::kMemberLocation);
    if (!location) location = plus_constant(facts[DieFacts::kMemberLocation]);
    if (!location || *location > UINT32_MAX) return member;
    bytes = *location;
  }
  member.is_placed = true;
  member.bit_offset = bytes * 8;
  member.bit_size = facts.number(DieFacts::kBitSize).value_or(0);
  if (facts.has(DieFacts::kDataBitOffset) || member.bit_size != 0) place_bit_field(member);
  if (member.bit_offset > kMaxBits || member.bit_size > UINT8_MAX) member.is_placed = false;
  return member;
}

// DWARF 4 and later count from the structure's first bit. Before, DW_AT_bit_offset was the distance
// of the field's most significant bit from that of the storage unit at the member's place.
void DieReader::place_bit_field(DieMember& member) {
  const auto& facts = member.facts;
  if (const auto bits = facts.number(DieFacts::kDataBitOffset)) {
    member.bit_offset += *bits <= kMaxBits ? *bits : kMaxBits;
  } else if (facts.has(DieFacts::kBitOffset)) {
    auto storage = facts.number(DieFacts::kByteSize);
    Dwarf_Die type;
    if (!storage && follow(facts, DieFacts::kType, type)) storage = byte_size(type);
    const auto from_top = static_cast<std::int64_t>(facts.number(DieFacts::kBitOffset).value_or(0));
    if (!storage || *storage > 16 || from_top < -128 || from_top > 128 || member.bit_size > 128) {
      member.is_placed = false;
      return;
    }
    const auto at =
        static_cast<std::int64_t>(member.bit_offset + *storage * 8 - member.bit_size) - from_top;
    member.is_placed = at >= 0;
    member.bit_offset = static_cast<std::uint64_t>(at);
  }
}

std::uint64_t DieReader::byte_size(Dwarf_Die type) {
  for (unsigned steps = 0; steps <= kMaxModifiers; ++steps) {
    const DieFacts facts = this->facts(type);
    if (const auto size = facts.number(DieFacts::kByteSize)) return *size;
    Dwarf_Die next;
    if (!follow(facts, DieFacts::kType, next)) return 0;
    type = next;
  }
  return 0;
}

DieArray DieReader::array(Dwarf_Die& die) {
  DieArray array;
  for_each_child(die, [&](Dwarf_Die& child) {
    if (dwarf_tag(&child) != DW_TAG_subrange_type) return;
    if (array.dimensions == array.counts.size()) return damaged("an array of too many dimensions");
    const DieFacts facts = this->facts(child);
    std::uint64_t count = facts.number(DieFacts::kCount).value_or(0);
    // The bound -1 of an empty array becomes 0 by overflow, which is what it means.
    if (const auto bound = facts.number(DieFacts::kUpperBound)) count = *bound + 1;
    array.counts[array.dimensions++] = count <= INT32_MAX ? static_cast<std::uint32_t>(count) : 0;
  });
  if (array.dimensions == 0) array.counts[array.dimensions++] = 0;
  return array;
}

}  // namespace guestscope
