// Facts as JSON: guest addresses become hex strings.
//
// Threads: pure functions. Guest text may not be UTF-8; whoever prints the JSON replaces what is
// not (dump_json).
#pragma once

#include "daemon/json_value.h"
#include "introspect/facts.h"

namespace guestscope {

Json fact_json(const FactValue& value);
/// An object of its own.
Json facts_json(const Facts& facts);
/// Appends `"name":value` for each to an object that has been begun, with commas as needed.
void append_facts(std::string& text, const Facts& facts);

}  // namespace guestscope
