#include "introspect/map_slots.h"

#include <algorithm>
#include <array>

#include "introspect/limits.h"

namespace guestscope {

namespace {

constexpr std::size_t kPageBytes = 4096;
constexpr std::size_t kPointerBytes = 8;
constexpr std::size_t kDescribeStep = 4096;

/// One step through a table: its pages are announced, read and looked at.
class TableStep {
 public:
  TableStep(GuestVirt table, std::uint64_t first, std::uint64_t n) : first_(first) {
    for (std::uint64_t done = 0; done < n;) {
      const GuestVirt at = table.wrapping_add((first + done) * kPointerBytes);
      const std::uint64_t to_page_end =
          std::max<std::uint64_t>(1, at.bytes_to_boundary(kPageBytes) / kPointerBytes);
      const std::uint64_t some = std::min(to_page_end, n - done);
      pages_.add(at, some * kPointerBytes);
      slots_.push_back(some);
      done += some;
    }
  }

  /// False when nothing at all could be read.
  bool read(KernelMemory& memory, Problems& problems, std::vector<Slot>& into) {
    pages_.read(memory);
    bool some = false;
    std::uint64_t index = first_;
    for (std::size_t page = 0; page < pages_.size(); ++page) {
      const auto bytes = pages_[page];
      if (!bytes) {
        problems.add(fmt::format("entries from key {} on", index), bytes.error());
        index += slots_[page];
        continue;
      }
      some = true;
      for (std::size_t at = 0; at + kPointerBytes <= bytes->size(); at += kPointerBytes, ++index) {
        const GuestVirt pointer(load_le(bytes->data() + at, kPointerBytes));
        if (!pointer.is_null())
          into.push_back({.index = static_cast<std::uint32_t>(index), .pointer = pointer});
      }
    }
    return some;
  }

 private:
  std::uint64_t first_;
  ReadBatch pages_;
  std::vector<std::uint64_t> slots_;  // of each page
};

std::size_t text_bytes(const Facts& facts) {
  std::size_t bytes = 0;
  for (const Fact& fact : facts)
    if (const auto* text = std::get_if<std::string>(&fact.value.get())) bytes += text->size();
  return bytes;
}

}  // namespace

void begin_slots(const MapInfo& map, bool values, ContentsBuilder& builder) {
  builder.set_keys(KeyForm::kNumber);
  builder.set_strides(round_up_8(std::max<std::uint64_t>(4, map.key_size)),
                      values ? round_up_8(map.value_size) : 0);
  builder.show_facts_only();
}

std::vector<Slot> read_slots(MapReadContext& context, const MapInfo& map, GuestVirt table,
                             ContentsBuilder& builder) {
  const std::uint64_t begin = std::min(builder.part().from.position, map.max_entries);
  const std::uint64_t wanted =
      std::min<std::uint64_t>(builder.room(map.max_entries - begin),
                              context.budget / (kFactsBytes + builder.record_bytes()));
  const std::uint64_t end = std::min(map.max_entries, begin + kMaxSlotsAtOnce);
  std::vector<Slot> slots;
  std::uint64_t index = begin;
  for (std::uint64_t step = kPageBytes / kPointerBytes; index < end && slots.size() < wanted;
       step = std::min<std::uint64_t>(step * 2, kContentStepBytes / kPointerBytes)) {
    const std::uint64_t n = std::min(step, end - index);
    if (!TableStep(table, index, n).read(context.memory, builder.problems(), slots)) return slots;
    index += n;
  }
  if (slots.size() > wanted) slots.resize(wanted);
  if (slots.size() == wanted) index = slots.empty() ? begin : slots.back().index + std::uint64_t{1};
  if (index < map.max_entries) builder.stop_at({.position = index});
  context.budget -= std::min(context.budget, slots.size() * kFactsBytes);
  return slots;
}

std::vector<GuestVirt> pointers_of(std::span<const Slot> slots) {
  std::vector<GuestVirt> pointers;
  pointers.reserve(slots.size());
  for (const Slot& slot : slots) pointers.push_back(slot.pointer);
  return pointers;
}

std::string place_of(const Slot& slot) { return fmt::format("entries with key {}", slot.index); }

std::size_t add_slot(const Slot& slot, std::optional<std::uint64_t> value, Facts facts,
                     ContentsBuilder& builder) {
  std::array<std::byte, 8> bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::byte>(value.value_or(0) >> (8 * i) & 0xff);
  const std::size_t record = builder.add(slot.index, bytes);
  if (!value) builder.unreadable(record, 0);
  builder.set_facts(record, std::move(facts));
  return record;
}

bool take_entry(MapReadContext& context, ContentsBuilder& builder, std::size_t waiting) {
  if (!builder.has_room(waiting + 1 +
                        kFactsBytes / std::max<std::size_t>(1, builder.record_bytes())))
    return false;
  context.budget -= std::min(context.budget, kFactsBytes);
  return true;
}

void describe_in_steps(
    MapReadContext& context, std::span<const GuestVirt> pointers, ContentsBuilder& builder,
    const std::function<std::vector<Result<Facts>>(std::span<const GuestVirt>)>& describe,
    const std::function<void(std::size_t, Result<Facts>)>& use) {
  for (std::size_t first = 0; first < pointers.size(); first += kDescribeStep) {
    if (first != 0 && context.budget == 0) {
      builder.problems().add(
          "entries", {.code = ErrorCode::kUnsupported,
                      .message = fmt::format("more than {} MB in one answer: {} entries "
                                             "are not described",
                                             kMaxContentBytes >> 20, pointers.size() - first)});
      return;
    }
    auto described =
        describe(pointers.subspan(first, std::min(kDescribeStep, pointers.size() - first)));
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < described.size(); ++i) {
      if (described[i]) bytes += text_bytes(*described[i]);
      use(first + i, std::move(described[i]));
    }
    context.budget -= std::min(context.budget, bytes);
  }
}

std::optional<std::uint64_t> number_in(const Facts& facts, std::string_view name) {
  const auto found = std::ranges::find(facts, name, &Fact::name);
  if (found == facts.end()) return std::nullopt;
  const auto* number = std::get_if<std::uint64_t>(&found->value.get());
  return number == nullptr ? std::nullopt : std::optional(*number);
}

}  // namespace guestscope
