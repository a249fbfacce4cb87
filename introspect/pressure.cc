#include "introspect/pressure.h"

namespace guestscope {

namespace {

enum Field : std::size_t { kAverages, kTotals, kUpdated };
constexpr FieldNeed kFields[] = {{"avg"}, {"total"}, {"avg_last_update", kOptional}};

// The index of avg and total: "cpu_some", "mem_full", …
constexpr EnumNeed kStates = {"PSI_IO_SOME", "PSI_"};

struct Resource {
  const char* name;
  const char* some;
  const char* full;
};
// CPU pressure of the whole system has no "full": when no task runs, none waits for a CPU.
constexpr Resource kResources[] = {{"cpu", "cpu_some", nullptr},
                                   {"memory", "mem_some", "mem_full"},
                                   {"io", "io_some", "io_full"},
                                   {"irq", nullptr, "irq_full"}};

// include/linux/sched/loadavg.h
constexpr unsigned kFixedShift = 11;

Facts line(const StructView& group, std::uint64_t state) {
  const ByteSpan averages = group.bytes(kAverages);
  const ByteSpan totals = group.bytes(kTotals);
  if (state >= averages.size() / 24 || state >= totals.size() / 8) return {};
  Facts facts;
  const char* const names[] = {"avg10", "avg60", "avg300"};
  for (std::size_t i = 0; i < 3; ++i)
    facts.push_back({.name = names[i],
                     .value = fixed_point(load_le(averages.data() + (state * 3 + i) * 8, 8))});
  // The first row of totals, PSI_AVGS, is the one of the files.
  facts.push_back(
      {.name = "total_us", .value = load_le(totals.data() + state * 8, 8) / std::uint64_t{1000}});
  return facts;
}

}  // namespace

const StructNeed kPressureNeed = {"psi_group", kFields};

double fixed_point(std::uint64_t value) {
  const std::uint64_t fraction = value & ((1U << kFixedShift) - 1);
  return static_cast<double>((value >> kFixedShift) * 100 + (fraction * 100 >> kFixedShift)) / 100;
}

Facts pressure_facts(Layouts& layouts, const StructView& group) {
  Facts facts = {{.name = "enabled", .value = true}};
  if (group.has(kUpdated)) facts.push_back({.name = "updated_at_ns", .value = group.u64(kUpdated)});
  const EnumNames* states = layouts.names(kStates);
  if (states == nullptr) return facts;
  for (const Resource& resource : kResources) {
    Facts both;
    for (const char* name : {resource.some, resource.full}) {
      const auto state = name != nullptr ? states->value(name) : std::nullopt;
      Facts values = state ? line(group, *state) : Facts{};
      if (!values.empty())
        both.push_back(
            {.name = name == resource.some ? "some" : "full", .value = std::move(values)});
    }
    if (!both.empty()) facts.push_back({.name = resource.name, .value = std::move(both)});
  }
  return facts;
}

}  // namespace guestscope
