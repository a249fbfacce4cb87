#include "daemon/host_ram.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <system_error>
#include <utility>

#include "gdbproto/mtree.h"

namespace guestscope {
namespace {

// Each costs two monitor commands, some 100 µs. A machine has ten, and one for each DIMM, of which
// QEMU takes 256.
constexpr std::size_t kMaxRanges = 512;
constexpr std::size_t kMaxAreas = std::size_t{1} << 20;

// Takes a number off the front of `text`, and the character `after` behind it.
std::optional<std::uint64_t> take(std::string_view& text, int base, char after) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc{}) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  if (text.empty() || text.front() != after) return std::nullopt;
  text.remove_prefix(1);
  return value;
}

// "7f6e27ffe000-7f6e67ffe000 rw-s 00000000 fe:00 11026772 /path"
std::optional<HostArea> parse_area(std::string_view line) {
  const auto begin = take(line, 16, '-');
  const auto end = begin ? take(line, 16, ' ') : std::nullopt;
  if (!end || *end < *begin || line.size() < 5) return std::nullopt;
  const bool readable = line.front() == 'r';
  line.remove_prefix(5);
  const auto offset = take(line, 16, ' ');
  const auto major = offset ? take(line, 16, ':') : std::nullopt;
  const auto minor = major ? take(line, 16, ' ') : std::nullopt;
  const auto inode = minor ? take(line, 10, ' ') : std::nullopt;
  if (!inode) return std::nullopt;
  HostArea area{.begin = *begin, .end = *end, .readable = readable};
  if (*inode != 0)
    area.backing = {.device = *major << 32 | *minor, .inode = *inode, .base = *begin - *offset};
  return area;
}

// "Host virtual address for 0x0 (pc.ram) is 0x7f6e67fff000". The name may hold anything.
std::optional<std::uint64_t> host_address_in(std::string_view answer) {
  constexpr std::string_view kBefore = ") is 0x";
  if (!answer.starts_with("Host virtual address for ")) return std::nullopt;
  const std::size_t at = answer.rfind(kBefore);
  if (at == answer.npos) return std::nullopt;
  answer.remove_prefix(at + kBefore.size());
  std::uint64_t value = 0;
  if (std::from_chars(answer.data(), answer.data() + answer.size(), value, 16).ec != std::errc{})
    return std::nullopt;
  return value;
}

Result<std::uint64_t> translate(const Monitor& monitor, std::uint64_t guest) {
  GS_ASSIGN(const std::string answer, monitor(fmt::format("gpa2hva {:#x}", guest)));
  if (const auto host = host_address_in(answer)) return *host;
  return fail_at(guest, ErrorCode::kUnsupported, "gpa2hva says '{}'",
                 std::string_view(answer).substr(0, std::min<std::size_t>(answer.find('\n'), 100)));
}

// The first and the last byte must be as far apart in the host as in the guest.
Result<HostRange> locate(const Monitor& monitor, const RamBlock& block) {
  const std::uint64_t guest = block.begin.value();
  GS_ASSIGN(const std::uint64_t first, translate(monitor, guest));
  GS_ASSIGN(const std::uint64_t last, translate(monitor, guest + block.size - 1));
  if (last < first || last - first != block.size - 1 ||
      last == std::numeric_limits<std::uint64_t>::max())
    return fail_at(guest, ErrorCode::kCorrupt, "gpa2hva: first byte at {:#x}, last at {:#x}", first,
                   last);
  return HostRange{.guest = guest, .size = block.size, .host = first};
}

bool lost_connection(const Error& error) {
  return error.code == ErrorCode::kUnreachable || error.code == ErrorCode::kTimeout ||
         error.code == ErrorCode::kProtocol;
}

// Collects what is found and what is not.
class Finder {
 public:
  Finder(const QemuProcess& process, std::vector<HostArea> areas)
      : process_(process), areas_(std::move(areas)) {}

  void leave_out(const RamBlock& block, std::string why) {
    left_out_.push_back(block);
    if (why_.empty())
      why_ = fmt::format("RAM at {:#x}, {} bytes: {}", block.begin.value(), block.size, why);
  }

