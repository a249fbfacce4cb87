// /tasks and /tasks/PID.
#include <algorithm>

#include "daemon/api.h"
#include "daemon/guest_json.h"
#include "daemon/sched_json.h"

namespace guestscope {

namespace {

/// What of the list is wanted.
struct Filter {
  std::optional<std::string> comm{};
  std::optional<std::string> state{};  ///< its name or its letter
  std::optional<std::uint64_t> cpu{};

  static Result<Filter> parse(const Request& request) {
    Filter filter;
    if (const auto comm = request.query.find("comm"); comm != request.query.end())
      filter.comm = comm->second;
    if (const auto state = request.query.find("state"); state != request.query.end())
      filter.state = state->second;
    if (const auto cpu = request.query.find("cpu"); cpu != request.query.end()) {
      filter.cpu = parse_number(cpu->second);
      if (!filter.cpu)
        return fail(ErrorCode::kInvalidArgument, "?cpu={} is no CPU number", cpu->second);
    }
    return filter;
  }

  bool wants(const TaskInfo& task) const {
    return (!comm || task.comm == *comm) && (!cpu || task.cpu == *cpu) &&
           (!state || task.state == *state || *state == std::string(1, task.state_letter));
  }
};

}  // namespace

Answer answer_tasks(const GuestView& session, const Request& request) {
  const bool one = request.path.size() == 2;
  const auto valid =
      one ? request.allow_only({"pretty"}) : request.allow_only({"pretty", "comm", "state", "cpu"});
  if (!valid) return problem_answer(valid.error());
  const auto pretty = request.flag("pretty");
  if (!pretty) return problem_answer(pretty.error());
  const auto filter = Filter::parse(request);
  if (!filter) return problem_answer(filter.error());
  const auto pid = one ? parse_number(request.path[1]) : std::nullopt;
  if (one && !pid)
    return problem_answer(
        {.code = ErrorCode::kInvalidArgument,
         .message = fmt::format("'{}' is no pid: ask for /tasks?comm= by name", request.path[1])});
  return answer_by(
      session, request, "tasks",
      [](GuestKernel& kernel, PhysMemory& memory) { return kernel.tasks(memory); },
      "per_cpu_offsets",
      [&](const TaskList& list, const SnapshotMeta& meta) {
        Json json = {{"snapshot", snapshot_json(meta)}};
        if (one) {
          const auto found =
              std::ranges::find(list.tasks, static_cast<std::int64_t>(*pid), &TaskInfo::pid);
          if (found == list.tasks.end()) return none_answer("task", request.path[1], list.problems);
          json.update(task_json(*found));
        } else {
          json["tasks"] = Json::array();
          for (const TaskInfo& task : list.tasks)
            if (filter->wants(task)) json["tasks"].push_back(task_json(task));
        }
        add_problems(json, list.problems);
        return json_answer(json, *pretty);
      });
}

}  // namespace guestscope
