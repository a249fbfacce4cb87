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

Result<ProgList> read_progs(KernelMemory& memory, const ProgModel& model,
                            const ProgAccessor& accessor, const PerCpuOffsets& per_cpu) {
  Problems problems;
  GS_ASSIGN(const auto entries, read_idr(memory, model.idr, accessor.prog_idr, "progs", problems));
  const auto stats_enabled = read_stats_enabled(memory, model, accessor.location, problems);
  ProgList list = ProgReader(memory, model, per_cpu).read(entries, std::move(problems));
  list.stats_enabled = stats_enabled;
  return list;
}

}  // namespace guestscope
