// /runqueues and /runqueues/CPU.
#include <algorithm>

#include "daemon/api.h"
#include "daemon/crash_format.h"
#include "daemon/guest_json.h"
#include "daemon/sched_json.h"

namespace guestscope {

namespace {

struct QueueOptions {
  bool pretty = false;
  bool tasks = true;
  bool crash = false;
  std::optional<std::uint64_t> cpu{};

  static Result<QueueOptions> parse(const Request& request);
};

Result<QueueOptions> QueueOptions::parse(const Request& request) {
  GS_CHECK(request.allow_only({"pretty", "tasks", "format"}));
  QueueOptions options;
  GS_ASSIGN(options.pretty, request.flag("pretty"));
  if (request.query.contains("tasks")) {
    GS_ASSIGN(options.tasks, request.flag("tasks"));
  }
  if (const auto format = request.query.find("format"); format != request.query.end()) {
    if (format->second != "crash")
      return fail(ErrorCode::kInvalidArgument, "?format={}: the only other format here is crash",
                  format->second);
    if (request.query.contains("tasks") || options.pretty)
      return fail(ErrorCode::kInvalidArgument,
                  "?format=crash excludes the parameters tasks and pretty");
    options.crash = true;
  }
  if (request.path.size() == 2) {
    options.cpu = parse_number(request.path[1]);
    if (!options.cpu)
      return fail(ErrorCode::kInvalidArgument, "'{}' is no CPU number", request.path[1]);
  }
  return options;
}

Answer queues_answer(const RunQueueList& list, const SnapshotMeta& meta,
                     const QueueOptions& options) {
  std::span<const RunQueue> wanted = list.run_queues;
  if (options.cpu) {
    const auto found = std::ranges::find(wanted, *options.cpu, &RunQueue::cpu);
    if (found == wanted.end())
      return problem_answer(
          {.code = ErrorCode::kNotFound,
           .message = fmt::format("CPU {} is not possible on this guest", *options.cpu)});
    wanted = {found, 1};
  }
  if (options.crash)
    return {.content_type = "text/plain; charset=utf-8", .body = crash_runq(wanted)};
  Json json = {{"snapshot", snapshot_json(meta)}};
  if (options.cpu) {
    json.update(run_queue_json(wanted.front(), options.tasks));
  } else {
    json["runqueues"] = Json::array();
    for (const RunQueue& queue : wanted)
      json["runqueues"].push_back(run_queue_json(queue, options.tasks));
  }
  add_problems(json, list.problems);
  return json_answer(json, options.pretty);
}

}  // namespace

Answer answer_run_queues(const GuestView& session, const Request& request) {
  const auto options = QueueOptions::parse(request);
  if (!options) return problem_answer(options.error());
  return answer_by(
      session, request, options->tasks ? "runqueues with tasks" : "runqueues",
      [tasks = options->tasks](GuestKernel& kernel, PhysMemory& memory) {
        return kernel.run_queues(memory, tasks);
      },
      "per_cpu_offsets",
      [&](const RunQueueList& list, const SnapshotMeta& meta) {
        return queues_answer(list, meta, *options);
      });
}

}  // namespace guestscope
