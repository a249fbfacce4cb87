#include "daemon/crash_format.h"

#include <doctest/doctest.h>

namespace guestscope {
namespace {

RunQueue queue_of(unsigned cpu) {
  RunQueue queue;
  queue.cpu = cpu;
  queue.address = GuestVirt(0xffff8800090436c0);
  queue.rt_array = GuestVirt(0xffff8800090437c8);
  queue.cfs_root = GuestVirt(0xffff880009043740);
  queue.online = queue.readable = true;
  return queue;
}

TaskInfo task(std::int64_t pid, std::string comm, std::string sched_class, std::int64_t prio) {
  TaskInfo made;
  made.address = GuestVirt(0xffff88007e4877a0);
  made.pid = pid;
  made.comm = std::move(comm);
  made.sched_class = std::move(sched_class);
  made.prio = prio;
  return made;
}

TEST_CASE("run queues are printed as crash prints them") {
  std::vector<RunQueue> queues{queue_of(0), queue_of(1), queue_of(2)};
  queues[0].curr = task(588, "udevd", "fair", 120);
  queues[0].tasks = {{.task = *queues[0].curr, .current = true},
                     {.task = task(2110, "check\n\"x", "fair", 118)},
                     {.task = task(21, "migration/1", "rt", 0)}};
  queues[1].online = queues[1].readable = false;
  queues[2].curr = task(0, "swapper/2", "idle", 120);
  CHECK(crash_runq(queues) == R"(CPU 0 RUNQUEUE: ffff8800090436c0
  CURRENT: PID: 588    TASK: ffff88007e4877a0  COMMAND: "udevd"
  RT PRIO_ARRAY: ffff8800090437c8
     [  0] PID: 21     TASK: ffff88007e4877a0  COMMAND: "migration/1"
  CFS RB_ROOT: ffff880009043740
     [118] PID: 2110   TASK: ffff88007e4877a0  COMMAND: "check."x"

CPU 1 RUNQUEUE: ffff8800090436c0 [OFFLINE]

CPU 2 RUNQUEUE: ffff8800090436c0
  CURRENT: PID: 0      TASK: ffff88007e4877a0  COMMAND: "swapper/2"
  RT PRIO_ARRAY: ffff8800090437c8
     [no tasks queued]
  CFS RB_ROOT: ffff880009043740
     [no tasks queued]
)");
}

TEST_CASE("a real-time task that runs is listed in its array as well, as crash does") {
  std::vector<RunQueue> queues{queue_of(0)};
  queues[0].curr = task(9, "fifo", "rt", 49);
  queues[0].tasks = {{.task = *queues[0].curr, .current = true}};
  const std::string text = crash_runq(queues);
  CHECK(text.find("  CURRENT: PID: 9 ") != text.npos);
  CHECK(text.find("     [ 49] PID: 9 ") != text.npos);
}

TEST_CASE("tasks of the classes that crash does not know have a list when there are any") {
  std::vector<RunQueue> queues{queue_of(0)};
  queues[0].tasks = {{.task = task(7, "deadline", "dl", -1)}, {.task = task(8, "ext", "ext", 120)}};
  const std::string text = crash_runq(queues);
  CHECK(text.find("  CURRENT: [unreadable]\n  DL RB_ROOT:\n     [ -1] PID: 7 ") != text.npos);
  CHECK(text.find("  SCX LOCAL DSQ:\n     [120] PID: 8 ") != text.npos);
}

}  // namespace
}  // namespace guestscope
