// /progs, /progs/REF, /runqueues and /runqueues/CPU.
#include <algorithm>

#include "daemon/api.h"
#include "daemon/guest_json.h"

namespace guestscope {

namespace {

/// Why not exactly one program is meant; empty when one is.
std::optional<Answer> not_one(const ProgList& list, const std::string& ref) {
  if (list.progs.size() == 1) return std::nullopt;
  if (list.progs.empty()) return none_answer("program", ref, list.problems);
  std::vector<std::uint64_t> ids;
  for (const ProgInfo& prog : list.progs) ids.push_back(prog.id);
  return ambiguous_answer("programs", ref, ids);
}

void keep_ref(std::vector<ProgInfo>& progs, const std::string& ref) {
  const auto id = parse_number(ref);
  const bool by_id =
      id && std::ranges::any_of(progs, [&](const ProgInfo& prog) { return prog.id == *id; });
  std::erase_if(progs,
                [&](const ProgInfo& prog) { return by_id ? prog.id != *id : prog.name != ref; });
}

}  // namespace

Answer answer_progs(GuestSession& session, const Request& request) {
  const bool one = request.path.size() == 2;
  if (const auto valid = request.allow_only({"pretty"}); !valid)
    return problem_answer(valid.error());
  const auto pretty = request.flag("pretty");
  if (!pretty) return problem_answer(pretty.error());
  auto taken = session.snapshot(
      "progs", [](GuestKernel& kernel, PhysMemory& memory) { return kernel.progs(memory); },
      kSnapshotTimeout);
  if (!taken) return snapshot_problem(taken.error(), session, "progs");
  ProgList& list = taken->value;
  Json json = {{"snapshot", snapshot_json(taken->meta)}};
  if (list.stats_enabled) json["stats_enabled"] = *list.stats_enabled;
  if (one) {
    keep_ref(list.progs, request.path[1]);
    if (auto problem = not_one(list, request.path[1])) return *std::move(problem);
    json.update(prog_json(list.progs.front(), true));
  } else {
    json["progs"] = Json::array();
    for (const ProgInfo& prog : list.progs) json["progs"].push_back(prog_json(prog, false));
  }
  add_problems(json, list.problems);
  return json_answer(json, *pretty);
}

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
