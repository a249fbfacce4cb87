#include "daemon/sched_json.h"

#include "daemon/facts_json.h"

namespace guestscope {

namespace {

template <typename T>
void set(Json& json, const char* name, const std::optional<T>& value) {
  if (value) json[name] = *value;
}

Json queued_json(const QueuedTask& queued) {
  Json json = task_json(queued.task);
  json["current"] = queued.current;
  json.update(facts_json(queued.facts));
  return json;
}

}  // namespace

Json task_json(const TaskInfo& task) {
  Json json = {{"pid", task.pid},           {"tgid", task.tgid},     {"comm", task.comm},
               {"class", task.sched_class}, {"policy", task.policy}, {"prio", task.prio}};
  set(json, "nice", task.nice);
  set(json, "rt_priority", task.rt_priority);
  json["state"] = task.state;
  json["stat"] = std::string(1, task.state_letter);
  json["kernel_thread"] = task.kernel_thread;
  set(json, "cpu", task.cpu);
  json["on_cpu"] = task.on_cpu;
  json["on_rq"] = task.on_rq;
  if (task.cpus_allowed)
    json["cpus_allowed"] = *task.cpus_allowed ? Json(**task.cpus_allowed) : Json(nullptr);
  set(json, "sum_exec_ns", task.sum_exec_ns);
  set(json, "since_run_ns", task.since_run_ns);
  set(json, "voluntary_switches", task.voluntary_switches);
  set(json, "involuntary_switches", task.involuntary_switches);
  set(json, "migrations", task.migrations);
  json["address"] = hex_address(task.address.value());
  return json;
}

Json run_queue_json(const RunQueue& queue, bool with_tasks) {
  Json json = {{"cpu", queue.cpu},
               {"online", queue.online},
               {"address", hex_address(queue.address.value())}};
  if (!queue.readable) {
    if (queue.online) json["nr_running"] = json["curr"] = nullptr;
    return json;
  }
  json["idle"] = queue.idle;
  json["curr"] = queue.curr ? task_json(*queue.curr) : Json(nullptr);
  json.update(facts_json(queue.figures));
  if (!with_tasks) return json;
  json["tasks"] = Json::array();
  for (const QueuedTask& task : queue.tasks) json["tasks"].push_back(queued_json(task));
  return json;
}

}  // namespace guestscope
