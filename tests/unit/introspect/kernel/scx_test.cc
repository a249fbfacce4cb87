#include "tests/support/mini_kernel/scx.h"

#include <doctest/doctest.h>

#include <cstring>

#include "introspect/scx.h"
#include "introspect/scx_tasks.h"
#include "tests/support/sched_context.h"

namespace guestscope {
namespace {

namespace raw = mini_scx;
using test::MiniGuest;
using test::refresh;

constexpr std::uint64_t kBuiltin = 1ULL << 63;
constexpr std::uint64_t kGlobal = kBuiltin | 1, kLocal = kBuiltin | 2, kBypass = kBuiltin | 3;
constexpr std::uint64_t kNow = 5000;  // jiffies, of 4 ms

/// A guest with two CPUs and a scheduler. What is written with put_…() is what the kernel has.
struct ScxGuest {
  explicit ScxGuest(const char* file = "scx.vmlinux", const char* state = "scx_enable_state_var")
      : guest(MiniGuest::booted(test::load_model(file))), kernel(guest.model, nullptr) {
    refresh(kernel, guest);
    guest.poke("jiffies", kNow);
    raw::clocksource ticks{};
    ticks.mult = 4'000'000U << 8;  // HZ is 250
    ticks.shift = 8;
    guest.memory.write(guest.phys_of("clocksource_jiffies"), std::as_bytes(std::span(&ticks, 1)));
    guest.poke("nr_node_ids", 1);
    guest.memory.write_u64(guest.phys_of(state), 3);
    if (std::string_view(file) == "scx.vmlinux") guest.poke("scx_root", 0);
    for (unsigned cpu = 0; cpu < 2; ++cpu) write_queue(cpu);
  }

  std::uint64_t queue_of(unsigned cpu) const {
    return guest.area_offset(cpu) + guest.link("runqueues");
  }
  std::uint64_t local_of(unsigned cpu) const {
    return queue_of(cpu) + offsetof(raw::rq, scx) + offsetof(raw::scx_rq, local_dsq);
  }
  std::uint64_t runnable_of(unsigned cpu) const {
    return queue_of(cpu) + offsetof(raw::rq, scx) + offsetof(raw::scx_rq, runnable_list);
  }
  static std::uint64_t queue_node(std::uint64_t task) {
    return task + offsetof(raw::task_struct, scx) + offsetof(raw::sched_ext_entity, dsq_list);
  }
  static std::uint64_t runnable_node(std::uint64_t task) {
    return task + offsetof(raw::task_struct, scx) + offsetof(raw::sched_ext_entity, runnable_node);
  }

  /// A task that waits since then, in a queue or (0) in none.
  std::uint64_t put_task(int pid, const char* comm, std::uint64_t since, std::uint64_t queue = 0,
                         std::uint64_t vtime = 0) {
    raw::task_struct task{};
    task.base.pid = task.base.tgid = pid;
    task.base.sched_class = guest.link("ext_sched_class") + guest.where.slide;
    std::strncpy(task.base.comm, comm, sizeof task.base.comm);
    task.scx.dsq = queue;
    task.scx.flags = 1 | 0x400;
    task.scx.weight = 100;
    task.scx.slice = 20'000'000;
    task.scx.dsq_vtime = vtime;
    task.scx.sticky_cpu = -1;
    task.scx.ops_state.counter = 7 << 2 | (queue == 0 ? 2 : 0);
    task.scx.runnable_at = since;
    return guest.put(task);
  }
  /// Links nodes into a ring; gives what the head's `next` is to say.
  std::uint64_t ring(std::uint64_t head, const std::vector<std::uint64_t>& nodes) {
    for (std::size_t i = 0; i < nodes.size(); ++i)
      guest.write_u64(nodes[i], i + 1 < nodes.size() ? nodes[i + 1] : head);
    return nodes.empty() ? head : nodes.front();
  }
  raw::scx_dispatch_q queue(std::uint64_t at, std::uint64_t id,
                            const std::vector<std::uint64_t>& tasks) {
    std::vector<std::uint64_t> nodes;
    for (const std::uint64_t task : tasks) nodes.push_back(queue_node(task));
    raw::scx_dispatch_q made{};
    made.id = id;
    made.nr = static_cast<std::uint32_t>(tasks.size());
    made.list.next = ring(at + offsetof(raw::scx_dispatch_q, list), nodes);
    return made;
  }
  void write_queue(unsigned cpu, const std::vector<std::uint64_t>& local = {},
                   const std::vector<std::uint64_t>& runnable = {}, std::uint64_t current = 0) {
    raw::rq rq{};
    rq.base.cpu = cpu;
    rq.base.curr = current;
    rq.scx.flags = 1;
    rq.scx.nr_running = static_cast<std::uint32_t>(runnable.size());
    rq.scx.local_dsq = queue(local_of(cpu), kLocal, local);
    std::vector<std::uint64_t> nodes;
    for (const std::uint64_t task : runnable) nodes.push_back(runnable_node(task));
    rq.scx.runnable_list.next = ring(runnable_of(cpu), nodes);
    guest.write_object(queue_of(cpu), rq);
  }

