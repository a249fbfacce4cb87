#include "introspect/sched_groups.h"

#include <set>

#include "introspect/cpu_masks.h"
#include "introspect/figures.h"

namespace guestscope {

namespace {

enum Field : std::size_t { kNext, kCapacity, kSpan, kFirstFigure };
constexpr FieldNeed kFixed[] = {{"next"}, {"sgc|sgp", kOptional}, {"cpumask", kOptional}};
constexpr Figure kFigures[] = {{"weight", "group_weight"},
                               {"cores", "cores"},
                               {"flags", "flags"},
                               {"asym_prefer_cpu", "asym_prefer_cpu"}};
constexpr auto kFields = figure_needs(kFixed, kFigures);
constexpr StructNeed kGroup = {"sched_group", kFields};
static_assert(std::size(kFixed) == kFirstFigure);

constexpr FieldNeed kCapacityFixed[] = {{"capacity"}};
constexpr Figure kCapacityFigures[] = {{"capacity", "capacity"},
                                       {"min_capacity", "min_capacity"},
                                       {"max_capacity", "max_capacity"},
                                       {"imbalance", "imbalance"}};
constexpr auto kCapacityFields = figure_needs(kCapacityFixed, kCapacityFigures);
constexpr StructNeed kCapacityNeed = {"sched_group_capacity", kCapacityFields};

const StructLayout kNoLayout;
constexpr std::size_t kGroupBytes = 512;  // of an answer, beside its span

}  // namespace

Result<SchedGroups> SchedGroups::over(SchedContext& context) {
  GS_ASSIGN(const StructLayout* group, context.layouts.get(kGroup));
  const auto capacity = context.layouts.get(kCapacityNeed);
  return SchedGroups(context, *group, capacity ? *capacity : nullptr);
}

void SchedGroups::want(GuestVirt group) {
  if (group.is_null() || known_.size() >= kMaxSchedGroups || steps_ >= kMaxGroupSteps) return;
  if (known_.try_emplace(group).second) wanted_.push_back(group);
}

void SchedGroups::add(GuestVirt group) { want(group); }

void SchedGroups::prepare() {
  ++steps_;
  groups_.emplace(*group_);
  capacities_.emplace(capacity_ != nullptr ? *capacity_ : kNoLayout);
  spans_ = {};
  reading_ = std::exchange(wanted_, {});
  reading_capacities_ = std::exchange(unread_capacities_, {});
  const BoundField& span = (*group_)[kSpan];
  for (const GuestVirt group : reading_) {
    groups_->add(group);
    spans_.add(group.wrapping_add(span.present ? span.offset : group_->size()),
               cpu_mask_bytes(*context_));
  }
  for (const GuestVirt capacity : reading_capacities_) capacities_->add(capacity);
}

void SchedGroups::take() {
  for (std::size_t i = 0; i < reading_.size(); ++i) {
    Group& group = known_[reading_[i]];
    const auto view = (*groups_)[i];
    const auto span = spans_[i];
    if (!view || !span) {
      group.error = view ? span.error() : view.error();
      continue;
    }
    group.span = cpu_list(cpus_in_mask(*span));
    if (group.span.size() > span_budget_) {
      group.error = Error{.code = ErrorCode::kUnsupported,
                          .message = "left out: too many groups for one answer",
                          .path = {},
                          .address = reading_[i].value()};
      continue;
    }
    span_budget_ -= group.span.size();
    add_figures(group.facts, *view, kFigures, kFirstFigure);
    group.next = view->pointer(kNext);
    group.capacity = view->pointer(kCapacity);
    want(group.next);
    if (capacity_ != nullptr && !group.capacity.is_null() &&
        known_capacities_.try_emplace(group.capacity).second)
      unread_capacities_.push_back(group.capacity);
  }
  for (std::size_t i = 0; i < reading_capacities_.size(); ++i)
    if (const auto view = (*capacities_)[i])
      add_figures(known_capacities_[reading_capacities_[i]], *view, kCapacityFigures,
                  std::size(kCapacityFixed));
}

Result<FactList> SchedGroups::ring(GuestVirt first, std::size_t& budget) const {
  FactList list;
  std::set<GuestVirt> seen;
  for (GuestVirt at = first; !at.is_null();) {
    const auto found = known_.find(at);
    if (found == known_.end())
      return fail_at(at.value(), ErrorCode::kCorrupt,
                     "its ring leads on to more than {} groups, or in more than {} steps",
                     kMaxSchedGroups, kMaxGroupSteps);
    const Group& group = found->second;
    if (group.error) return std::unexpected(*group.error);
    if (!seen.insert(at).second)
      return fail_at(at.value(), ErrorCode::kCorrupt, "the ring of groups misses its first one");
    const std::size_t bytes = kGroupBytes + group.span.size();
    if (bytes > budget)
      return fail(ErrorCode::kUnsupported, "left out: the answer has {} MB of domains and groups",
                  kMaxTopologyBytes >> 20);
    budget -= bytes;
    Facts facts = {{.name = "span", .value = group.span}};
    facts.insert(facts.end(), group.facts.begin(), group.facts.end());
    if (const auto capacity = known_capacities_.find(group.capacity);
        capacity != known_capacities_.end())
      facts.insert(facts.end(), capacity->second.begin(), capacity->second.end());
    list.emplace_back(std::move(facts));
    at = group.next;
    if (at == first) break;
  }
  return list;
}

}  // namespace guestscope
