// The scheduler of kernels that have one at most: no struct scx_sched yet (Linux 6.16), but
// variables of kernel/sched/ext.c, which are the same things under the same names.
#include "introspect/scx_schedulers.h"
#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

enum Ops : std::size_t { kName, kFlags };
constexpr FieldNeed kOpsFields[] = {{"name"}, {"flags"}};
constexpr StructNeed kOps = {"sched_ext_ops", kOpsFields};
enum Hash : std::size_t { kTable };
constexpr FieldNeed kHashFields[] = {{"tbl"}};
constexpr StructNeed kHash = {"rhashtable", kHashFields};

enum Pointer : std::size_t { kNodeQueues, kExitInfo };
constexpr std::string_view kPointers[] = {"global_dsqs", "scx_exit_info"};

/// Null: the kernel has no such variable.
GuestVirt variable(SchedContext& context, std::string_view name) {
  const auto symbol = context.layouts.kernel().symbols().find(name);
  return symbol ? context.location().at(symbol->value) : GuestVirt();
}

}  // namespace

Result<std::optional<ScxScheduler>> read_static_scheduler(SchedContext& context) {
  GS_ASSIGN(const std::uint64_t symbol, context.layouts.kernel().symbols().require("scx_ops"));
  GS_ASSIGN(const StructLayout* ops_layout, context.layouts.get(kOps));
  GS_ASSIGN(const StructLayout* hash_layout, context.layouts.get(kHash));
  StructBatch ops(*ops_layout);
  StructBatch hash(*hash_layout);
  ReadBatch pointers;
  ops.add(context.location().at(symbol));
  hash.add(variable(context, "dsq_hash"));
  for (const std::string_view name : kPointers) pointers.add(variable(context, name), 8);
  read_together(context.memory, ops, hash, pointers);
  GS_ASSIGN(const StructView view, ops[0]);
  ScxScheduler scheduler;
  scheduler.address = ops.address(0);
  scheduler.name = std::string(view.text(kName));
  if (scheduler.name.empty()) return std::nullopt;  // the kernel loads none without a name
  scheduler.flags = view.u64(kFlags);
  const auto pointer = [&](Pointer which) {
    const auto bytes = pointers[which];
    return bytes ? GuestVirt(load_le(bytes->data(), 8)) : GuestVirt();
  };
  if (const auto table = hash[0]) scheduler.queue_table = table->pointer(kTable);
  scheduler.nodes = pointer(kNodeQueues);
  scheduler.nodes_are_queues = true;
  scheduler.exit_info = pointer(kExitInfo);
  if (const auto events = context.layouts.kernel().symbols().find("event_stats_cpu"))
    scheduler.events = context.per_cpu_symbol(events->value);
  return scheduler;
}

}  // namespace guestscope
