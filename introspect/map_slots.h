// Maps that are tables of pointers (prog arrays, device maps, arrays of sockets): the slots that
// are in use, as the records of a MapContents whose keys are the slots' numbers. And what such maps
// share with others whose entries are described by facts. Internal to introspect/.
//
// A table is read page by page, so that a missing page costs what lies in it, in steps that grow
// from one page to kContentStepBytes: looking up one slot does not read a whole table.
#pragma once

#include "introspect/contents_builder.h"

namespace guestscope {

struct Slot {
  std::uint32_t index = 0;
  GuestVirt pointer;
};

/// Prepares the builder for entries that are slots, shown by their facts; `values`: whether the
/// system call gives values of them.
void begin_slots(const MapInfo& map, bool values, ContentsBuilder& builder);

/// The slots in use of the table at `table` (map.max_entries pointers), from builder.part().from on
/// and as many as it wants; says where the next part begins, also when kMaxSlotsAtOnce were looked
/// at. What their facts may need is taken from the budget.
std::vector<Slot> read_slots(MapReadContext& context, const MapInfo& map, GuestVirt table,
                             ContentsBuilder& builder);

std::vector<GuestVirt> pointers_of(std::span<const Slot> slots);
/// For problems: "entries with key 7".
std::string place_of(const Slot& slot);

/// Adds one entry, with that value (a number of up to 8 bytes; empty: could not be read).
std::size_t add_slot(const Slot& slot, std::optional<std::uint64_t> value, Facts facts,
                     ContentsBuilder& builder);

/// For maps that cannot stop in the middle: takes what one more entry's facts need
/// from the budget; false, with a problem, when that is spent. `waiting`: how many were taken and
/// are not among the records yet.
bool take_entry(MapReadContext& context, ContentsBuilder& builder, std::size_t waiting = 0);

/// Calls describe() for some thousand pointers at a time and use() with each answer, in order;
/// takes what the answers occupy from the budget. When that is spent, the rest is left out with a
/// problem.
void describe_in_steps(
    MapReadContext& context, std::span<const GuestVirt> pointers, ContentsBuilder& builder,
    const std::function<std::vector<Result<Facts>>(std::span<const GuestVirt>)>& describe,
    const std::function<void(std::size_t, Result<Facts>)>& use);

/// The number of that name among the facts.
std::optional<std::uint64_t> number_in(const Facts& facts, std::string_view name);

}  // namespace guestscope
