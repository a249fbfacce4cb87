#include "daemon/sched_json.h"

#include <doctest/doctest.h>

namespace guestscope {
namespace {

TEST_CASE("an offline CPU has no figures, an unreadable current task is null") {
  RunQueue queue;
  queue.cpu = 3;
  CHECK(dump_json(run_queue_json(queue, true)) ==
        R"({"cpu":3,"online":false,"address":"0x0000000000000000"})");
  queue.online = true;
  CHECK(dump_json(run_queue_json(queue, true)) ==
        R"({"cpu":3,"online":true,"address":"0x0000000000000000","curr":null,"nr_running":null})");
  queue.readable = true;
  CHECK(
      dump_json(run_queue_json(queue, true)) ==
      R"({"cpu":3,"online":true,"address":"0x0000000000000000","idle":false,"curr":null,"tasks":[]})");
  CHECK_FALSE(run_queue_json(queue, false).contains("tasks"));
}

TEST_CASE("figures stand in their groups, and tasks have what their class adds") {
  RunQueue queue;
  queue.readable = queue.online = true;
  queue.figures = {{.name = "nr_running", .value = 2U},
                   {.name = "cfs", .value = Facts{{.name = "nr_running", .value = 1U}}}};
  QueuedTask queued{.current = true, .facts = {{.name = "vruntime", .value = 12U}}};
  queued.task.pid = 7;
  queue.tasks.push_back(queued);
  const Json json = run_queue_json(queue, true);
  CHECK(json["nr_running"] == 2);
  CHECK(dump_json(json["cfs"]) == R"({"nr_running":1})");
  CHECK(json["tasks"][0]["pid"] == 7);
  CHECK(json["tasks"][0]["current"] == true);
  CHECK(json["tasks"][0]["vruntime"] == 12);
}

TEST_CASE("a task has every member that is known of it, and no others") {
  TaskInfo task;
  task.address = GuestVirt(0xffff888000001000);
  task.pid = 102;
  task.tgid = 101;
  task.comm = "b\xff\"\n";
  task.state = "running";
  task.state_letter = 'R';
  task.sched_class = "fair";
  task.policy = "normal";
  task.prio = 120;
  CHECK(dump_json(task_json(task)) ==
        "{\"pid\":102,\"tgid\":101,\"comm\":\"b\xef\xbf\xbd\\\"\\n\",\"class\":\"fair\","
        "\"policy\":\"normal\",\"prio\":120,\"state\":\"running\",\"stat\":\"R\","
        "\"kernel_thread\":false,\"on_cpu\":false,\"on_rq\":false,"
        "\"address\":\"0xffff888000001000\"}");
  task.nice = -5;
  task.rt_priority = 0;
  task.cpu = 3;
  task.cpus_allowed = std::make_shared<const std::string>("0-2,5,7-8");
  task.sum_exec_ns = 1;
  task.since_run_ns = 2;
  task.voluntary_switches = 3;
  task.involuntary_switches = 4;
  task.migrations = 5;
  const Json json = task_json(task);
  CHECK(json["nice"] == -5);
  CHECK(json["rt_priority"] == 0);
  CHECK(json["cpu"] == 3);
  CHECK(json["cpus_allowed"] == "0-2,5,7-8");
  CHECK(json["sum_exec_ns"] == 1);
  CHECK(json["since_run_ns"] == 2);
  CHECK(json["voluntary_switches"] == 3);
  CHECK(json["involuntary_switches"] == 4);
  CHECK(json["migrations"] == 5);
  task.cpus_allowed = nullptr;  // there was no room for it
  CHECK(task_json(task)["cpus_allowed"].is_null());
}

}  // namespace
}  // namespace guestscope
