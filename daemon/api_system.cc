// /topology and /stats.
#include "daemon/api.h"
#include "daemon/facts_json.h"
#include "daemon/guest_json.h"

namespace guestscope {

namespace {

using Read = Result<FactReport> (GuestKernel::*)(PhysMemory&);

Answer answer_report(const GuestView& session, const Request& request, Read read) {
  if (const auto valid = request.allow_only({"pretty"}); !valid)
    return problem_answer(valid.error());
  const auto pretty = request.flag("pretty");
  if (!pretty) return problem_answer(pretty.error());
  return answer_by(
      session, request, request.path[0],
      [read](GuestKernel& kernel, PhysMemory& memory) { return (kernel.*read)(memory); },
      "per_cpu_offsets",
      [&](const FactReport& report, const SnapshotMeta& meta) {
        Json json = {{"snapshot", snapshot_json(meta)}};
        json.update(facts_json(report.facts));
        add_problems(json, report.problems);
        return json_answer(json, *pretty);
      });
}

}  // namespace

Answer answer_topology(const GuestView& session, const Request& request) {
  return answer_report(session, request, &GuestKernel::topology);
}

Answer answer_stats(const GuestView& session, const Request& request) {
  return answer_report(session, request, &GuestKernel::stats);
}

}  // namespace guestscope
