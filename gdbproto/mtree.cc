#include "gdbproto/mtree.h"

#include <optional>
#include <utility>
#include <vector>

#include "gdbproto/hex.h"
#include "gdbproto/limits.h"

namespace guestscope::gdb {
namespace {

std::string_view trim(std::string_view line) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t first = line.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return line.substr(first, line.find_last_not_of(kSpace) - first + 1);
}

std::string_view take_line(std::string_view& text) {
  const std::size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return trim(line);
}

bool is_ram(std::string_view type) { return type == "ram" || type == "nv-ram"; }
bool is_rom(std::string_view type) { return type == "rom" || type == "nv-rom"; }

// "(prio 0, ram): pc.ram @…" -> "ram". Names may hold anything, also parentheses, but come later.
std::string_view type_in(std::string_view rest) {
  const std::size_t open = rest.find("(prio ");
  const std::size_t close = rest.find("):", open == std::string_view::npos ? 0 : open);
  if (open == std::string_view::npos || close == std::string_view::npos) return {};
  const std::string_view inside = rest.substr(open, close - open);
  const std::size_t comma = inside.find(',');
  return comma == std::string_view::npos ? std::string_view{} : trim(inside.substr(comma + 1));
}

// "0000000000100000-000000001fffffff (prio 0, ram): pc.ram @…"; empty for every other line.
std::optional<RamRange> ram_in(std::string_view line) {
  const std::size_t dash = line.find('-');
  const std::size_t space = line.find(' ');
  if (dash == std::string_view::npos || space == std::string_view::npos || dash > space)
    return std::nullopt;
  const auto first = parse_hex(line.substr(0, dash));
  const auto last = parse_hex(line.substr(dash + 1, space - dash - 1));
  const std::string_view type = type_in(line.substr(space));
  if (!first || !last || *last < *first || (!is_ram(type) && !is_rom(type))) return std::nullopt;
  // The whole 64-bit space would overflow the size by one; RamMap cuts at the same place.
  const std::uint64_t span = *last - *first;
  return RamRange{.block = {GuestPhys(*first), span + (span != ~std::uint64_t{0} ? 1 : 0)},
                  .writable = is_ram(type)};
}

}  // namespace

Result<std::vector<RamRange>> parse_mtree_ranges(std::string_view text) {
  std::vector<RamRange> ranges;
  bool wanted = false;
  bool found = false;
  while (!text.empty()) {
    const std::string_view line = take_line(text);
    if (line.starts_with("FlatView")) wanted = false;
    if (line.starts_with("AS \"memory\"")) wanted = found = true;
    if (!wanted) continue;
    const auto range = ram_in(line);
    if (!range) continue;
    if (ranges.size() == kMaxRamBlocks)
      return fail(ErrorCode::kProtocol, "the stub names more than {} RAM ranges", kMaxRamBlocks);
    ranges.push_back(*range);
  }
  if (!found)
    return fail(ErrorCode::kUnsupported,
                "'info mtree -f' has no address space \"memory\": no RAM map");
  if (ranges.empty())
    return fail(ErrorCode::kUnsupported,
                "'info mtree -f' names no RAM in address space \"memory\"");
  return ranges;
}

Result<RamMap> parse_mtree(std::string_view text) {
  GS_ASSIGN(const std::vector<RamRange> ranges, parse_mtree_ranges(text));
  std::vector<RamBlock> blocks;
  blocks.reserve(ranges.size());
  for (const RamRange& range : ranges) blocks.push_back(range.block);
  return RamMap(std::move(blocks));
}

}  // namespace guestscope::gdb
