#include "introspect/domain_facts.h"

#include <algorithm>
#include <cctype>

#include "introspect/figures.h"

namespace guestscope {

namespace {

// CONFIG_SCHEDSTATS: one number for each cpu_idle_type, under the kernel's own names.
constexpr FieldNeed kByIdleType[] = {
    {"lb_count", kOptional},          {"lb_balanced", kOptional},
    {"lb_failed", kOptional},         {"lb_imbalance", kOptional},
    {"lb_imbalance_load", kOptional}, {"lb_imbalance_util", kOptional},
    {"lb_imbalance_task", kOptional}, {"lb_imbalance_misfit", kOptional},
    {"lb_gained", kOptional},         {"lb_hot_gained", kOptional},
    {"lb_nobusyq", kOptional},        {"lb_nobusyg", kOptional}};
constexpr Figure kCounts[] = {{"alb_count", "alb_count"},
                              {"alb_failed", "alb_failed"},
                              {"alb_pushed", "alb_pushed"},
                              {"sbe_count", "sbe_count"},
                              {"sbe_balanced", "sbe_balanced"},
                              {"sbe_pushed", "sbe_pushed"},
                              {"sbf_count", "sbf_count"},
                              {"sbf_balanced", "sbf_balanced"},
                              {"sbf_pushed", "sbf_pushed"},
                              {"ttwu_wake_remote", "ttwu_wake_remote"},
                              {"ttwu_move_affine", "ttwu_move_affine"},
                              {"ttwu_move_balance", "ttwu_move_balance"}};
constexpr auto kBalanceFields = figure_needs(kByIdleType, kCounts);

// The flags' values (since 5.14) or, in all kernels that have names at all (5.10), bit numbers.
constexpr EnumNeed kFlagValues = {"SD_BALANCE_NEWIDLE", "SD_"};
constexpr EnumNeed kFlagBits = {"__SD_BALANCE_NEWIDLE", "__SD_"};

/// "idle", "not_idle", "newly_idle": __CPU_NOT_IDLE is hidden from the kernel's own code.
std::string idle_type_name(const Btf& btf, std::uint64_t type) {
  const auto id = btf.find(BtfKind::kEnum, "cpu_idle_type");
  std::string name = id ? enumerator_name(btf, *id, type) : std::string{};
  if (name.starts_with("__")) name.erase(0, 2);
  if (name.starts_with("CPU_")) name.erase(0, 4);
  if (name.empty()) return fmt::format("type_{}", type);
  std::ranges::transform(name, name.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return name;
}

}  // namespace

const StructNeed kDomainBalanceNeed = {"sched_domain", kBalanceFields};

FactList domain_flag_names(Layouts& layouts, std::uint64_t flags) {
  FactList list;
  const EnumNames* values = layouts.names(kFlagValues);
  const EnumNames* bits = values == nullptr ? layouts.names(kFlagBits) : nullptr;
  if (values == nullptr && bits == nullptr) return list;
  for (unsigned bit = 0; bit < 32; ++bit) {
    if ((flags >> bit & 1U) == 0) continue;
    const auto name = values != nullptr ? values->name(std::uint64_t{1} << bit) : bits->name(bit);
    list.emplace_back(name ? std::string(*name) : fmt::format("bit_{}", bit));
  }
  return list;
}

Facts domain_balance(const Btf& btf, const StructView& view) {
  Facts facts;
  for (std::size_t type = 0; type < 8; ++type) {
    Facts counts;
    for (std::size_t i = 0; i < std::size(kByIdleType); ++i) {
      const ByteSpan all = view.bytes(i);
      const std::size_t size = view.layout()[i].element_size;
      if (size == 0 || size > 8 || all.size() / size <= type) continue;
      counts.push_back(
          {.name = kByIdleType[i].path, .value = load_le(all.data() + type * size, size)});
    }
    if (counts.empty()) break;
    facts.push_back({.name = idle_type_name(btf, type), .value = std::move(counts)});
  }
  add_figures(facts, view, kCounts, std::size(kByIdleType));
  return facts;
}

}  // namespace guestscope
