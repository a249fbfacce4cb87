#include "daemon/replay.h"

#include <algorithm>
#include <utility>

namespace guestscope {

namespace {

constexpr std::size_t kLineBytes = ReplayPlan::kLineBytes;
// A batch of more than that is not remembered.
constexpr std::size_t kMaxNotedBytes = 64 << 10;
// What one snapshot notes, repeats included.
constexpr std::size_t kMaxNotedLines = 16 * ReplayPlan::kMaxLines;

std::uint64_t first_line(const PhysRead& read) { return read.address.value() / kLineBytes; }

std::uint64_t last_line(const PhysRead& read) {
  return (read.address.value() + (read.into.size() - 1)) / kLineBytes;
}

void sort_out_repeats(std::vector<std::uint64_t>& lines) {
  std::ranges::sort(lines);
  lines.erase(std::ranges::unique(lines).begin(), lines.end());
}

}  // namespace

std::vector<std::uint64_t> ReplayPlan::lines() const {
  std::vector<std::uint64_t> lines;
  lines.reserve(ages_.size());
  for (const auto& [line, age] : ages_) lines.push_back(line);
  return lines;
}

void ReplayPlan::used(std::vector<std::uint64_t> lines) {
  for (auto& [line, age] : ages_) ++age;
  std::erase_if(ages_, [](const auto& entry) { return entry.second > kForgetAfter; });
  sort_out_repeats(lines);
  for (const std::uint64_t line : lines) {
    const auto known = ages_.find(line);
    if (known != ages_.end())
      known->second = 0;
    else if (ages_.size() < kMaxLines)
      ages_.emplace(line, 0);
  }
}

void ReplayMemory::prefetch() {
  std::vector<PhysRead> reads;
  std::vector<std::size_t> begins;
  for (std::size_t begin = 0, end = 0; begin < lines_.size(); begin = end) {
    while (end < lines_.size() && lines_[end] - lines_[begin] == end - begin) ++end;
    begins.push_back(begin);
    reads.push_back(
        {.address = GuestPhys(lines_[begin] * kLineBytes),
         .into = std::span(bytes_).subspan(begin * kLineBytes, (end - begin) * kLineBytes)});
  }
  if (reads.empty()) return;
  below_.read(reads);
  if (lines_.empty()) return;  // the guest has run meanwhile: see forget()
  if (std::ranges::none_of(reads, [](const PhysRead& read) { return read.error.has_value(); }))
    return;
  // Some of it is no longer there. Whoever asks for it again shall have the reason.
  std::vector<std::uint64_t> good;
  std::size_t moved = 0;
  for (std::size_t i = 0; i < reads.size(); ++i) {
    if (reads[i].error) continue;
    const std::size_t count = reads[i].into.size() / kLineBytes;
    good.insert(good.end(), lines_.begin() + static_cast<std::ptrdiff_t>(begins[i]),
                lines_.begin() + static_cast<std::ptrdiff_t>(begins[i] + count));
    std::ranges::copy(reads[i].into, bytes_.begin() + static_cast<std::ptrdiff_t>(moved));
    moved += reads[i].into.size();
  }
  lines_ = std::move(good);
}

bool ReplayMemory::answer(PhysRead& request) const {
  const std::uint64_t first = first_line(request);
  const std::uint64_t last = last_line(request);
  const auto found = std::ranges::lower_bound(lines_, first);
  const auto place = static_cast<std::size_t>(found - lines_.begin());
  if (last < first || last - first >= lines_.size() - place || *found != first ||
      lines_[place + (last - first)] != last)
    return false;
  const std::size_t offset = place * kLineBytes + request.address.value() % kLineBytes;
  std::ranges::copy(ByteSpan(bytes_).subspan(offset, request.into.size()), request.into.begin());
  request.error.reset();
  return true;
}

void ReplayMemory::note(std::span<const PhysRead> reads) {
  std::size_t bytes = 0;
  for (const PhysRead& read : reads) bytes += read.into.size();
  if (bytes > kMaxNotedBytes || used_.size() > kMaxNotedLines) return;
  for (const PhysRead& read : reads) {
    if (read.into.empty() || read.error) continue;
    for (std::uint64_t line = first_line(read); line <= last_line(read); ++line)
      used_.push_back(line);
  }
}

void ReplayMemory::read(std::span<PhysRead> reads) {
  std::vector<PhysRead> missing;
  std::vector<PhysRead*> owners;
  for (PhysRead& request : reads) {
    if (!request.into.empty() && answer(request)) continue;
    missing.push_back({.address = request.address, .into = request.into});
    owners.push_back(&request);
  }
  if (!missing.empty()) below_.read(missing);
  for (std::size_t i = 0; i < missing.size(); ++i) owners[i]->error = std::move(missing[i].error);
  note(reads);
}

ReplayPlan& ReplayPlans::of(const std::string& kind) {
  const std::string name = kind.substr(0, kind.find('?'));
  if (!plans_.contains(name) && plans_.size() >= kMaxPlans)
    plans_.erase(std::ranges::min_element(
        plans_, {}, [](const auto& entry) { return entry.second.last_used; }));
  Entry& entry = plans_[name];
  entry.last_used = ++uses_;
  return entry.plan;
}

}  // namespace guestscope
