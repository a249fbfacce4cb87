// Compares two BTFs of the same source by name: that of a compiler or the kernel's build, and the
// one made from DWARF.
//
// Each difference is a line of text. Not differences, because both sides mean the same: type tags
// and the like, which resolve() steps over; an array of several dimensions written as one (pahole
// does that); the base type's name where compilers call it otherwise.
#pragma once

#include <fmt/format.h>

#include <string>
#include <vector>

#include "introspect/btf.h"

namespace guestscope {

/// The type behind modifiers and all dimensions of an array, and how many elements there are.
struct Elements {
  TypeId type = 0;
  std::uint64_t count = 1;
};

inline Elements elements_of(const Btf& btf, TypeId type) {
  Elements found{.type = btf.resolve(type).value_or(0)};
  while (btf.kind(found.type) == BtfKind::kArray) {
    found.count *= btf.array(found.type).count;
    found.type = btf.resolve(btf.array(found.type).element).value_or(0);
  }
  return found;
}

inline std::string compare_enumerators(const Btf& expected, TypeId e, const Btf& made, TypeId m) {
  const auto left = expected.enumerators(e);
  const auto right = made.enumerators(m);
  if (left.size() != right.size()) return "number of enumerators";
  const bool is_wide = expected.kind(e) == BtfKind::kEnum64;
  for (std::size_t i = 0; i < left.size(); ++i) {
    if (left[i].name != right[i].name) return fmt::format("enumerator {}", left[i].name);
    // Kernels whose pahole was old do not say whether an enum is signed.
    const std::uint64_t mask = is_wide ? ~0ULL : 0xffffffffULL;
    if (((left[i].value ^ right[i].value) & mask) != 0)
      return fmt::format("value of {}", left[i].name);
  }
  return "";
}

std::string compare_members(const Btf& expected, TypeId e, const Btf& made, TypeId m,
                            unsigned depth);

inline std::string compare_types(const Btf& expected, TypeId e, const Btf& made, TypeId m,
                                 unsigned depth) {
  const Elements left = elements_of(expected, e);
  const Elements right = elements_of(made, m);
  if (left.count != right.count) return fmt::format("{} elements, {}", left.count, right.count);
  const BtfKind kind = expected.kind(left.type);
  const BtfKind made_kind = made.kind(right.type);
  if (kind != made_kind) {
    // What is declared here may be defined in another unit.
    return fmt::format("{}, {}", to_string(kind), to_string(made_kind));
  }
  if (expected.name_of(left.type) != made.name_of(right.type))
    return fmt::format("{}, {}", expected.describe(left.type), made.describe(right.type));
  if (expected.type(left.type).size != made.type(right.type).size)
    return fmt::format("size of {}", expected.describe(left.type));
  if (kind == BtfKind::kInt) {
    const BtfInt a = expected.int_info(left.type);
    const BtfInt b = made.int_info(right.type);
    if (a.bits != b.bits || a.is_signed != b.is_signed || a.is_bool != b.is_bool ||
        a.is_char != b.is_char)
      return fmt::format("encoding of {}", expected.describe(left.type));
  }
  if (kind == BtfKind::kEnum || kind == BtfKind::kEnum64)
    return compare_enumerators(expected, left.type, made, right.type);
  if ((kind == BtfKind::kStruct || kind == BtfKind::kUnion) && expected.name_of(left.type).empty())
    return compare_members(expected, left.type, made, right.type, depth + 1);
  if (kind != BtfKind::kPtr) return "";
  // One step behind a pointer: kind and name.
  const TypeId a = expected.resolve(expected.type(left.type).target).value_or(0);
  const TypeId b = made.resolve(made.type(right.type).target).value_or(0);
  if (expected.name_of(a) != made.name_of(b))
    return fmt::format("pointer to {}, {}", expected.describe(a), made.describe(b));
  const bool is_forward = expected.kind(a) == BtfKind::kFwd || made.kind(b) == BtfKind::kFwd;
  if (expected.kind(a) != made.kind(b) && !is_forward)
    return fmt::format("pointer to {}, {}", expected.describe(a), made.describe(b));
  return "";
}

inline std::string compare_members(const Btf& expected, TypeId e, const Btf& made, TypeId m,
                                   unsigned depth) {
  if (depth > 20) return "nested too deep";
  if (expected.type(e).size != made.type(m).size)
    return fmt::format("size {}, {}", expected.type(e).size, made.type(m).size);
  const auto left = expected.members(e);
  const auto right = made.members(m);
  if (left.size() != right.size()) return fmt::format("{} members, {}", left.size(), right.size());
  for (std::size_t i = 0; i < left.size(); ++i) {
    if (left[i].name != right[i].name) return fmt::format("member {}", left[i].name);
    const auto in = [&](std::string_view what) {
      return fmt::format("member {}: {}", left[i].name, what);
    };
    if (left[i].bit_offset != right[i].bit_offset) return in("offset");
    if (left[i].bit_size != right[i].bit_size) return in("bits");
    if (std::string why = compare_types(expected, left[i].type, made, right[i].type, depth);
        !why.empty())
      return in(why);
  }
  return "";
}

struct Comparison {
  std::size_t compared = 0;
  std::vector<std::string> missing;
  std::vector<std::string> different;
};

/// All types of that kind that are unique in `expected`.
inline Comparison compare_all(const Btf& expected, const Btf& made, BtfKind kind) {
  Comparison result;
  for (TypeId id = 1; id < expected.type_count(); ++id) {
    if (expected.kind(id) != kind || expected.name_of(id).empty()) continue;
    const std::string_view name = expected.name_of(id);
    if (expected.find_all(kind, name).size() != 1) continue;
    const auto found = made.find_all(kind, name);
    if (found.size() != 1) {
      result.missing.push_back(fmt::format("{}: {} of them", expected.describe(id), found.size()));
      continue;
    }
    ++result.compared;
    std::string why;
    if (kind == BtfKind::kStruct || kind == BtfKind::kUnion)
      why = compare_members(expected, id, made, found.front(), 0);
    else if (kind == BtfKind::kTypedef)
      why = compare_types(expected, expected.type(id).target, made, made.type(found.front()).target,
                          0);
    else
      why = compare_types(expected, id, made, found.front(), 0);
    if (!why.empty()) result.different.push_back(fmt::format("{}: {}", expected.describe(id), why));
  }
  return result;
}

}  // namespace guestscope
