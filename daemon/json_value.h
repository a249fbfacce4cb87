// JsonValue: values of maps as JSON, by their BTF types or as hex.
//
// Threads: none of its own. Guest text may not be UTF-8; whoever prints the JSON replaces what is
// not (dump_json).
#pragma once

#include <nlohmann/json.hpp>

#include <functional>
#include <optional>
#include <string>

#include "arch/bytes.h"
#include "introspect/address_names.h"
#include "introspect/value_plan.h"

namespace guestscope {

using Json = nlohmann::ordered_json;

/// "0xffff888003a41000".
std::string hex_address(std::uint64_t address);
/// The bytes in memory order: "01000000".
std::string hex_bytes(ByteSpan bytes);
/// The reverse, with or without "0x" in front; nothing when it is not hex of whole bytes.
std::optional<Bytes> parse_hex_bytes(std::string_view text);

/// Told of parts of a value that make no sense; they stand as null in the text.
using OnDamage = std::function<void(const Error&)>;

/// Appends the value by its type as JSON text, always valid UTF-8. Pointers are hex strings, those
/// to functions that are among `functions` their names; 128-bit numbers are decimal strings: JSON
/// numbers are read with 53 or 64 bits. On error nothing is appended.
Result<void> append_value(std::string& text, ValuePlan& plan, TypeId type, ByteSpan bytes,
                          const OnDamage& on_damage = {}, const FunctionNames& functions = {});
/// For one value.
Result<void> append_value(std::string& text, const Btf& btf, TypeId type, ByteSpan bytes,
                          const OnDamage& on_damage = {});
/// Appends a JSON string; what is not UTF-8 in it is replaced.
void append_string(std::string& text, std::string_view value);

/// One line, always valid UTF-8; `indent` >= 0 for people.
std::string dump_json(const Json& json, int indent = -1);

}  // namespace guestscope
