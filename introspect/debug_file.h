// Separate debug files: where a stripped kernel file's symbols and types are kept.
//
// Looked for where gdb looks ("Debugging Information in Separate Files" in its manual), and without
// asking servers: by build id, then by the name in .gnu_debuglink. A file counts only when it is
// the right one: of the same build id where both have one, and with the checksum that
// .gnu_debuglink names.
//
// Threads: any. Blocks on disk I/O: reads a candidate by name whole, for its checksum.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "arch/result.h"

namespace guestscope {

/// Debug folders when nobody says otherwise.
std::vector<std::string> default_debug_folders();

/// The file's debug file; nothing when there is none. `build_id`: the kernel file's, in lower-case
/// hex, or empty. Fails as ElfSections::open does; a candidate that cannot be read does not count.
Result<std::optional<std::string>> find_debug_file(
    const std::string& path, std::string_view build_id,
    const std::vector<std::string>& folders = default_debug_folders());

}  // namespace guestscope