  void add(const HostRange& range) {
    std::uint64_t done = range.guest;
    const auto gap = [&](std::uint64_t until) {
      if (until > done)
        leave_out({GuestPhys(done), until - done},
                  fmt::format("{} has nothing readable at {:#x}", process_.to_string(),
                              range.host + (done - range.guest)));
    };
    for (const HostRange& part : mapped_parts(range, areas_)) {
      gap(part.guest);
      done = part.guest + part.size;
      ranges_.push_back(part);
    }
    gap(range.guest + range.size);
  }

  Result<HostRam> finish() {
    if (ranges_.empty())
      return fail(ErrorCode::kMismatch,
                  "{} does not have the guest's memory ({}): is it a proxy before the stub?",
                  process_.to_string(), why_);
    std::ranges::sort(ranges_, {}, &HostRange::guest);
    // What the monitor says twice is not to be trusted at all.
    for (std::size_t i = 1; i < ranges_.size(); ++i)
      if (ranges_[i].guest - ranges_[i - 1].guest < ranges_[i - 1].size)
        return fail_at(ranges_[i].guest, ErrorCode::kCorrupt, "two ranges of RAM overlap");
    return HostRam{.ranges = std::move(ranges_),
                   .left_out = RamMap(std::move(left_out_)),
                   .why_left_out = std::move(why_)};
  }

 private:
  const QemuProcess& process_;
  std::vector<HostArea> areas_;
  std::vector<HostRange> ranges_;
  std::vector<RamBlock> left_out_;
  std::string why_;
};

}  // namespace

std::vector<HostArea> parse_maps(std::string_view text) {
  std::vector<HostArea> areas;
  while (!text.empty() && areas.size() < kMaxAreas) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    if (const auto area = parse_area(text.substr(0, end))) areas.push_back(*area);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return areas;
}

std::vector<HostRange> mapped_parts(const HostRange& range, const std::vector<HostArea>& areas) {
  std::vector<HostRange> parts;
  const std::uint64_t range_end = range.host + range.size;
  for (auto area = std::ranges::upper_bound(areas, range.host, {}, &HostArea::end);
       area != areas.end() && area->begin < range_end; ++area) {
    if (!area->readable) continue;
    const std::uint64_t begin = std::max(area->begin, range.host);
    const std::uint64_t size = std::min(area->end, range_end) - begin;
    // An area that QEMU's advice about a part (madvise) has split is still one.
    if (!parts.empty() && parts.back().host + parts.back().size == begin &&
        parts.back().backing == area->backing)
      parts.back().size += size;
    else
      parts.push_back({.guest = range.guest + (begin - range.host),
                       .size = size,
                       .host = begin,
                       .backing = area->backing});
  }
  return parts;
}

Result<HostRam> find_host_ram(const QemuProcess& process, const Monitor& monitor) {
  GS_ASSIGN(const std::string tree, monitor("info mtree -f"));
  GS_ASSIGN(std::vector<gdb::RamRange> ranges, gdb::parse_mtree_ranges(tree));
  GS_ASSIGN(const std::string maps, process.read_file("maps"));
  Finder finder(process, parse_maps(maps));
  std::erase_if(
      ranges, [](const gdb::RamRange& range) { return !range.writable || range.block.size == 0; });
  // The largest first: should there be too many, they matter most.
  std::ranges::sort(ranges, std::ranges::greater{},
                    [](const gdb::RamRange& range) { return range.block.size; });
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    const RamBlock& block = ranges[i].block;
    if (i >= kMaxRanges) {
      finder.leave_out(block, fmt::format("one of more than {} ranges", kMaxRanges));
      continue;
    }
    const auto found = locate(monitor, block);
    if (found)
      finder.add(*found);
    else if (lost_connection(found.error()))
      return std::unexpected(found.error());
    else
      finder.leave_out(block, found.error().to_string());
  }
  return finder.finish();
}

}  // namespace guestscope
