#include "introspect/scx_names.h"

#include <array>
#include <bit>

namespace guestscope {

namespace {

/// The first of these that the kernel has, as "enum:prefix".
EnumNames names_of(const Btf& btf,
                   std::initializer_list<std::pair<std::string_view, std::string_view>> choices) {
  for (const auto& [name, prefix] : choices)
    if (auto names = EnumNames::of(btf, name, prefix)) return *std::move(names);
  return {};
}

/// EnumNames keeps one name for each value; masks and shifts share theirs with flags. Where BTF has
/// no ENUM64, the upper half of a value is cut off, and 0 left of a flag.
std::uint64_t value_of(const Btf& btf, std::string_view enum_name, std::string_view enumerator,
                       std::uint64_t otherwise) {
  for (const BtfKind kind : {BtfKind::kEnum, BtfKind::kEnum64})
    for (const TypeId id : btf.find_all(kind, enum_name))
      for (const BtfEnumerator& each : btf.enumerators(id))
        if (each.name == enumerator && each.value != 0) return each.value;
  return otherwise;
}

constexpr std::uint64_t kBuiltin = 1ULL << 63;
/// Numbers that schedulers are built against; for kernels whose types do not have them.
constexpr std::array<std::string_view, 4> kBuiltinQueues = {"invalid", "global", "local", "bypass"};

}  // namespace

// The values that stand for missing enumerators are those of the first kernel that had sched_ext.
ScxNames::ScxNames(const Btf& btf)
    : states_(names_of(btf, {{"scx_enable_state", "SCX_"}, {"scx_ops_enable_state", "SCX_OPS_"}})),
      exits_(names_of(btf, {{"scx_exit_kind", "SCX_EXIT_"}})),
      exit_flags_(names_of(btf, {{"scx_exit_flags", "SCX_EFLAG_"}})),
      ops_flags_(names_of(btf, {{"scx_ops_flags", "SCX_OPS_"}})),
      rq_flags_(names_of(btf, {{"scx_rq_flags", "SCX_RQ_"}})),
      queues_(names_of(btf, {{"scx_dsq_id_flags", "SCX_DSQ_"}})),
      task_flags_(names_of(btf, {{"scx_ent_flags", "SCX_TASK_"}})),
      task_states_(names_of(btf, {{"scx_task_state", "SCX_TASK_"}})),
      ops_states_(names_of(btf, {{"scx_ops_state", "SCX_OPSS_"}})),
      builtin_(value_of(btf, "scx_dsq_id_flags", "SCX_DSQ_FLAG_BUILTIN", kBuiltin)),
      local_on_(value_of(btf, "scx_dsq_id_flags", "SCX_DSQ_LOCAL_ON", 3ULL << 62)),
      cpu_mask_(value_of(btf, "scx_dsq_id_flags", "SCX_DSQ_LOCAL_CPU_MASK", 0xffffffff)),
      state_mask_(value_of(btf, "scx_ent_flags", "SCX_TASK_STATE_MASK", 0)),
      reason_mask_(value_of(btf, "scx_ent_flags", "SCX_TASK_REENQ_REASON_MASK", 0)),
      ops_shift_(value_of(btf, "scx_ops_state", "SCX_OPSS_QSEQ_SHIFT", 2) & 63),
      cursor_(value_of(btf, "scx_dsq_lnode_flags", "SCX_DSQ_LNODE_ITER_CURSOR", 1)) {}

FactList ScxNames::list(const EnumNames& names, std::uint64_t flags) {
  FactList result;
  for (std::string& name : names.flags(flags)) result.emplace_back(std::move(name));
  return result;
}

std::string ScxNames::queue(std::uint64_t id) const {
  if ((id & builtin_) == 0) return fmt::format("{:#x}", id);
  if ((id & local_on_) == local_on_) return fmt::format("local_on:{}", id & cpu_mask_ & 0xffffffff);
  const std::uint64_t number = id & ~builtin_;
  if (number < kBuiltinQueues.size()) return std::string(kBuiltinQueues[number]);
  const auto name = queues_.name(id);
  return name ? std::string(*name) : fmt::format("{:#x}", id);
}

FactList ScxNames::task_flags(std::uint64_t flags) const {
  return list(task_flags_, flags & ~(state_mask_ | reason_mask_));
}

std::string ScxNames::task_state(std::uint64_t flags) const {
  const std::uint64_t state = flags & state_mask_;
  if (const auto name = task_flags_.name(state)) return std::string(*name);
  // Where the states are an enum of their own, they are numbered from 0.
  const std::uint64_t number = state_mask_ == 0 ? 0 : state >> std::countr_zero(state_mask_);
  return task_states_.name_or_number(number, "state");
}

std::string ScxNames::ops_state(std::uint64_t word) const {
  return ops_states_.name_or_number(word & ((std::uint64_t{1} << ops_shift_) - 1), "state");
}

}  // namespace guestscope
