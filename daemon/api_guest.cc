// /runqueues and /runqueues/CPU.
#include <algorithm>

#include "daemon/api.h"
#include "daemon/guest_json.h"

namespace guestscope {

Answer answer_run_queues(GuestSession& session, const Request& request) {
  if (const auto valid = request.allow_only({"pretty", "tasks"}); !valid)
    return problem_answer(valid.error());
  // The tasks on a queue are not read in this version: only their absence can be asked for.
  if (request.query.contains("tasks") && request.query.at("tasks") != "0")
    return problem_answer(
        {.code = ErrorCode::kInvalidArgument, .message = "?tasks can only be 0 in this version"});
  const auto pretty = request.flag("pretty");
  if (!pretty) return problem_answer(pretty.error());
  std::optional<std::uint64_t> cpu;
  if (request.path.size() == 2) {
    cpu = parse_number(request.path[1]);
    if (!cpu)
      return problem_answer({.code = ErrorCode::kInvalidArgument,
                             .message = fmt::format("'{}' is no CPU number", request.path[1])});
  }
  auto taken = session.snapshot(
      "runqueues",
      [](GuestKernel& kernel, PhysMemory& memory) { return kernel.run_queues(memory); },
      kSnapshotTimeout);
  if (!taken) return snapshot_problem(taken.error(), session, "per_cpu_offsets");
  Json json = {{"snapshot", snapshot_json(taken->meta)}};
  if (cpu) {
    const auto found = std::ranges::find(taken->value.run_queues, *cpu, &RunQueue::cpu);
    if (found == taken->value.run_queues.end())
      return problem_answer({.code = ErrorCode::kNotFound,
                             .message = fmt::format("CPU {} is not possible on this guest", *cpu)});
    json.update(run_queue_json(*found));
  } else {
    json["runqueues"] = Json::array();
    for (const RunQueue& queue : taken->value.run_queues)
      json["runqueues"].push_back(run_queue_json(queue));
  }
  add_problems(json, taken->value.problems);
  return json_answer(json, *pretty);
}

}  // namespace guestscope
