// Values of maps as JSON in bpftool's notation (what stands under "formatted" in its dumps).
//
// It differs from json_value.h: anonymous members are objects of an empty name, bit fields and
// 128-bit numbers hex strings without sign, pointers plain numbers, a data section an array of
// objects with one member each, and text only what ends in a NUL and is printable ASCII. Where
// bpftool prints no valid JSON or breaks off (floats, forward declarations, quotes in a char), the
// value stands as append_value writes it, or null, and the rest follows.
//
// Threads: pure functions. The work is limited as in visit_value. Source of truth: btf_dumper.c and
// json_writer.c of bpftool 7.1, the one in Debian 12.
#pragma once

#include "daemon/json_value.h"

namespace guestscope {

/// Appends one value; `bytes` that end early read as null.
void append_bpftool_value(std::string& text, const Btf& btf, TypeId type, ByteSpan bytes);
/// A string as bpftool escapes it: a backslash becomes \n.
void append_bpftool_string(std::string& text, std::string_view value);
/// ["0x01","0x02"]
void append_bpftool_bytes(std::string& text, ByteSpan bytes);

}  // namespace guestscope
