// What waits on run queues: trees, lists and groups of a kernel in miniature, whole and damaged.
#include <doctest/doctest.h>

#include <set>

#include "introspect/run_queues.h"
#include "tests/support/sched_context.h"

namespace guestscope {
namespace {

using test::MiniGuest;
using test::refresh;
using Addresses = std::vector<std::uint64_t>;
using Pids = std::vector<std::int64_t>;

constexpr std::uint64_t kSe = offsetof(mini::task_struct, se);
constexpr std::uint64_t kRt = offsetof(mini::task_struct, rt);
constexpr std::uint64_t kDl = offsetof(mini::task_struct, dl);
constexpr std::uint64_t kRunNode = offsetof(mini::sched_entity, run_node);
constexpr std::uint64_t kLeft = offsetof(mini::rb_node, rb_left);
constexpr std::uint64_t kRight = offsetof(mini::rb_node, rb_right);
constexpr std::uint64_t kUnmapped = 0xffffc12300000000;

struct Scheduler {
  Scheduler() : guest(MiniGuest::booted(test::load_model())), kernel(guest.model, nullptr) {
    refresh(kernel, guest);
    for (const unsigned cpu : {0U, 1U}) {
      queues[cpu].cpu = cpu;
      queues[cpu].idle = queues[cpu].curr = put(task("swapper", 0, "idle_sched_class", cpu));
      empty_lists(queues[cpu].rt, rq(cpu) + offsetof(mini::rq, rt));
    }
  }

  std::uint64_t rq(unsigned cpu) const { return guest.area_offset(cpu) + guest.link("runqueues"); }

  mini::task_struct task(std::string_view comm, int pid, const std::string& sched_class,
                         unsigned cpu = 0) const {
    mini::task_struct made{};
    made.pid = made.tgid = pid;
    made.prio = 120;
    made.cpu = cpu;
    made.on_rq = 1;
    made.sched_class = guest.link(sched_class) + guest.where.slide;
    made.se.on_rq = 1;
    made.se.load.weight = 1 << 20;
    comm.copy(made.comm, sizeof made.comm);
    return made;
  }
  std::uint64_t put(const mini::task_struct& made) { return guest.put(made); }
  /// A fair task with that virtual time, in that queue.
  std::uint64_t fair(int pid, std::uint64_t vruntime, std::uint64_t cfs_rq = 0, unsigned cpu = 0) {
    mini::task_struct made = task("t", pid, "fair_sched_class", cpu);
    made.se.vruntime = vruntime;
    made.se.cfs_rq = cfs_rq;
    return put(made);
  }

  /// Links nodes, in order, to a balanced tree; its root.
  std::uint64_t tree(std::span<const std::uint64_t> nodes) {
    if (nodes.empty()) return 0;
    const std::size_t middle = nodes.size() / 2;
    guest.write_u64(nodes[middle] + kLeft, tree(nodes.first(middle)));
    guest.write_u64(nodes[middle] + kRight, tree(nodes.subspan(middle + 1)));
    return nodes[middle];
  }
  std::uint64_t tree_of(Addresses entities, std::uint64_t node) {
    for (std::uint64_t& entity : entities) entity += node;
    return tree(entities);
  }
  void fair_tree(unsigned cpu, const Addresses& tasks) {
    queues[cpu].cfs.tasks_timeline.rb_root.rb_node = tree_of(tasks, kSe + kRunNode);
  }

  static void empty_lists(mini::rt_rq& queue, std::uint64_t at) {
    for (std::size_t i = 0; i < std::size(queue.active.queue); ++i)
      queue.active.queue[i] = {head(at, i), head(at, i)};
  }
  static std::uint64_t head(std::uint64_t rt_rq, std::size_t priority) {
    return rt_rq + offsetof(mini::rt_rq, active.queue) + priority * sizeof(mini::list_head);
  }
  /// Links entities to the list of a priority.
  void rt_list(mini::rt_rq& queue, std::uint64_t at, std::size_t priority,
               const Addresses& entities) {
    queue.active.queue[priority].next = entities.front();
    for (std::size_t i = 0; i < entities.size(); ++i)
      guest.write_u64(entities[i], i + 1 < entities.size() ? entities[i + 1] : head(at, priority));
  }

