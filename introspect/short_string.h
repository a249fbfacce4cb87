// short_string_at: a name in a string table.
#pragma once

#include <algorithm>
#include <string_view>

#include "arch/bytes.h"
#include "introspect/limits.h"

namespace guestscope {

/// The string at `offset`; empty when it lies outside, is not terminated, or is longer than
/// kMaxNameBytes.
inline std::string_view short_string_at(ByteSpan table, std::size_t offset) {
  if (offset >= table.size()) return {};
  const ByteSpan rest = table.subspan(offset);
  const ByteSpan window = rest.first(std::min(rest.size(), kMaxNameBytes + 1));
  const std::string_view text = text_in(window);
  return text.size() == window.size() ? std::string_view{} : text;
}

}  // namespace guestscope
