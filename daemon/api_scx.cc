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
  return answer_by(
      session, request, "scx",
      [](GuestKernel& kernel, PhysMemory& memory) { return kernel.scx(memory); }, "per_cpu_offsets",
      [&](const ScxReport& report, const SnapshotMeta& meta) {
        Json json = {{"snapshot", snapshot_json(meta)}, {"supported", report.supported}};
        json.update(facts_json(report.facts));
        add_problems(json, report.problems);
        return json_answer(json, *pretty);
      });
}

}  // namespace guestscope
