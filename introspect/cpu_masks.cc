#include "introspect/cpu_masks.h"

#include <algorithm>

namespace guestscope {

namespace {

struct MaskSymbol {
  const char* name;
  const char* symbol;
};
// kernel/cpu.c. Every kernel has the first two and "present"; "enabled" is of 6.9, "dying" of 5.13.
constexpr MaskSymbol kMasks[] = {
    {"possible", "__cpu_possible_mask"}, {"present", "__cpu_present_mask"},
    {"enabled", "__cpu_enabled_mask"},   {"online", "__cpu_online_mask"},
    {"active", "__cpu_active_mask"},     {"dying", "__cpu_dying_mask"}};

// kernel/sched/isolation.c: for each kind of work the CPUs that do it, if others are spared. Since
// 5.18 a structure of masks, before that one mask and the kinds that it is for.
enum Sets : std::size_t { kSetMasks, kSetFlags };
constexpr FieldNeed kSetFields[] = {{"cpumasks"}, {"flags"}};
constexpr StructNeed kSets = {"housekeeping", kSetFields};
constexpr EnumNeed kSetKinds = {"HK_TYPE_DOMAIN", "HK_TYPE_"};
constexpr EnumNeed kSetKindFlags = {"HK_FLAG_DOMAIN", "HK_FLAG_"};

struct Spared {
  const char* name;
  const char* kind;
  const char* else_kind;  ///< a later kernel's name of it
};
constexpr Spared kSpared[] = {{"isolated", "domain", "domain"},
                              {"nohz_full", "tick", "kernel_noise"}};

std::optional<std::uint64_t> kind_of(const EnumNames& names, const Spared& spared) {
  const auto value = names.value(spared.kind);
  return value ? value : names.value(spared.else_kind);
}

bool is_pointer(const Btf& btf, TypeId type) {
  const auto behind = btf.resolve(type);
  return behind && btf.kind(*behind) == BtfKind::kPtr;
}

std::optional<std::size_t> add_symbol(SchedContext& context, ReadBatch& batch, const char* name,
                                      std::size_t bytes) {
  const auto symbol = context.layouts.kernel().symbols().find(name);
  if (!symbol) return std::nullopt;
  return batch.add(context.location().at(symbol->value), bytes);
}

}  // namespace

std::string cpu_list(const std::vector<unsigned>& cpus) {
  std::string text;
  for (std::size_t first = 0, last = 0; first < cpus.size(); first = last + 1) {
    last = first;
    while (last + 1 < cpus.size() && cpus[last + 1] == cpus[last] + 1) ++last;
    if (!text.empty()) text += ',';
    text += first == last ? fmt::format("{}", cpus[first])
                          : fmt::format("{}-{}", cpus[first], cpus[last]);
  }
  return text;
}

std::size_t cpu_mask_bytes(const SchedContext& context) {
  return std::min(context.model.per_cpu->mask_bytes,
                  (context.per_cpu.offsets.size() + 63) / 64 * 8);
}

GuestVirt mask_place(const SchedContext& context, const StructView& view, std::size_t field,
                     GuestVirt at) {
  const BoundField& bound = view.layout()[field];
  return is_pointer(context.layouts.kernel().btf(), bound.type) ? view.pointer(field)
                                                                : at.wrapping_add(bound.offset);
}

CpuMasks::CpuMasks(SchedContext& context) : context_(context) {
  const std::size_t bytes = cpu_mask_bytes(context);
  for (const MaskSymbol& mask : kMasks)
    if (const auto index = add_symbol(context, globals_, mask.symbol, bytes))
      masks_.emplace_back(mask.name, *index);
  if (const auto layout = context.layouts.get(kSets)) {
    sets_ = add_symbol(context, globals_, "housekeeping", (*layout)->extent());
    return;
  }
  const auto mask = add_symbol(context, globals_, "housekeeping_mask", 8);
  const auto flags = add_symbol(context, globals_, "housekeeping_flags", 4);
  if (mask && flags) one_set_ = {*mask, *flags};
}

void CpuMasks::follow_sets() {
  const StructLayout& layout = **context_.layouts.get(kSets);
  const auto bytes = globals_[*sets_];
  const EnumNames* kinds = context_.layouts.names(kSetKinds);
  if (!bytes || kinds == nullptr) return;
  const auto view = StructView::over(layout, *bytes);
  if (!view) return;
  const BoundField& masks = layout[kSetMasks];
  const Btf& btf = context_.layouts.kernel().btf();
  const bool pointers = is_pointer(btf, btf.array(masks.type).element);
  const GuestVirt at =
      context_.location().at(context_.layouts.kernel().symbols().find("housekeeping")->value);
  for (const Spared& spared : kSpared) {
    const auto kind = kind_of(*kinds, spared);
    if (!kind || *kind >= 64) continue;
    const std::uint64_t offset = *kind * masks.element_size;
    Isolated isolated{.name = spared.name, .mask = std::nullopt};
    if ((view->u64(kSetFlags) >> *kind & 1U) != 0) {
      const ByteSpan own = view->bytes(kSetMasks);
      if (offset > own.size() || own.size() - offset < 8) continue;
      isolated.mask = rest_.add(pointers ? GuestVirt(load_le(own.data() + offset, 8))
                                         : at.wrapping_add(masks.offset + offset),
                                cpu_mask_bytes(context_));
    }
    isolated_.push_back(isolated);
  }
}

void CpuMasks::follow_one_set() {
  const auto mask = globals_[one_set_->first];
  const auto flags = globals_[one_set_->second];
  const EnumNames* kinds = context_.layouts.names(kSetKindFlags);
  if (!mask || !flags || kinds == nullptr) return;
  const Btf& btf = context_.layouts.kernel().btf();
  const auto type = btf.find(BtfKind::kTypedef, "cpumask_var_t");
  const GuestVirt at =
      type && is_pointer(btf, *type)
          ? GuestVirt(load_le(mask->data(), 8))
          : context_.location().at(
                context_.layouts.kernel().symbols().find("housekeeping_mask")->value);
  for (const Spared& spared : kSpared) {
    const auto flag = kind_of(*kinds, spared);
    if (!flag) continue;
    Isolated isolated{.name = spared.name, .mask = std::nullopt};
    if ((load_le(flags->data(), 4) & *flag) != 0)
      isolated.mask = rest_.add(at, cpu_mask_bytes(context_));
    isolated_.push_back(isolated);
  }
}

void CpuMasks::follow() {
  if (sets_) follow_sets();
  if (one_set_) follow_one_set();
}

Facts CpuMasks::facts(Problems& problems) const {
  Facts facts;
  const auto add = [&](const char* name, const Result<std::vector<unsigned>>& cpus) {
    if (!cpus) problems.add(fmt::format("cpus.{}", name), cpus.error());
    facts.push_back({.name = name, .value = cpus ? FactValue(cpu_list(*cpus)) : FactValue()});
  };
  const auto set = [](const Result<ByteSpan>& mask) -> Result<std::vector<unsigned>> {
    if (!mask) return std::unexpected(mask.error());
    return cpus_in_mask(*mask);
  };
  for (const auto& [name, index] : masks_) add(name, set(globals_[index]));
  for (const Isolated& isolated : isolated_) {
    if (!isolated.mask) {
      add(isolated.name, std::vector<unsigned>{});
      continue;
    }
    const auto working = set(rest_[*isolated.mask]);
    if (!working) {
      add(isolated.name, working);
      continue;
    }
    std::vector<unsigned> spared;
    std::ranges::set_difference(context_.per_cpu.possible_cpus(), *working,
                                std::back_inserter(spared));
    add(isolated.name, spared);
  }
  return facts;
}

}  // namespace guestscope