  std::uint64_t put_text(const char* text) {
    const std::uint64_t at = guest.allocate(std::strlen(text) + 1);
    guest.write(at, std::as_bytes(std::span(text, std::strlen(text) + 1)));
    return at;
  }
  /// A scheduler with one global queue, and those of its own.
  std::uint64_t put_scheduler(const std::vector<std::uint64_t>& global,
                              const std::vector<std::uint64_t>& own_queues) {
    const std::uint64_t node = guest.allocate(sizeof(raw::scx_sched_pnode));
    raw::scx_sched_pnode pnode{};
    pnode.global_dsq = queue(node + offsetof(raw::scx_sched_pnode, global_dsq), kGlobal, global);
    guest.write_object(node, pnode);
    raw::bucket_table table{};
    table.size = 4;
    for (std::size_t i = 0; i < own_queues.size(); ++i) {
      // Two to a bucket: the first two are a chain, which ends in an odd value.
      const std::uint64_t link = own_queues[i] + offsetof(raw::scx_dispatch_q, hash_node);
      guest.write_u64(link, i % 2 == 0 && i + 1 < own_queues.size()
                                ? own_queues[i + 1] + offsetof(raw::scx_dispatch_q, hash_node)
                                : 0xff1);
      if (i % 2 == 0) table.buckets[i / 2] = link | 1;
    }
    raw::scx_sched sched{};
    std::strcpy(sched.ops.name, "queues");
    sched.ops.flags = 8;
    sched.dsq_hash.tbl = guest.put(table);
    sched.pnode = guest.put(node);
    sched.pcpu = 0x3000;
    for (unsigned cpu = 0; cpu < 2; ++cpu) {
      const std::uint64_t at = guest.area_offset(cpu) + sched.pcpu;
      raw::scx_sched_pcpu pcpu{};
      pcpu.event_stats = {.SCX_EV_SELECT_CPU_FALLBACK = 10 + cpu,
                          .SCX_EV_BYPASS_DURATION = cpu == 0 ? ~0ULL : 0};
      pcpu.bypass_dsq = queue(at + offsetof(raw::scx_sched_pcpu, bypass_dsq), kBypass, {});
      guest.write_object(at, pcpu);
    }
    sched.watchdog_timeout = 1000;
    sched.cgrp_path = put_text("/a/b");
    sched.exit_info = guest.put(raw::scx_exit_info{});
    const std::uint64_t at = guest.put(sched);
    const std::uint64_t head = guest.link("scx_sched_all") + guest.where.slide;
    const std::uint64_t link = at + offsetof(raw::scx_sched, all);
    guest.write_u64(link, head);
    guest.poke("scx_sched_all", link);
    guest.poke("scx_root", at);
    guest.memory.write_u64(guest.phys_of("scx_enable_state_var"), 1);
    return at;
  }
  std::uint64_t put_own(std::uint64_t id, const std::vector<std::uint64_t>& tasks,
                        bool priority = false) {
    const std::uint64_t at = guest.allocate(sizeof(raw::scx_dispatch_q));
    raw::scx_dispatch_q made = queue(at, id, tasks);
    if (priority) made.priq.rb_node = 0x1234;
    guest.write_object(at, made);
    return at;
  }

  ScxReport read() {
    auto report = kernel.scx(guest.memory);
    if (!report) FAIL(report.error().to_string());
    return *std::move(report);
  }

