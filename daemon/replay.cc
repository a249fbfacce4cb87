#include "daemon/replay.h"

#include <algorithm>
#include <utility>

namespace guestscope {

namespace {

constexpr std::size_t kLineBytes = ReplayPlan::kLineBytes;
// A batch of more than that is not remembered.
constexpr std::size_t kMaxNotedBytes = 256 << 10;
// What one snapshot notes, repeats included.
constexpr std::size_t kMaxNotedLines = 8 * ReplayPlan::kMaxLines;

std::uint64_t first_line(const PhysRead& read) { return read.address.value() / kLineBytes; }

std::uint64_t last_line(const PhysRead& read) {
  return (read.address.value() + (read.into.size() - 1)) / kLineBytes;
}

void sort_out_repeats(std::vector<std::uint64_t>& lines) {
  std::ranges::sort(lines);
  lines.erase(std::ranges::unique(lines).begin(), lines.end());
}

}  // namespace

ReplayPlan ReplayPlan::beginning_with(const ReplayPlan& other) {
  ReplayPlan plan;
  plan.lines_ = other.lines_;
  return plan;
}

std::vector<std::uint64_t> ReplayPlan::lines() const {
  std::vector<std::uint64_t> lines;
  lines.reserve(lines_.size());
  for (const Line& line : lines_) lines.push_back(line.number);
  return lines;
}

void ReplayPlan::used(Use use) {
  sort_out_repeats(use.lines);
  std::vector<Line> merged;
  merged.reserve(lines_.size() + use.lines.size());
  auto old = lines_.begin();
  const auto keep_old_below = [&](std::uint64_t end) {
    for (; old != lines_.end() && old->number < end; ++old)
      if (old->age < kForgetAfter)
        merged.push_back({.number = old->number, .age = static_cast<std::uint8_t>(old->age + 1)});
  };
  for (const std::uint64_t line : use.lines) {
    keep_old_below(line);
    if (old != lines_.end() && old->number == line) ++old;
    merged.push_back({.number = line, .age = 0});
  }
  keep_old_below(~std::uint64_t{0});
  complete_ = use.all_noted && use.lines.size() <= kMaxLines;
  // What was used longest ago has to go first.
  for (std::uint8_t age = kForgetAfter; merged.size() > kMaxLines && age > 0; --age)
    std::erase_if(merged, [&](const Line& line) { return line.age == age; });
  if (merged.size() > kMaxLines) merged.resize(kMaxLines);
  lines_ = std::move(merged);
  const bool first = !std::exchange(used_before_, true);  // and all of it is new
  if (!use.missed || first)
    credit_ = std::min(credit_ + 1, kMaxCredit);
  else
    credit_ = std::max(credit_ - 1, 0);
}

std::vector<PhysRead> ReplayMemory::wanted() {
  std::vector<PhysRead> reads;
  for (std::size_t begin = 0, end = 0; begin < lines_.size(); begin = end) {
    while (end < lines_.size() && lines_[end] - lines_[begin] == end - begin) ++end;
    reads.push_back(
        {.address = GuestPhys(lines_[begin] * kLineBytes),
         .into = std::span(bytes_).subspan(begin * kLineBytes, (end - begin) * kLineBytes)});
  }
  return reads;
}

void ReplayMemory::taken(std::span<const PhysRead> reads) {
  if (lines_.empty()) return;  // the guest has run meanwhile: see forget()
  if (std::ranges::none_of(reads, [](const PhysRead& read) { return read.error.has_value(); }))
    return;
  // Some of it is no longer there. Whoever asks for it again shall have the reason.
  std::vector<std::uint64_t> good;
  std::size_t moved = 0;
  for (std::size_t i = 0, begin = 0; i < reads.size(); ++i) {
    const std::size_t count = reads[i].into.size() / kLineBytes;
    const auto lines = std::span(lines_).subspan(begin, count);
    begin += count;
    if (reads[i].error) continue;
    good.insert(good.end(), lines.begin(), lines.end());
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
  if (bytes > kMaxNotedBytes || use_.lines.size() > kMaxNotedLines) {
    use_.all_noted = false;
    return;
  }
  for (const PhysRead& read : reads) {
    if (read.into.empty() || read.error) continue;
    for (std::uint64_t line = first_line(read); line <= last_line(read); ++line)
      use_.lines.push_back(line);
  }
}

void ReplayMemory::read_while(std::span<PhysRead> reads, const std::function<void()>& work) {
  std::vector<PhysRead> missing;
  std::vector<PhysRead*> owners;
  for (PhysRead& request : reads) {
    if (!request.into.empty() && answer(request)) continue;
    missing.push_back({.address = request.address, .into = request.into});
    owners.push_back(&request);
  }
  use_.missed = use_.missed || !missing.empty();
  if (missing.empty() || !asks_)
    work();
  else
    below_.read_while(missing, work);
  if (!asks_)
    for (PhysRead& read : missing)
      read.error = Error{.code = ErrorCode::kNotReady, .message = "not foreseen"};
  for (std::size_t i = 0; i < missing.size(); ++i) owners[i]->error = std::move(missing[i].error);
  note(reads);
}

ReplayPlan& ReplayPlans::of(const std::string& kind) {
  const std::string name = kind.substr(0, kind.find('?'));
  if (!plans_.contains(name) && plans_.size() >= kMaxPlans)
    plans_.erase(std::ranges::min_element(
        plans_, {}, [](const auto& entry) { return entry.second.last_used; }));
  const auto [found, is_new] = plans_.try_emplace(name);
  Entry& entry = found->second;
  const auto base = plans_.find(std::string(kBase));
  if (is_new && base != plans_.end() && base != found)
    entry.plan = ReplayPlan::beginning_with(base->second.plan);
  entry.last_used = ++uses_;
  return entry.plan;
}

}  // namespace guestscope
