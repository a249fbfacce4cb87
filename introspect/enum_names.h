// EnumNames: the kernel's own enumerators as names for users: BPF_MAP_TYPE_LRU_HASH is "lru_hash".
//
// Owns its names; refers to no Btf. Threads: immutable. Does not block.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "arch/result.h"
#include "introspect/btf.h"

namespace guestscope {

/// The enumerator of `type` (an ENUM or ENUM64, behind modifiers or not) that has that value,
/// sign-extended when the enum is signed; empty when none has.
std::string enumerator_name(const Btf& btf, TypeId type, std::uint64_t value);

class EnumNames {
 public:
  EnumNames() = default;
  /// Of `enum enum_name`: the enumerators that begin with `prefix`, without it and in lower case.
  /// Of two with one value, the one without _DEPRECATED; what is no name (leading underscore, MAX)
  /// is left out. kUnsupported when the kernel has no such enum.
  static Result<EnumNames> of(const Btf& btf, std::string_view enum_name, std::string_view prefix);
  /// The same for the first enum, anonymous or not, that has this enumerator: map flags are in the
  /// anonymous one with BPF_F_NO_PREALLOC. Looks at every type (about 1 ms).
  static Result<EnumNames> containing(const Btf& btf, std::string_view enumerator,
                                      std::string_view prefix);

  std::optional<std::string_view> name(std::uint64_t value) const;
  /// The name, or "type_40" for an unknown 40 and the `kind` "type".
  std::string name_or_number(std::uint64_t value, std::string_view kind) const;
  std::optional<std::uint64_t> value(std::string_view name) const;
  /// One name for each bit that is set, lowest first; "bit_31" for one without a name.
  std::vector<std::string> flags(std::uint64_t bits) const;

  const std::map<std::uint64_t, std::string>& all() const { return names_; }

 private:
  static EnumNames from(const Btf& btf, TypeId type, std::string_view prefix);

  std::map<std::uint64_t, std::string> names_;
};

}  // namespace guestscope
