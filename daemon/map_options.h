// MapOptions: the parameters of /maps and /maps/REF, checked; and cursors as text.
//
// Threads: pure functions.
#pragma once

#include <optional>
#include <string>

#include "daemon/contents_json.h"
#include "daemon/request.h"

namespace guestscope {

struct MapOptions {
  bool pretty = false;
  bool contents = false;
  bool bpftool = false;  ///< as bpftool prints it
  EntryOptions entries{};
  std::optional<std::string> name{};  ///< of the list
  std::optional<std::string> type{};
  std::optional<std::uint64_t> limit{};
  std::optional<std::string> cursor{};
  std::optional<std::string> key{};
  bool key_is_hex = false;  ///< the bytes in memory order (?key_hex)
};

/// kInvalidArgument naming the parameter.
Result<MapOptions> parse_map_options(const Request& request);

/// Where a map's entries go on, as a text that says nothing to anybody else.
std::string cursor_text(std::uint64_t map_id, const MapCursor& cursor);
/// kInvalidArgument when the text is no cursor, or one of another map.
Result<MapCursor> parse_cursor(std::string_view text, std::uint64_t map_id);

}  // namespace guestscope