  MiniGuest guest;
  GuestKernel kernel;
};

template <typename T>
T value(const Facts& facts, std::string_view path) {
  const FactValue* found = find_fact(facts, path);
  REQUIRE_MESSAGE(found != nullptr, std::string(path));
  const T* as = std::get_if<T>(&found->get());
  REQUIRE_MESSAGE(as != nullptr, std::string(path));
  return *as;
}
std::string text(const Facts& facts, std::string_view path) {
  return value<std::string>(facts, path);
}
std::uint64_t number(const Facts& facts, std::string_view path) {
  return value<std::uint64_t>(facts, path);
}
bool is_null(const Facts& facts, std::string_view path) {
  return std::holds_alternative<std::monostate>(find_fact(facts, path)->get());
}
Facts item(const Facts& facts, std::string_view list, std::size_t index) {
  return std::get<Facts>(value<FactList>(facts, list).at(index).get());
}
/// "3 7": who is in a queue.
std::string pids(const Facts& queue) {
  std::string all;
  for (const FactValue& task : value<FactList>(queue, "tasks"))
    all += (all.empty() ? "" : " ") +
           std::to_string(value<std::int64_t>(std::get<Facts>(task.get()), "pid"));
  return all;
}
/// The queue of that name, which there must be.
Facts queue_named(const ScxReport& report, std::string_view name, std::size_t nth = 0) {
  for (const FactValue& each : value<FactList>(report.facts, "dsqs")) {
    const Facts& facts = std::get<Facts>(each.get());
    if (text(facts, "name") == name && nth-- == 0) return facts;
  }
  FAIL("no such queue");
  return {};
}

TEST_CASE("a kernel without sched_ext says so and nothing else") {
  MiniGuest guest = MiniGuest::booted(test::load_model());
  GuestKernel kernel(guest.model, nullptr);
  refresh(kernel, guest);
  const auto report = kernel.scx(guest.memory);
  REQUIRE(report);
  CHECK_FALSE(report->supported);
  CHECK(report->facts.empty());
  CHECK(report->problems.empty());
}

TEST_CASE_FIXTURE(ScxGuest, "without a scheduler there are the CPUs' own queues") {
  guest.poke("scx_nr_rejected", 4);
  guest.poke("scx_enable_seq", 6);
  const ScxReport report = read();
  CHECK(report.supported);
  CHECK(report.problems.empty());
  CHECK(text(report.facts, "state") == "disabled");
  CHECK(is_null(report.facts, "ops"));
  CHECK(is_null(report.facts, "exit"));
  CHECK(number(report.facts, "nr_rejected") == 4);
  CHECK(number(report.facts, "enable_seq") == 6);
  CHECK(find_fact(report.facts, "events") == nullptr);
  CHECK(value<FactList>(report.facts, "dsqs").size() == 2);
  CHECK(number(queue_named(report, "local", 1), "cpu") == 1);
}

TEST_CASE_FIXTURE(ScxGuest, "every queue has its tasks in order, wherever it lies") {
  const auto a = put_task(11, "a", kNow - 1), b = put_task(12, "b", kNow);
  const auto c = put_task(13, "c", kNow), d = put_task(14, "d", kNow, 0, 300);
  const auto e = put_task(15, "e", kNow), f = put_task(16, "f", kNow);
  write_queue(0, {a, b});
  put_scheduler({c}, {put_own(0x55, {d, e}, true), put_own(0x77, {}), put_own(0x99, {f})});
  const ScxReport report = read();
  CHECK(report.problems.empty());
  CHECK(text(report.facts, "state") == "enabled");
  CHECK(text(report.facts, "ops") == "queues");
  CHECK(pids(queue_named(report, "local")) == "11 12");
  CHECK(pids(queue_named(report, "global")) == "13");
  CHECK(number(queue_named(report, "global"), "node") == 0);
  CHECK(pids(queue_named(report, "0x55")) == "14 15");
  CHECK(text(queue_named(report, "0x55"), "order") == "vtime");
  CHECK(number(item(queue_named(report, "0x55"), "tasks", 0), "vtime") == 300);
  CHECK(pids(queue_named(report, "0x77")).empty());
  CHECK(pids(queue_named(report, "0x99")) == "16");
  CHECK(text(queue_named(report, "0x99"), "order") == "fifo");
  CHECK(number(queue_named(report, "bypass", 1), "cpu") == 1);
}

TEST_CASE_FIXTURE(ScxGuest, "events are summed over the CPUs, wrapping as the kernel's do") {
  put_scheduler({}, {});
  const ScxReport report = read();
  CHECK(value<std::int64_t>(report.facts, "events.select_cpu_fallback") == 21);
  CHECK(value<std::int64_t>(report.facts, "events.bypass_duration") == -1);
  CHECK(text(item(report.facts, "schedulers", 0), "ops") == "queues");
  CHECK(text(item(report.facts, "schedulers", 0), "cgroup") == "/a/b");
  CHECK(number(report.facts, "nr_schedulers") == 1);
  CHECK(number(report.facts, "watchdog_timeout_ns") == 4'000'000'000);
}

TEST_CASE_FIXTURE(ScxGuest, "who has waited longest is told, not who stands first") {
  const auto late = put_task(21, "late", kNow - 10);
  const auto early = put_task(22, "quote\"\n\xff", kNow - 250);
  write_queue(1, {}, {late, early});
  put_scheduler({}, {});
  const ScxReport report = read();
  CHECK(report.problems.empty());
  CHECK(is_null(item(report.facts, "cpus", 0), "oldest_runnable"));
  const Facts cpu = item(report.facts, "cpus", 1);
  CHECK(number(cpu, "nr_running") == 2);
  CHECK(value<std::int64_t>(cpu, "oldest_runnable.pid") == 22);
  CHECK(text(cpu, "oldest_runnable.comm") == "quote\"\n\xff");
  CHECK(number(cpu, "oldest_runnable.waiting_ns") == 1'000'000'000);
  CHECK(value<std::int64_t>(cpu, "oldest_runnable.stall_in_ns") == 3'000'000'000);
  CHECK(is_null(cpu, "oldest_runnable.dsq"));
  CHECK(text(cpu, "oldest_runnable.ops_state") == "queued");
}

TEST_CASE_FIXTURE(ScxGuest, "how a scheduler ended is told while it is on its way out") {
  const std::uint64_t at = put_scheduler({}, {});
  raw::scx_exit_info exit{};
  exit.kind = 1026;
  exit.exit_code = static_cast<std::uint64_t>(-5);
  exit.reason = put_text("runnable task stall");
  const std::uint64_t info = guest.put(exit);
  guest.write_u64(at + offsetof(raw::scx_sched, exit_info), info);
  const ScxReport report = read();
  CHECK(report.problems.empty());
  CHECK(text(report.facts, "exit.kind") == "error_stall");
  CHECK(text(report.facts, "exit.ops") == "queues");
  CHECK(value<std::int64_t>(report.facts, "exit.exit_code") == -5);
  CHECK(text(report.facts, "exit.reason") == "runnable task stall");
  CHECK(is_null(report.facts, "exit.message"));
}

TEST_CASE_FIXTURE(ScxGuest, "an iterator's place in a queue is no task") {
  const auto a = put_task(31, "a", kNow), b = put_task(33, "b", kNow);
  const auto place = put_task(32, "iterator", kNow);
  guest.write_u64(queue_node(place) + offsetof(raw::scx_dsq_list_node, flags), 1);
  write_queue(0, {a, place, b});
  CHECK(pids(queue_named(read(), "local")) == "31 33");
}

TEST_CASE_FIXTURE(ScxGuest,
                  "a list that leads back into itself, or to nothing, ends with a problem") {
  const auto a = put_task(41, "a", kNow), b = put_task(42, "b", kNow);
  write_queue(0, {a, b});
  guest.write_u64(queue_node(b), queue_node(a));
  const auto c = put_task(43, "c", kNow);
  write_queue(1, {c});
  guest.write_u64(queue_node(c), 0xffffc12300000000);
  const ScxReport report = read();
  CHECK(pids(queue_named(report, "local", 0)) == "41 42");
  CHECK(pids(queue_named(report, "local", 1)) == "43");
  REQUIRE(report.problems.list().size() == 2);
  for (const Problem& problem : report.problems.list()) {
    const bool first = problem.at == "dsqs[0].tasks";
    CHECK((first || problem.at == "dsqs[1].tasks"));
    CHECK(problem.error.code == (first ? ErrorCode::kCorrupt : ErrorCode::kNotMapped));
  }
}

TEST_CASE_FIXTURE(ScxGuest, "a list that goes on for ever is given up") {
  std::vector<std::uint64_t> many;
  for (int i = 0; i < 3000; ++i) many.push_back(put_task(1000 + i, "many", kNow));
  write_queue(0, many);
  const ScxReport report = read();
  CHECK(number(queue_named(report, "local"), "nr") == 3000);
  CHECK(value<FactList>(queue_named(report, "local"), "tasks").size() == 1024);
  REQUIRE(report.problems.list().size() == 1);
  CHECK(report.problems.list()[0].error.message == "the list does not end");
  CHECK(guest.memory.exchanges < 1500);
}

TEST_CASE_FIXTURE(ScxGuest, "a hash table that lies about its size costs the user's queues only") {
  const std::uint64_t at = put_scheduler({put_task(51, "a", kNow)}, {put_own(0x55, {})});
  raw::bucket_table table{};
  for (const std::uint32_t size : {0U, 3U, 1U << 31}) {
    table.size = size;
    guest.write_u64(at + offsetof(raw::scx_sched, dsq_hash) + offsetof(raw::rhashtable, tbl),
                    guest.put(table));
    const ScxReport report = read();
    CHECK(pids(queue_named(report, "global")) == "51");
    REQUIRE(report.problems.list().size() == 1);
    CHECK(report.problems.list()[0].at == "dsqs");
  }
}

TEST_CASE_FIXTURE(ScxGuest, "chains of the hash table that lead back end") {
  const std::uint64_t own = put_own(0x55, {});
  put_scheduler({}, {own});
  const std::uint64_t node = own + offsetof(raw::scx_dispatch_q, hash_node);
  guest.write_u64(node, node);
  const ScxReport report = read();
  CHECK(text(queue_named(report, "0x55"), "id") == "0x55");
  // Local, bypass and global queues, and that one.
  CHECK(value<FactList>(report.facts, "dsqs").size() == 2 + 2 + 1 + 1);
}

TEST_CASE_FIXTURE(ScxGuest, "a ring of schedulers that does not come back is a problem") {
  const std::uint64_t at = put_scheduler({}, {});
  const std::uint64_t other = put_scheduler({}, {});
  guest.poke("scx_root", at);
  guest.write_u64(at + offsetof(raw::scx_sched, all), other + offsetof(raw::scx_sched, all));
  guest.write_u64(other + offsetof(raw::scx_sched, all), other + offsetof(raw::scx_sched, all));
  const ScxReport report = read();
  CHECK(number(report.facts, "nr_schedulers") == 2);
  REQUIRE(report.problems.list().size() == 1);
  CHECK(report.problems.list()[0].at == "schedulers");
}

TEST_CASE_FIXTURE(ScxGuest, "lists are followed side by side, not one after another") {
  std::vector<std::uint64_t> first, second;
  for (int i = 0; i < 10; ++i) {
    first.push_back(put_task(100 + i, "a", kNow));
    second.push_back(put_task(200 + i, "b", kNow));
  }
  write_queue(0, first);
  const std::size_t before_one = guest.memory.exchanges;
  read();
  const std::size_t one = guest.memory.exchanges - before_one;
  write_queue(1, second);
  const std::size_t before_two = guest.memory.exchanges;
  read();
  CHECK(guest.memory.exchanges - before_two == one);
}

/// What add_scx_tasks() makes of the queues, as if nobody had read any task yet.
struct AddGuest : ScxGuest {
  std::vector<RunQueue> add(Problems& problems) {
    test::ScopeOf scope(guest);
    auto list = read_run_queues(scope.context, false);
    if (!list) FAIL(list.error().to_string());
    for (RunQueue& queue : list->run_queues) queue.tasks.clear();
    add_scx_tasks(scope.context, list->run_queues, problems);
    return std::move(list->run_queues);
  }
};

TEST_CASE_FIXTURE(AddGuest, "a run queue has who runs, who is next, and who waits elsewhere") {
  const std::uint64_t own = put_own(0x55, {});
  const auto runs = put_task(61, "runs", kNow), next = put_task(62, "next", kNow - 1, local_of(0));
  const auto queued = put_task(63, "queued", kNow - 25, own), kept = put_task(64, "kept", kNow);
  // Who runs is in no list: its node points to itself.
  guest.write_u64(runnable_node(runs), runnable_node(runs));
  write_queue(0, {next}, {queued, next, kept}, runs);
  Problems problems;
  const auto queues = add(problems);
  CHECK(problems.empty());
  REQUIRE(queues[0].tasks.size() == 4);
  CHECK(queues[1].tasks.empty());
  const auto& tasks = queues[0].tasks;
  CHECK(tasks[0].current);
  CHECK(find_fact(tasks[0].facts, "runnable_for_ns") == nullptr);
  std::vector<std::int64_t> order;
  for (const QueuedTask& task : tasks) order.push_back(task.task.pid);
  CHECK(order == std::vector<std::int64_t>{61, 62, 63, 64});
  CHECK_FALSE(tasks[1].current);
  CHECK(text(tasks[1].facts, "dsq") == "local");
  CHECK(text(tasks[2].facts, "dsq") == "0x55");
  CHECK(is_null(tasks[3].facts, "dsq"));
  CHECK(number(tasks[2].facts, "runnable_for_ns") == 100'000'000);
  CHECK(number(tasks[2].facts, "slice_ns") == 20'000'000);
  CHECK(number(tasks[2].facts, "weight") == 100);
  CHECK(value<std::int64_t>(tasks[2].facts, "sticky_cpu") == -1);
  CHECK(text(tasks[3].facts, "ops_state") == "queued");
  CHECK(text(tasks[3].facts, "scx_state") == "enabled");
  REQUIRE(value<FactList>(tasks[3].facts, "flags").size() == 1);
  CHECK(std::get<std::string>(value<FactList>(tasks[3].facts, "flags")[0].get()) == "queued");
  const FactList flags = value<FactList>(queues[0].figures, "scx.flag_names");
  REQUIRE(flags.size() == 1);
  CHECK(std::get<std::string>(flags[0].get()) == "online");
}

TEST_CASE_FIXTURE(AddGuest, "a task that is gone is a problem of its queue, and the others stay") {
  const auto good = put_task(71, "good", kNow);
  write_queue(0, {good}, {good});
  guest.write_u64(runnable_node(good), 0xffffc12300000000);
  Problems problems;
  const auto queues = add(problems);
  CHECK(queues[0].tasks.size() == 1);
  REQUIRE(problems.list().size() == 1);
  CHECK(problems.list()[0].at == "runqueues[0].tasks");
}

TEST_CASE_FIXTURE(ScxGuest, "what the answer has no room for is null, and one problem says so") {
  write_queue(0, {}, {put_task(81, "a", kNow), put_task(82, "b", kNow)});
  put_scheduler({}, {});
  const std::uint64_t mask = guest.put(mini::cpumask{.bits = {0b11}});
  guest.write_u64(queue_of(1) + offsetof(raw::rq, scx) + offsetof(raw::scx_rq, cpus_to_kick), mask);
  ScxReport report = read();
  CHECK(report.problems.empty());
  CHECK(number(report.facts, "nr_schedulers") == 1);
  const FactList kicks = value<FactList>(item(report.facts, "cpus", 1), "kicks.kick");
  REQUIRE(kicks.size() == 2);
  CHECK(std::get<std::uint64_t>(kicks[1].get()) == 1);
  CHECK(value<Facts>(item(report.facts, "cpus", 0), "kicks").empty());

  // Room for the two queues' flags ("online"), and not for two CPUs that are kicked.
  test::ScopeOf small(guest, AnswerBudget(2 * (sizeof(FactValue) + 6) + sizeof(FactValue)));
  auto cut = read_scx(small.context);
  REQUIRE(cut);
  CHECK(value<FactList>(item(cut->facts, "cpus", 1), "flags").size() == 1);
  CHECK(is_null(item(cut->facts, "cpus", 1), "kicks.kick"));
  REQUIRE(cut->problems.list().size() == 1);
  CHECK(cut->problems.list()[0].at == "scx");
}

TEST_CASE_FIXTURE(ScxGuest, "enabled without a scheduler is a problem and not silence") {
  guest.memory.write_u64(guest.phys_of("scx_enable_state_var"), 1);
  const ScxReport report = read();
  CHECK(is_null(report.facts, "ops"));
  REQUIRE(report.problems.list().size() == 1);
  CHECK(report.problems.list()[0].at == "ops");
  guest.memory.write_u64(guest.phys_of("scx_enable_state_var"), 2);  // it is on its way out
  CHECK(read().problems.empty());
}

/// A kernel that has room for one scheduler, in variables.
struct StaticGuest : ScxGuest {
  StaticGuest() : ScxGuest("scx-static.vmlinux", "scx_ops_enable_state_var") {
    guest.memory.write_u64(guest.phys_of("scx_ops"), 0);
  }

  template <typename T>
  void poke_object(const char* symbol, const T& object) {
    guest.memory.write(guest.phys_of(symbol), std::as_bytes(std::span(&object, 1)));
  }
  void load(const char* name, std::uint64_t global, std::uint64_t own) {
    raw::sched_ext_ops ops{};
    ops.flags = 8;
    std::strcpy(ops.name, name);
    poke_object("scx_ops", ops);
    raw::bucket_table table{};
    table.size = 4;
    table.buckets[2] = (own + offsetof(raw::scx_dispatch_q, hash_node)) | 1;
    guest.write_u64(own + offsetof(raw::scx_dispatch_q, hash_node), 0xff1);
    raw::rhashtable hash{};
    hash.tbl = guest.put(table);
    poke_object("dsq_hash", hash);
    guest.poke("global_dsqs", guest.put(global));
    info = guest.put(raw::scx_exit_info{});
    guest.poke("scx_exit_info", info);
    guest.poke("scx_watchdog_timeout", 1000);
    for (unsigned cpu = 0; cpu < 2; ++cpu)
      guest.write_object(
          guest.area_offset(cpu) + guest.link("event_stats_cpu"),
          raw::scx_event_stats{.SCX_EV_SELECT_CPU_FALLBACK = 3, .SCX_EV_BYPASS_DURATION = cpu});
    guest.memory.write_u64(guest.phys_of("scx_ops_enable_state_var"), 1);
  }

  std::uint64_t info = 0;
};

TEST_CASE_FIXTURE(StaticGuest, "a scheduler that is in variables has its name, queues and events") {
  const auto a = put_task(91, "a", kNow), b = put_task(92, "b", kNow);
  load("only", put_own(kGlobal, {a}), put_own(0x77, {b}));
  ScxReport report = read();
  CHECK(report.problems.empty());
  CHECK(text(report.facts, "state") == "enabled");
  CHECK(text(report.facts, "ops") == "only");
  REQUIRE(value<FactList>(report.facts, "flags").size() == 1);
  CHECK(pids(queue_named(report, "global")) == "91");
  CHECK(number(queue_named(report, "global"), "node") == 0);
  CHECK(pids(queue_named(report, "0x77")) == "92");
  CHECK(value<std::int64_t>(report.facts, "events.select_cpu_fallback") == 6);
  CHECK(number(report.facts, "watchdog_timeout_ns") == 4'000'000'000);
  CHECK(number(report.facts, "nr_schedulers") == 1);
  CHECK(is_null(report.facts, "exit"));
  raw::scx_exit_info exit{};
  exit.kind = 1024;
  exit.msg = put_text("broke");
  guest.write_object(info, exit);
  report = read();
  CHECK(text(report.facts, "exit.kind") == "error");
  CHECK(text(report.facts, "exit.message") == "broke");
}

TEST_CASE_FIXTURE(StaticGuest, "variables of a scheduler that is disabled say nothing") {
  load("only", put_own(kGlobal, {}), put_own(0x77, {}));
  guest.memory.write_u64(guest.phys_of("scx_ops_enable_state_var"), 3);
  const ScxReport report = read();
  CHECK(is_null(report.facts, "ops"));
  CHECK(report.problems.empty());
  CHECK(value<FactList>(report.facts, "dsqs").size() == 2);
}

}  // namespace
}  // namespace guestscope
