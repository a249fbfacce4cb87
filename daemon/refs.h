// What a REF of a path means among the programs, maps or BTF objects that were read.
//
// Threads: pure functions. A REF that means nothing or several is an answer, made by not_one().
// Source of truth: docs/interface.md.
#pragma once

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/api.h"

namespace guestscope {

/// Keeps what `ref` means: the one of that id, else those for which has_name(thing, ref) holds. A
/// thing may have a number for its name, but an id wins.
template <typename Thing, typename HasName>
void keep_ref(std::vector<Thing>& things, const std::string& ref, HasName has_name) {
  const auto id = parse_number(ref);
  const bool by_id = id && std::ranges::find(things, *id, &Thing::id) != things.end();
  std::erase_if(
      things, [&](const Thing& thing) { return by_id ? thing.id != *id : !has_name(thing, ref); });
}

/// Why `things`, which are what `ref` means, are not exactly one; empty when they are. `kind` is
/// one such thing's name; `info` gives what has its id.
template <typename Thing, typename Info = std::identity>
std::optional<Answer> not_one(const std::vector<Thing>& things, std::string_view kind,
                              const std::string& ref, const Problems& problems, Info info = {}) {
  if (things.size() == 1) return std::nullopt;
  if (things.empty()) return none_answer(kind, ref, problems);
  std::vector<std::uint64_t> ids;
  for (const Thing& thing : things) ids.push_back(std::invoke(info, thing).id);
  return ambiguous_answer(fmt::format("{}s", kind), ref, ids);
}

}  // namespace guestscope