  RunQueueList read(bool with_tasks = true) {
    for (const unsigned cpu : {0U, 1U}) guest.write_object(rq(cpu), queues[cpu]);
    auto list = kernel.run_queues(guest.memory, with_tasks);
    if (!list) FAIL(list.error().to_string());
    return *std::move(list);
  }

  MiniGuest guest;
  GuestKernel kernel;
  mini::rq queues[2]{};
};

Pids pids(const RunQueue& queue) {
  Pids found;
  for (const QueuedTask& task : queue.tasks) found.push_back(task.task.pid);
  return found;
}

template <typename T = std::uint64_t>
std::optional<T> fact(const QueuedTask& task, std::string_view name) {
  const FactValue* value = find_fact(task.facts, name);
  const T* found = value == nullptr ? nullptr : std::get_if<T>(&value->get());
  return found == nullptr ? std::nullopt : std::optional(*found);
}

TEST_CASE_FIXTURE(Scheduler, "fair tasks are in the order of their tree, the current one first") {
  fair_tree(0, {fair(11, 100), fair(12, 200), fair(13, 300), fair(14, 400)});
  const std::uint64_t current = fair(15, 250);
  queues[0].curr = current;
  queues[0].cfs.curr = current + kSe;
  const RunQueueList list = read();
  CHECK(list.problems.empty());
  CHECK(pids(list.run_queues[0]) == Pids{15, 11, 12, 13, 14});
  const auto& tasks = list.run_queues[0].tasks;
  CHECK(tasks[0].current);
  CHECK_FALSE(tasks[1].current);
  CHECK(list.run_queues[0].curr->pid == 15);
  CHECK(fact(tasks[0], "vruntime") == 250);
  CHECK(fact(tasks[3], "vruntime") == 300);
  CHECK(fact(tasks[3], "load_weight") == 1 << 20);
  CHECK(fact<bool>(tasks[3], "delayed") == false);
  CHECK(pids(list.run_queues[1]) == Pids{0});  // the idle task, which runs
  CHECK(list.run_queues[1].tasks[0].current);
}

TEST_CASE_FIXTURE(Scheduler, "who has had more than its share is not eligible") {
  fair_tree(0, {fair(11, 100), fair(12, 200)});
  queues[0].cfs.min_vruntime = 100;
  queues[0].cfs.avg_vruntime = 100 * 1024;
  queues[0].cfs.avg_load = 2048;
  RunQueueList list = read();
  CHECK(fact<bool>(list.run_queues[0].tasks[0], "eligible") == true);
  CHECK(fact<bool>(list.run_queues[0].tasks[1], "eligible") == false);
  queues[0].cfs.avg_load = 1024;  // as if the kernel were just adding one
  list = read();
  CHECK_FALSE(fact<bool>(list.run_queues[0].tasks[0], "eligible"));
}

struct Groups : Scheduler {
  std::uint64_t text(std::string_view name) {
    const std::uint64_t at = guest.allocate(name.size() + 1);
    guest.write(at, std::as_bytes(std::span(name)));
    return at;
  }
  std::uint64_t node(std::string_view name, std::uint64_t parent) {
    mini::kernfs_node made{};
    made.parent = parent;
    made.name = text(name);
    return guest.put(made);
  }
  std::uint64_t group(std::uint64_t node) {
    mini::cgroup cgroup{};
    cgroup.kn = node;
    mini::task_group made{};
    made.css.cgroup = guest.put(cgroup);
    return guest.put(made);
  }
  /// What stands for a group's queue in another queue.
  std::uint64_t stands_for(std::uint64_t cfs_rq) {
    mini::sched_entity made{};
    made.on_rq = 1;
    made.my_q = cfs_rq;
    return guest.put(made);
  }
  std::uint64_t cfs(unsigned cpu) const { return rq(cpu) + offsetof(mini::rq, cfs); }
  std::uint64_t put_queue(std::uint64_t group_at) {
    mini::cfs_rq made{};
    made.tg = group_at;
    return guest.put(made);
  }
  void set_tree(std::uint64_t cfs_rq, const Addresses& entities) {
    guest.write_u64(cfs_rq + offsetof(mini::cfs_rq, tasks_timeline), tree_of(entities, kRunNode));
  }
};

TEST_CASE_FIXTURE(Groups, "what is in a group takes the group's place and has its path") {
  const std::uint64_t root = node("", 0);
  const std::uint64_t outer = node("outer", root);
  const std::uint64_t outer_queue = put_queue(group(outer));
  const std::uint64_t inner_queue = put_queue(group(node("in\"ner", outer)));
  mini::task_group own{};
  mini::autogroup autogroup{};
  autogroup.id = 7;
  own.autogroup = guest.put(autogroup);
  const std::uint64_t auto_queue = put_queue(guest.put(own));
  queues[0].cfs.tg = group(root);

  set_tree(inner_queue, {fair(31, 1, inner_queue) + kSe, fair(32, 2, inner_queue) + kSe});
  set_tree(outer_queue, {fair(21, 1, outer_queue) + kSe, stands_for(inner_queue),
                         fair(22, 3, outer_queue) + kSe});
  set_tree(auto_queue, {fair(41, 1, auto_queue) + kSe});
  queues[0].cfs.tasks_timeline.rb_root.rb_node =
      tree_of({fair(11, 1, cfs(0)) + kSe, stands_for(outer_queue), stands_for(auto_queue),
               fair(12, 4, cfs(0)) + kSe},
              kRunNode);
  const RunQueueList list = read();
  CHECK(list.problems.empty());
  CHECK(pids(list.run_queues[0]) == Pids{11, 21, 31, 32, 22, 41, 12, 0});
  const auto& tasks = list.run_queues[0].tasks;
  CHECK(fact<std::string>(tasks[0], "group") == "/");
  CHECK(fact<std::string>(tasks[1], "group") == "/outer");
  CHECK(fact<std::string>(tasks[2], "group") == "/outer/in\"ner");
  CHECK(fact<std::string>(tasks[4], "group") == "/outer");
  CHECK(fact<std::string>(tasks[5], "group") == "/autogroup-7");
}

TEST_CASE_FIXTURE(Groups, "paths of groups that the answer has no room for are null") {
  queues[0].cfs.tg = group(node("four", node("", 0)));
  fair_tree(0, {fair(11, 1, cfs(0)), fair(12, 2, cfs(0)), fair(13, 3, cfs(0))});
  CHECK(read().problems.empty());
  test::ScopeOf small(guest, AnswerBudget(2 * 5 + 4));  // "/four" twice
  const auto list = read_run_queues(small.context, true);
  REQUIRE(list);
  REQUIRE(list->run_queues[0].tasks.size() == 4);
  CHECK(fact<std::string>(list->run_queues[0].tasks[1], "group") == "/four");
  CHECK(fact<std::monostate>(list->run_queues[0].tasks[2], "group"));
  REQUIRE(list->problems.list().size() == 1);
  CHECK(list->problems.list()[0].at == "runqueues");
}

TEST_CASE_FIXTURE(Scheduler, "tasks that may run on the same CPUs share the text that says so") {
  mini::task_struct made = task("t", 11, "fair_sched_class");
  made.cpus_mask.bits[0] = 0b11;
  const std::vector<GuestVirt> addresses = {GuestVirt(put(made)), GuestVirt(put(made)),
                                            GuestVirt(put(made))};
  const auto allowed = [&](AnswerBudget budget) {
    test::ScopeOf scope(guest, budget);
    std::vector<std::shared_ptr<const std::string>> texts;
    for (const auto& each : read_tasks(scope.context, addresses))
      texts.push_back(each->cpus_allowed.value());
    return texts;
  };
  const auto texts = allowed(AnswerBudget());
  CHECK(*texts[0] == "0-1");
  CHECK(texts[0] == texts[2]);
  const auto few = allowed(AnswerBudget(2 * 3));
  CHECK(few[1] != nullptr);
  CHECK(few[2] == nullptr);
}

TEST_CASE_FIXTURE(Groups, "where groups have no trees, a task's group is that of its own queue") {
  const std::uint64_t queue = put_queue(group(node("g", node("", 0))));
  fair_tree(0, {fair(11, 1, queue), fair(12, 2, cfs(0))});
  const RunQueueList list = read();
  CHECK(pids(list.run_queues[0]) == Pids{11, 12, 0});
  CHECK(fact<std::string>(list.run_queues[0].tasks[0], "group") == "/g");
  // The CPU's own queue has no group in this one.
  REQUIRE(list.problems.list().size() == 1);
  CHECK(list.problems.list()[0].at == "runqueues[0].tasks.group");
}

TEST_CASE_FIXTURE(Groups, "a group that leads back to a queue is a problem and is followed once") {
  queues[0].cfs.tg = group(node("", 0));
  const std::uint64_t queue = put_queue(queues[0].cfs.tg);
  set_tree(queue, {fair(21, 1, queue) + kSe, stands_for(queue), stands_for(cfs(0)),
                   fair(22, 4, queue) + kSe});
  queues[0].cfs.tasks_timeline.rb_root.rb_node =
      tree_of({stands_for(queue), fair(11, 2, cfs(0)) + kSe}, kRunNode);
  const RunQueueList list = read();
  CHECK(pids(list.run_queues[0]) == Pids{21, 22, 11, 0});
  REQUIRE(list.problems.list().size() == 2);
  CHECK(list.problems.list()[0].at == "runqueues[0].tasks");
  CHECK(list.problems.list()[0].error.message == "two groups have the same queue");
}

TEST_CASE_FIXTURE(Groups, "an entity that is current in the group that it stands for ends") {
  const std::uint64_t queue = put_queue(0);
  const std::uint64_t entity = stands_for(queue);
  guest.write_u64(queue + offsetof(mini::cfs_rq, curr), entity);
  queues[0].cfs.curr = entity;
  CHECK(pids(read().run_queues[0]) == Pids{0});
}

TEST_CASE_FIXTURE(Scheduler, "real-time tasks are by priority, then in the order of their list") {
  const auto rt = [&](int pid, std::uint32_t slice = 25) {
    mini::task_struct made = task("rt", pid, "rt_sched_class");
    made.rt.time_slice = slice;
    return put(made) + kRt;
  };
  mini::rt_rq group{};
  const std::uint64_t group_at = guest.put(group);
  empty_lists(group, group_at);
  rt_list(group, group_at, 50, {rt(41), rt(42)});
  guest.write_object(group_at, group);
  mini::sched_rt_entity stands{};
  stands.my_q = group_at;
  const std::uint64_t at = rq(0) + offsetof(mini::rq, rt);
  const std::uint64_t current = rt(31);
  queues[0].curr = current - kRt;
  rt_list(queues[0].rt, at, 80, {rt(11, 9), rt(12)});
  rt_list(queues[0].rt, at, 0, {current, guest.put(stands), rt(32)});
  const RunQueueList list = read();
  CHECK(pids(list.run_queues[0]) == Pids{31, 41, 42, 32, 11, 12});
  CHECK(list.run_queues[0].tasks[0].current);
  CHECK(fact(list.run_queues[0].tasks[4], "time_slice") == 9);
}

TEST_CASE_FIXTURE(Scheduler, "deadline tasks are in the order of their tree, without servers") {
  const auto dl = [&](int pid, bool server) {
    mini::task_struct made = task("dl", pid, "dl_sched_class");
    made.dl.runtime = static_cast<std::uint64_t>(-5);
    made.dl.deadline = static_cast<std::uint64_t>(pid) * 1000;
    made.dl.dl_period = 77;
    made.dl.dl_yielded = 1;
    made.dl.dl_server = server ? 1 : 0;
    return put(made) + kDl;
  };
  queues[0].dl.root.rb_root.rb_node = tree_of({dl(11, false), dl(12, true), dl(13, false)},
                                              offsetof(mini::sched_dl_entity, rb_node));
  // Runs, but has used up its time: it is in the tree no more.
  queues[0].curr = dl(14, false) - kDl;
  const RunQueueList list = read();
  CHECK(list.problems.empty());
  CHECK(pids(list.run_queues[0]) == Pids{14, 11, 13});
  CHECK(list.run_queues[0].tasks[0].current);
  CHECK(fact(list.run_queues[0].tasks[0], "deadline_ns") == 14000);
  CHECK(fact<std::int64_t>(list.run_queues[0].tasks[1], "runtime_ns") == -5);
  CHECK(fact(list.run_queues[0].tasks[1], "dl_period_ns") == 77);
  CHECK(fact<bool>(list.run_queues[0].tasks[1], "throttled") == false);
  CHECK(fact<bool>(list.run_queues[0].tasks[1], "yielded") == true);
}

TEST_CASE_FIXTURE(Scheduler, "classes are in the order in which the scheduler asks them") {
  const std::uint64_t realtime = put(task("rt", 31, "rt_sched_class"));
  rt_list(queues[0].rt, rq(0) + offsetof(mini::rq, rt), 5, {realtime + kRt});
  queues[0].stop = put(task("stop", 12, "stop_sched_class"));
  queues[0].dl.root.rb_root.rb_node = tree_of({put(task("dl", 21, "dl_sched_class")) + kDl}, 0);
  fair_tree(0, {fair(41, 5)});
  mini::task_struct sleeping = task("stop", 99, "stop_sched_class", 1);
  sleeping.on_rq = 0;
  queues[1].stop = put(sleeping);
  mini::cpuidle_state state{};
  std::string_view("C1E").copy(state.name, sizeof state.name);
  queues[1].idle_state = guest.put(state);
  const RunQueueList list = read();
  CHECK(pids(list.run_queues[0]) == Pids{12, 21, 31, 41, 0});
  CHECK(pids(list.run_queues[1]) == Pids{0});
  CHECK(std::get<std::string>(find_fact(list.run_queues[1].figures, "idle_state")->get()) == "C1E");
  CHECK(find_fact(list.run_queues[0].figures, "idle_state") == nullptr);
}

TEST_CASE_FIXTURE(Scheduler, "a tree that leads back into itself, or into another, is read once") {
  const Addresses tasks = {fair(11, 1), fair(12, 2), fair(13, 3)};
  fair_tree(0, tasks);
  const std::uint64_t root = tasks[1] + kSe + kRunNode;
  guest.write_u64(tasks[0] + kSe + kRunNode + kLeft, root);
  queues[1].cfs.tasks_timeline.rb_root.rb_node = tasks[2] + kSe + kRunNode;
  const RunQueueList list = read();
  std::set<std::string> places;
  for (const Problem& problem : list.problems.list()) {
    places.insert(problem.at);
    CHECK(problem.error.code == ErrorCode::kCorrupt);
  }
  CHECK(list.problems.list().size() == 3);  // the third: task 13 says that it is on CPU 0
  CHECK(places == std::set<std::string>{"runqueues[0].tasks", "runqueues[1].tasks"});
  CHECK(pids(list.run_queues[0]) == Pids{11, 12, 0});
}

TEST_CASE_FIXTURE(Scheduler, "what lies behind a node that cannot be read is missing, no more") {
  const Addresses tasks = {fair(11, 1), fair(12, 2), fair(13, 3)};
  fair_tree(0, tasks);
  guest.write_u64(tasks[0] + kSe + kRunNode + kLeft, kUnmapped);
  guest.write_u64(tasks[2] + kSe + kRunNode + kRight, 8);  // no address of the kernel's
  const RunQueueList list = read();
  CHECK(pids(list.run_queues[0]) == Pids{11, 12, 13, 0});
  CHECK(list.problems.list().size() == 2);
}

TEST_CASE_FIXTURE(Scheduler, "a tree deeper than a tree can be is followed so far and no further") {
  std::uint64_t below = 0;
  for (int pid = 1000; pid > 0; --pid) {
    const std::uint64_t at = fair(pid, 1) + kSe + kRunNode;
    guest.write_u64(at + kRight, below);
    below = at;
  }
  queues[0].cfs.tasks_timeline.rb_root.rb_node = below;
  const RunQueueList list = read();
  CHECK(list.run_queues[0].tasks.size() == 65);  // and the idle task
  REQUIRE(list.problems.list().size() == 1);
  CHECK(list.problems.list()[0].error.message == "a tree of more than 64 levels");
}

TEST_CASE_FIXTURE(Scheduler, "fewer fair tasks than the queue counts are told to be incomplete") {
  fair_tree(0, {fair(11, 1), fair(12, 2)});
  queues[0].cfs.h_nr_running = 2;
  CHECK(read().problems.empty());
  queues[0].cfs.h_nr_running = 3;
  const RunQueueList list = read();
  CHECK(list.run_queues[0].tasks.size() == 3);  // and the idle task
  REQUIRE(list.problems.list().size() == 1);
  CHECK(list.problems.list()[0].at == "runqueues[0].tasks");
  CHECK(list.problems.list()[0].error.code == ErrorCode::kNotReady);
  CHECK(list.problems.list()[0].error.message ==
        "2 of 3 fair tasks: the kernel is just changing their tree");
}

TEST_CASE_FIXTURE(Scheduler, "a list that leads back into itself ends with a problem") {
  const Addresses entities = {put(task("a", 11, "rt_sched_class")) + kRt,
                              put(task("b", 12, "rt_sched_class")) + kRt};
  rt_list(queues[0].rt, rq(0) + offsetof(mini::rq, rt), 3, entities);
  guest.write_u64(entities[1], entities[0]);
  const RunQueueList list = read();
  CHECK(pids(list.run_queues[0]) == Pids{11, 12, 0});
  REQUIRE(list.problems.list().size() == 2);  // the other one: the queue has no group
  CHECK(list.problems.list()[0].error.message ==
        "its list leads to an entry that was there before");
}

TEST_CASE_FIXTURE(Scheduler, "a task that says that it is elsewhere is a problem and not listed") {
  fair_tree(0, {fair(11, 1), fair(12, 2, 0, 1)});
  const RunQueueList list = read();
  CHECK(pids(list.run_queues[0]) == Pids{11, 0});
  REQUIRE(list.problems.list().size() == 1);
  CHECK(list.problems.list()[0].error.message == "a task that says that it is on CPU 1");
}

TEST_CASE_FIXTURE(Scheduler, "a name is passed on byte by byte") {
  mini::task_struct made = task("q\"\n\xff\\", 11, "fair_sched_class");
  fair_tree(0, {put(made)});
  CHECK(read().run_queues[0].tasks[0].task.comm == "q\"\n\xff\\");
}

TEST_CASE_FIXTURE(Scheduler, "200 tasks cost an exchange for each level of the deeper tree") {
  for (const unsigned cpu : {0U, 1U}) {
    Addresses tasks;
    for (unsigned i = 0; i < 100; ++i)
      tasks.push_back(fair(static_cast<int>(cpu * 1000 + i + 1), i, 0, cpu));
    fair_tree(cpu, tasks);
  }
  std::size_t before = guest.memory.exchanges;
  const RunQueueList list = read();
  CHECK(list.run_queues[1].tasks.size() == 101);
  CHECK(guest.memory.exchanges - before == 10);  // online CPUs, queues, 7 levels, tasks
  before = guest.memory.exchanges;
  CHECK(read(false).run_queues[1].tasks.empty());
  CHECK(guest.memory.exchanges - before == 3);
}

}  // namespace
}  // namespace guestscope
