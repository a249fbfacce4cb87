// PlainGuest: a booted guest with one map that keeps plain values, read as a whole, in parts or by
// key.
#pragma once

#include <vector>

#include "tests/unit/introspect/kernel/refs_guest.h"

namespace guestscope::test {

using Numbers = std::vector<std::uint64_t>;

struct PlainGuest : RefsGuest {
  static Numbers values(const MapContents& contents, std::size_t size = 8) {
    Numbers list;
    for (std::size_t i = 0; i < contents.size(); ++i)
      list.push_back(contents.value(i) ? load_le(contents.value(i)->data(), size) : 999);
    return list;
  }
};

}  // namespace guestscope::test
