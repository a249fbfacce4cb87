// /scx.
#include "daemon/api.h"
#include "daemon/facts_json.h"
#include "daemon/guest_json.h"

namespace guestscope {

Answer answer_scx(const GuestView& session, const Request& request) {
  if (const auto valid = request.allow_only({"pretty"}); !valid)
    return problem_answer(valid.error());
  const auto pretty = request.flag("pretty");
  if (!pretty) return problem_answer(pretty.error());
  auto taken = session.snapshot(
      "scx", [](GuestKernel& kernel, PhysMemory& memory) { return kernel.scx(memory); },
      kSnapshotTimeout);
  if (!taken) return snapshot_problem(taken.error(), session, "per_cpu_offsets");
  Json json = {{"snapshot", snapshot_json(taken->meta)}, {"supported", taken->value.supported}};
  json.update(facts_json(taken->value.facts));
  add_problems(json, taken->value.problems);
  return json_answer(json, *pretty);
}

}  // namespace guestscope
