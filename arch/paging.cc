#include "arch/paging.h"

#include <algorithm>

namespace guestscope {

namespace {

constexpr std::size_t kEntryBytes = 8;

std::uint64_t span_of(const PagingLevel& level) { return std::uint64_t{1} << level.shift; }

/// Bytes from the address to the end of the range that one entry of this level covers.
std::uint64_t rest_of(GuestVirt address, const PagingLevel& level) {
  return address.bytes_to_boundary(span_of(level));
}

}  // namespace

std::string describe(const Hole& hole) {
  switch (hole.reason) {
    case HoleReason::kNotPresent: return fmt::format("page not present (level {})", hole.level);
    case HoleReason::kNonCanonical: return "not a canonical address";
    case HoleReason::kReservedBits:
      return fmt::format("reserved bits set in the page table (level {})", hole.level);
    case HoleReason::kTableOutsideRam:
      return fmt::format("page table outside RAM (level {})", hole.level);
  }
  return "not mapped";
}

/// One address on its way down the tables.
struct PageWalker::Step {
  GuestVirt address;
  GuestPhys entry{};  // physical address of the entry to look at next
  bool writable = true;
  bool executable = true;
  bool done = false;
  Result<Translation> result = Translation{Hole{}};

  void finish(Result<Translation> value) {
    result = std::move(value);
    done = true;
  }
};

namespace {

GuestPhys entry_in(GuestPhys table, GuestVirt address, const PagingLevel& level) {
  const std::uint64_t index =
      (address.value() >> level.shift) & ((std::uint64_t{1} << level.index_bits) - 1);
  return table.wrapping_add(index * kEntryBytes);
}

}  // namespace

void PageWalker::fetch_lines(std::span<const Step> steps) {
  std::vector<std::uint64_t> wanted;
  for (const Step& step : steps) {
    const std::uint64_t line = step.entry.value() & ~std::uint64_t{kLineBytes - 1};
    if (!step.done && !lines_.contains(line)) wanted.push_back(line);
  }
  std::ranges::sort(wanted);
  wanted.erase(std::ranges::unique(wanted).begin(), wanted.end());

  std::vector<Line> lines(wanted.size());
  std::vector<PhysRead> reads;
  reads.reserve(wanted.size());
  for (std::size_t i = 0; i < wanted.size(); ++i)
    reads.push_back({.address = GuestPhys(wanted[i]), .into = lines[i]});
  if (!reads.empty()) memory_->read(reads);
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (reads[i].error)
      lines_.emplace(wanted[i], std::unexpected(std::move(*reads[i].error)));
    else
      lines_.emplace(wanted[i], lines[i]);
  }
}

void PageWalker::advance(Step& step, std::size_t depth) const {
  const auto levels = regime_->levels();
  const int level_number = static_cast<int>(levels.size() - depth);
  const std::uint64_t rest = rest_of(step.address, levels[depth]);
  const std::uint64_t line_address = step.entry.value() & ~std::uint64_t{kLineBytes - 1};
  const Result<Line>& line = lines_.at(line_address);
  if (!line) {
    if (line.error().code == ErrorCode::kNotRam)
      step.finish(
          Hole{.level = level_number, .reason = HoleReason::kTableOutsideRam, .length = rest});
    else
      step.finish(std::unexpected(line.error()));
    return;
  }
  const std::uint64_t raw =
      load_le(line->data() + (step.entry.value() - line_address), kEntryBytes);
  const TableEntry entry = regime_->decode(depth, raw);
  switch (entry.kind) {
    case TableEntry::Kind::kNotPresent:
      step.finish(Hole{.level = level_number, .reason = HoleReason::kNotPresent, .length = rest});
      return;
    case TableEntry::Kind::kReserved:
      step.finish(Hole{.level = level_number, .reason = HoleReason::kReservedBits, .length = rest});
      return;
    case TableEntry::Kind::kTable:
      step.writable = step.writable && entry.writable;
      step.executable = step.executable && entry.executable;
      step.entry = entry_in(entry.target, step.address, levels[depth + 1]);
      return;
    case TableEntry::Kind::kLeaf:
      const std::uint64_t page_size = span_of(levels[depth]);
      step.finish(Mapping{.phys = entry.target.wrapping_add(page_size - rest),
                          .length = rest,
                          .page_size = page_size,
                          .writable = step.writable && entry.writable,
                          .executable = step.executable && entry.executable});
      return;
  }
}

std::vector<Result<Translation>> PageWalker::translate(std::span<const GuestVirt> addresses) {
  const auto levels = regime_->levels();
  std::vector<Step> steps;
  steps.reserve(addresses.size());
  for (const GuestVirt tagged : addresses) {
    const GuestVirt address = regime_->canonical(tagged);
    Step step{.address = address};
    if (regime_->covers(address))
      step.entry = entry_in(regime_->root(), address, levels[0]);
    else
      step.finish(Hole{.level = 0, .reason = HoleReason::kNonCanonical});
    steps.push_back(std::move(step));
  }
  for (std::size_t depth = 0; depth < levels.size(); ++depth) {
    fetch_lines(steps);
    for (Step& step : steps)
      if (!step.done) advance(step, depth);
  }
  std::vector<Result<Translation>> results;
  results.reserve(steps.size());
  for (Step& step : steps) results.push_back(std::move(step.result));
  return results;
}

}  // namespace guestscope
