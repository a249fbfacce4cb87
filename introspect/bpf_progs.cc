#include "introspect/bpf_progs.h"

#include "introspect/idr.h"
#include "introspect/prog_reader.h"
#include "introspect/struct_batch.h"

namespace guestscope {

ProgRun ProgInfo::total() const {
  ProgRun sum;
  for (const auto& [cpu, run] : per_cpu) {
    sum.runs += run.runs;
    sum.nanoseconds += run.nanoseconds;
    sum.recursion_misses += run.recursion_misses;
  }
  return sum;
}

namespace {

std::optional<bool> read_stats_enabled(KernelMemory& memory, const ProgModel& model,
                                       const KernelLocation& location, Problems& problems) {
  if (!model.stats_key) return std::nullopt;
  StructBatch batch(model.key);
  batch.add(location.at(*model.stats_key));
  batch.read(memory);
  const auto view = batch[0];
  if (view) return view->s64(0) > 0;
  problems.add("stats_enabled", view.error());
  return std::nullopt;
}

}  // namespace

Result<std::vector<IdrEntry>> list_progs(ProgReadContext& context, Problems& problems) {
  return read_idr(context.memory, context.model.idr, context.accessor.prog_idr, "progs", problems);
}

ProgList read_progs(ProgReadContext& context, std::span<const IdrEntry> entries) {
  return ProgReader(context, entries).read(entries, {});
}

Result<ProgList> read_progs(ProgReadContext& context) {
  Problems problems;
  GS_ASSIGN(const auto entries, list_progs(context, problems));
  const auto stats_enabled =
      read_stats_enabled(context.memory, context.model, context.accessor.location, problems);
  ProgList list = ProgReader(context, entries).read(entries, std::move(problems));
  list.stats_enabled = stats_enabled;
  return list;
}

}  // namespace guestscope
