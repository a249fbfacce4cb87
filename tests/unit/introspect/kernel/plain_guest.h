// PlainGuest: a booted guest with one map that keeps plain values, read as a whole, in parts or by
// key.
#pragma once

#include <vector>

#include "tests/unit/introspect/kernel/refs_guest.h"

namespace guestscope::test {

using Numbers = std::vector<std::uint64_t>;

struct PlainGuest : RefsGuest {
  Result<MapContents> try_read(std::uint64_t map, MapPart part = {}) {
    guest.put_idr("map_idr", {{1, map}});
    const auto maps = kernel.maps(guest.memory);
    REQUIRE(maps.has_value());
    exchanges = guest.memory.exchanges;
    auto contents = kernel.map_contents(guest.memory, maps->maps.at(0), part, budget);
    exchanges = guest.memory.exchanges - exchanges;
    return contents;
  }
  MapContents read(std::uint64_t map, MapPart part = {}) {
    auto contents = try_read(map, part);
    if (!contents) FAIL(contents.error().to_string());
    return *std::move(contents);
  }
  MapContents find(std::uint64_t map, const Bytes& key) {
    guest.put_idr("map_idr", {{1, map}});
    const auto maps = kernel.maps(guest.memory);
    REQUIRE(maps.has_value());
    auto contents = kernel.map_entry(guest.memory, maps->maps.at(0),
                                     [&](const MapContents&) -> Result<Bytes> { return key; });
    if (!contents) FAIL(contents.error().to_string());
    return *std::move(contents);
  }
  static Numbers values(const MapContents& contents, std::size_t size = 8) {
    Numbers list;
    for (std::size_t i = 0; i < contents.size(); ++i)
      list.push_back(contents.value(i) ? load_le(contents.value(i)->data(), size) : 999);
    return list;
  }

  std::size_t exchanges = 0;
  std::size_t budget = kMaxContentBytes;
};

}  // namespace guestscope::test
