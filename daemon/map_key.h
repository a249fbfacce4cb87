// Keys of map entries from the text of a request, for read_map_entry() (introspect/map_contents.h).
//
// Threads: pure functions. Fail with kInvalidArgument, saying what was given and what is expected.
// docs/interface.md has the rules for users.
#pragma once

#include "introspect/map_contents.h"

namespace guestscope {

/// `?key=`. Indexes are numbers. Other keys are what their BTF type says: JSON (an object, an
/// array, a string) as append_value writes it; a bare number or the name of an enumerator for
/// numbers; bare text for arrays of char. Keys without a type that fits, and structures, may be all
/// their bytes as hex, as guestscope prints them; without a type a shorter number is little-endian.
Result<Bytes> make_key(const MapContents& shape, std::string_view text);

/// `?key_hex=`: all bytes in memory order, whatever the type; "0x" in front is allowed.
Result<Bytes> parse_hex_key(const MapContents& shape, std::string_view text);

}  // namespace guestscope
