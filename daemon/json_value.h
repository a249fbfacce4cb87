// JsonValue: values of maps as JSON, by their BTF types or as hex.
//
// Threads: none of its own. Guest text may not be UTF-8; whoever prints the JSON replaces what is
// not (dump_json).
#pragma once

#include <nlohmann/json.hpp>

#include <string>

#include "arch/bytes.h"
#include "introspect/btf.h"

namespace guestscope {

using Json = nlohmann::ordered_json;

/// "0xffff888003a41000".
std::string hex_address(std::uint64_t address);
/// The bytes in memory order: "01000000".
std::string hex_bytes(ByteSpan bytes);

/// The value by its type. Pointers are hex strings, 128-bit numbers decimal strings: JSON numbers
/// are read with 53 or 64 bits.
Result<Json> typed_value(const Btf& btf, TypeId type, ByteSpan bytes);

/// One line, always valid UTF-8; `indent` >= 0 for people.
std::string dump_json(const Json& json, int indent = -1);

}  // namespace guestscope
