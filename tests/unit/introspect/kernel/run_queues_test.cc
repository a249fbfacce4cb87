#include <doctest/doctest.h>

#include "tests/support/mini_guest.h"

namespace guestscope {
namespace {

using test::MiniGuest;
using test::refresh;

struct QueueGuest {
  QueueGuest() : guest(MiniGuest::booted(test::load_model())), kernel(guest.model, nullptr) {
    refresh(kernel, guest);
  }

  std::uint64_t queue_of(unsigned cpu) const {
    return guest.area_offset(cpu) + guest.link("runqueues");
  }
  std::uint64_t task(std::string_view comm, int pid, std::uint32_t policy,
                     const std::string& sched_class) {
    mini::task_struct made{};
    made.pid = pid;
    made.tgid = pid;
    made.prio = 120;
    made.policy = policy;
    made.sched_class = guest.link(sched_class) + guest.where.slide;
    comm.copy(made.comm, sizeof made.comm);
    return guest.put(made);
  }
  RunQueueList read(bool with_tasks = true) {
    auto list = kernel.run_queues(guest.memory, with_tasks);
    if (!list) FAIL(list.error().to_string());
    return *std::move(list);
  }

  MiniGuest guest;
  GuestKernel kernel;
};

std::optional<std::uint64_t> number(const RunQueue& queue, std::string_view path) {
  const FactValue* value = find_fact(queue.figures, path);
  if (value == nullptr) return std::nullopt;
  return std::get<std::uint64_t>(value->get());
}

TEST_CASE_FIXTURE(QueueGuest, "each CPU's queue is read at its own offset, with the task it runs") {
  mini::rq busy{};
  busy.nr_running = 2;
  busy.nr_switches = 918;
  busy.nr_uninterruptible = 0xffffffff;  // -1 of an unsigned int, as newer kernels have it
  busy.clock = 2'137'391'876;
  busy.cfs.load.weight = 1'048'576;
  busy.cfs.nr_running = 1;
  busy.cfs.h_nr_running = 2;
  busy.cfs.avg.util_avg = 537;
  busy.rt.rt_time = 12;
  busy.curr = task("busy", 102, 0, "fair_sched_class");
  guest.write_object(queue_of(0), busy);
  mini::rq idle{};
  idle.cpu = 1;
  idle.curr = idle.idle = task("swapper/1", 0, 0, "idle_sched_class");
  guest.write_object(queue_of(1), idle);

  const RunQueueList list = read(false);
  CHECK(list.problems.empty());
  REQUIRE(list.run_queues.size() == 2);
  const RunQueue& first = list.run_queues[0];
  CHECK(first.online);
  CHECK(first.nr_running == 2);
  CHECK(number(first, "nr_switches") == 918);
  CHECK(std::get<std::int64_t>(find_fact(first.figures, "nr_uninterruptible")->get()) == -1);
  CHECK(number(first, "clock") == 2'137'391'876);
  CHECK_FALSE(first.idle);
  CHECK(number(first, "cfs.nr_running") == 1);
  CHECK(number(first, "cfs.h_nr_running") == 2);
  CHECK(number(first, "cfs.load_weight") == 1'048'576);
  CHECK(number(first, "cfs.util_avg") == 537);
  CHECK(number(first, "rt.time_ns") == 12);
  CHECK(first.curr->comm == "busy");
  CHECK(first.curr->pid == 102);
  CHECK(first.curr->sched_class == "fair");
  CHECK(first.curr->policy == "normal");
  CHECK(first.curr->state == "running");
  CHECK(list.run_queues[1].idle);
  CHECK(list.run_queues[1].curr->sched_class == "idle");
}

TEST_CASE_FIXTURE(QueueGuest, "a figure that this kernel does not have is absent and not zero") {
  const RunQueueList list = read();
  CHECK(number(list.run_queues[0], "nr_switches"));
  for (const char* path : {"clock_task", "rt.throttled", "dl.nr_running", "scx"})
    CHECK(find_fact(list.run_queues[0].figures, path) == nullptr);
}

TEST_CASE_FIXTURE(QueueGuest, "what a core has in common is that of the queue which keeps it") {
  mini::rq keeper{};
  keeper.core = queue_of(0);
  keeper.core_enabled = 1;
  keeper.core_cookie = 77;
  keeper.core_forceidle_count = 1;
  guest.write_object(queue_of(0), keeper);
  mini::rq sibling{};
  sibling.cpu = 1;
  sibling.core = queue_of(0);
  sibling.core_enabled = 1;
  sibling.core_cookie = 5;  // of the time before they were one core
  guest.write_object(queue_of(1), sibling);
  RunQueueList list = read(false);
  for (const RunQueue& queue : list.run_queues) {
    CHECK(std::get<bool>(find_fact(queue.figures, "core.enabled")->get()));
    CHECK(number(queue, "core.cookie") == 77);
    CHECK(number(queue, "core.forceidle_count") == 1);
  }
  sibling.core = 0xffffc12300000000;
  guest.write_object(queue_of(1), sibling);
  list = read(false);
  CHECK(number(list.run_queues[0], "core.cookie") == 77);
  CHECK_FALSE(number(list.run_queues[1], "core.cookie"));
  CHECK(std::get<bool>(find_fact(list.run_queues[1].figures, "core.enabled")->get()));
}

TEST_CASE_FIXTURE(QueueGuest, "an offline CPU is listed without figures") {
  mini::rq queue{};
  queue.curr = task("swapper/0", 0, 0, "idle_sched_class");
  guest.write_object(queue_of(0), queue);
  guest.set_online(0b01);
  const RunQueueList list = read();
  REQUIRE(list.run_queues.size() == 2);
  CHECK(list.run_queues[0].readable);
  CHECK_FALSE(list.run_queues[1].online);
  CHECK_FALSE(list.run_queues[1].readable);
  CHECK(list.problems.empty());
}

TEST_CASE_FIXTURE(QueueGuest,
                  "a queue that belongs to another CPU, or whose task is gone, is a problem") {
  mini::rq queue{};
  queue.cpu = 1;
  guest.write_object(queue_of(0), queue);
  queue.nr_running = 3;
  queue.curr = 0xffffc12300000000;
  guest.write_object(queue_of(1), queue);
  const RunQueueList list = read();
  REQUIRE(list.problems.list().size() == 2);
  CHECK(list.problems.list()[0].error.message == "it says that it is CPU 1's");
  CHECK(list.problems.list()[1].at == "runqueues[1].curr");
  CHECK_FALSE(list.run_queues[0].readable);
  CHECK(list.run_queues[1].nr_running == 3);
  CHECK_FALSE(list.run_queues[1].curr.has_value());
}

TEST_CASE_FIXTURE(QueueGuest, "all queues and their tasks cost three exchanges") {
  for (unsigned cpu : {0U, 1U}) {
    mini::rq queue{};
    queue.cpu = cpu;
    queue.curr = task("t", 5, 1, "idle_sched_class");
    guest.write_object(queue_of(cpu), queue);
  }
  const std::size_t before = guest.memory.exchanges;
  const RunQueueList list = read();
  CHECK(guest.memory.exchanges - before == 3);  // online mask, queues, tasks
  CHECK(list.run_queues[1].curr->policy == "fifo");
}

}  // namespace
}  // namespace guestscope
