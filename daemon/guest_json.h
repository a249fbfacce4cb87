// What the decoders found, as the objects of the interface (docs/interface.md).
//
// Threads: pure functions.
#pragma once

#include "daemon/guest_session.h"
#include "daemon/json_value.h"
#include "daemon/snapshot.h"

namespace guestscope {

Json snapshot_json(const SnapshotMeta& meta);
/// Adds "problems" to an answer when there are any.
void add_problems(Json& answer, const Problems& problems);
Json problems_json(const Problems& problems);

Json status_json(const GuestConfig& config, const GuestStatus& status);
Json accessor_json(const AccessorStatus& status);
Json map_json(const MapInfo& map);

}  // namespace guestscope
