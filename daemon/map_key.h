// Keys of maps from text.
#pragma once

#include <string_view>

#include "introspect/map_contents.h"

namespace guestscope {

/// kInvalidArgument when the text is no key of this map.
Result<Bytes> make_key(const MapContents& shape, std::string_view text);
/// The bytes in memory order, as hexadecimal digits.
Result<Bytes> parse_hex_key(const MapContents& shape, std::string_view text);

}  // namespace guestscope
