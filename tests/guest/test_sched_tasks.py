"""What waits on a CPU's run queue: tasks of every class that never sleep (programs/queued.c), against what the guest itself says of them."""

import re
import time
from fractions import Fraction

from harness import LiveTest, shared
from oracle import nanoseconds
from test_runqueues import SCHED_DEBUG

COMMS = {"left-1": 'q-left "1"', "left-2": "q\nleft\\2", "left-3": "q\ufffd\ufffdleft", "fifo-1": "q-fifo", "fifo-2": "q-fifo"}
POLICIES = {"batch": "batch", "left-3": "batch", "idle": "idle", "fifo-1": "fifo", "fifo-2": "fifo", "rr": "rr", "deadline": "deadline"}
NICE = {"low": 7, "high": -6, "batch": 2, "left-2": 3}
GROUPS = {"left-1": "/queued/left", "left-2": "/queued/left", "left-3": "/queued/left", "rr": "/queued/left", "deep": "/queued/right/deep"}
# Of a line of "runnable tasks": pid, virtual time (eligibility or a weight may stand before it) and, last, the group's path. The name
# in front of them may contain anything, newlines as well.
LINE = re.compile(r"\s(\d+)\s+(?:[EN]\s+|\d+\s+)?(\d+\.\d{6})\s.*?(/\S*)?\s*$")


def debug_tasks():
    """{pid: (virtual run time in ns, group)} of /sys/kernel/debug/sched/debug; the last path in a line is the group's."""
    found = {}
    for line in shared.guest.run(SCHED_DEBUG).splitlines():
        if match := LINE.search(line):
            found[int(match[1])] = (nanoseconds(match[2]), match[3])
    return found


def signed(virtual_time):
    """Kernels start them a millisecond before 0, or far below; the kernel itself compares by difference."""
    return virtual_time - (1 << 64) if virtual_time >> 63 else virtual_time


class QueuedTasks(LiveTest):
    @classmethod
    def setUpClass(cls):
        shared.daemon  # boots, when this is the first class
        shared.guest.busy(False)
        cls.cpu = shared.guest.cpus - 1
        lines = shared.guest.run(f"queued {cls.cpu}").splitlines()
        cls.pids = {name: int(pid) for name, pid in (line.split() for line in lines)}
        cls.names = {pid: name for name, pid in cls.pids.items()}
        cls.before = debug_tasks()
        cls.answers = [cls.whole_answer() for _ in range(12)]
        cls.after = debug_tasks()

    @staticmethod
    def whole_answer():
        """Stopped in the middle of a rotation, a tree lacks a branch, which is a problem: one in a thousand answers."""
        while True:
            answer = shared.daemon.get("/runqueues")
            if not any("just changing" in str(problem) for problem in answer.get("problems", [])):
                return answer

    @classmethod
    def tearDownClass(cls):
        shared.guest.run("kill -9 " + " ".join(map(str, cls.pids.values())))
        shared.guest.run("sleep 0.2; rmdir /sys/fs/cgroup/queued/left /sys/fs/cgroup/queued/right/deep /sys/fs/cgroup/queued/right"
                         " /sys/fs/cgroup/queued; true")

    def queues(self):
        for answer in self.answers:
            self.assertNotIn("problems", answer)
            yield answer["runqueues"][self.cpu]

    def ours(self):
        """{name: task} of each answer: what was started here and waits on its CPU."""
        for queue in self.queues():
            yield {self.names[task["pid"]]: task for task in queue["tasks"] if task["pid"] in self.names}

    def test_a_verdict_tells_a_long_queue_from_a_rule_that_holds(self):
        verdict = shared.daemon.get("/verdict?seconds=2&interval_ms=100&sustained=3")
        self.assertEqual(verdict["verdict"], "fail", verdict)
        worst = [violation for violation in verdict["violations"] if violation["rule"] == "imbalance"]
        self.assertTrue(worst, verdict)  # more than one, when the other CPU had something to do in between
        self.assertGreaterEqual(max(violation["worst"] for violation in worst), len(self.pids) / 2)
        self.assertGreaterEqual(min(violation["samples"] for violation in worst), 3)
        lenient = shared.daemon.get("/verdict?seconds=1&interval_ms=100&sustained=3&imbalance=1000")
        # The host may have left a vCPU alone meanwhile, and nobody can tell.
        self.assertIn(lenient["verdict"], ("pass", "inconclusive"), lenient)
        self.assertEqual([one for one in lenient["violations"] if one["rule"] != "stalled_cpu"], [])

    def test_the_text_for_people_has_every_queued_task(self):
        text = shared.daemon.request("/runqueues?format=crash").body.decode()
        queues = {match[1]: match[2] for match in re.finditer(r"^CPU (\d+) RUNQUEUE: [0-9a-f]{16}\n((?:  .*\n)+)", text, re.M)}
        self.assertEqual(list(queues), [str(cpu) for cpu in range(shared.guest.cpus)])
        for name, pid in self.pids.items():
            if name == "deadline":
                continue  # has run out of time as often as not, and is in no queue then
            self.assertRegex(queues[str(self.cpu)], rf"(CURRENT:|\[ *-?\d+\]) PID: {pid:<5}  TASK: [0-9a-f]{{16}}  COMMAND: ", name)

    def test_every_pinned_task_is_there_each_time(self):
        for tasks in self.ours():
            self.assertEqual(set(tasks) | {"deadline"}, set(self.pids))
            for name, task in tasks.items():
                with self.subTest(name=name):
                    self.assertEqual(task["policy"], POLICIES.get(name, "normal"))
                    self.assertEqual(task["comm"], COMMS.get(name, f"q-{name}"))
                    self.assertIs(task["on_rq"], True)
                    self.assertEqual(task["cpu"], self.cpu)
                    self.assertEqual(task["state"], "running")
                    if task["class"] == "fair":
                        self.assertEqual(task["nice"], NICE.get(name, 0))

    def test_no_task_is_there_twice_and_one_is_current(self):
        for answer in self.answers:
            pids = []
            for queue in answer["runqueues"]:
                current = [task for task in queue["tasks"] if task["current"]]
                self.assertEqual([task["pid"] for task in current], [queue["curr"]["pid"]])
                pids += [task["pid"] for task in queue["tasks"] if task["pid"] != 0]
            self.assertEqual(len(pids), len(set(pids)))

    def test_classes_are_in_the_order_in_which_the_scheduler_asks_them(self):
        order = ["stop", "dl", "rt", "fair", "ext", "idle"]
        for queue in self.queues():
            ranks = [order.index(task["class"]) for task in queue["tasks"]]
            self.assertEqual(ranks, sorted(ranks))

    def test_there_are_as_many_as_the_queues_count(self):
        for queue in self.queues():
            count = lambda name: sum(task["class"] == name for task in queue["tasks"])  # noqa: E731
            self.assertEqual(count("rt"), queue["rt"]["nr_running"])
            # A throttled task is current until the CPU looks for another one.
            self.assertLessEqual(abs(count("dl") - queue["dl"]["nr_running"]), 1)
            self.assertLessEqual(abs(count("fair") - queue["cfs"]["h_nr_running"]), 1)

    def test_real_time_tasks_are_by_priority(self):
        for tasks in self.ours():
            real_time = [name for name, task in tasks.items() if task["class"] == "rt"]
            self.assertEqual(sorted(real_time[:2]), ["fifo-1", "fifo-2"])
            self.assertEqual(real_time[2], "rr")
            self.assertEqual([tasks[name]["rt_priority"] for name in real_time], [10, 10, 5])
            self.assertGreater(tasks["rr"]["time_slice"], 0)

    def test_groups_are_those_that_the_guest_names(self):
        for tasks in self.ours():
            for name, task in tasks.items():
                if task["class"] != "fair":
                    continue
                with self.subTest(name=name):
                    self.assertEqual(task["group"], GROUPS.get(name, self.before[task["pid"]][1]))
                    self.assertEqual(task["group"], self.before[task["pid"]][1])
                    self.assertEqual(task["depth"], 0 if task["group"] == "/" else
                                     1 if task["group"].startswith("/autogroup") else len(task["group"].split("/")) - 1)

    def test_virtual_times_lie_between_two_readings(self):
        for tasks in self.ours():
            for name, task in tasks.items():
                # A task that got to run since may have been moved back in time by its group's changes: allow for one slice.
                # Of those between -1 ms and 0 the guest prints no sign.
                if task["class"] == "fair" and signed(task["vruntime"]) > 0:
                    with self.subTest(name=name):
                        self.assertLessEqual(self.before[task["pid"]][0] - 10_000_000, task["vruntime"])
                        self.assertLessEqual(task["vruntime"], self.after[task["pid"]][0] + 10_000_000)

    def test_tasks_of_a_group_are_in_the_order_of_the_tree(self):
        for queue in self.queues():
            fair = [task for task in queue["tasks"] if task["class"] == "fair"]
            for group in {task["group"] for task in fair}:
                members = [task for task in fair if task["group"] == group]
                places = [i for i, task in enumerate(fair) if task["group"] == group]
                if "h_load" not in members[0] and group.startswith("/queued"):
                    self.assertEqual(places, list(range(places[0], places[0] + len(members))))
                waiting = members[1:] if members[0]["current"] else members
                keys = [signed(task.get("deadline", task["vruntime"])) for task in waiting]
                if not any(task["current"] for task in waiting) and len(waiting) == len(keys):
                    # Who was current of its queue (but lost the CPU to a higher class) is in front all the same.
                    self.assertIn(sorted(keys), (keys, sorted([keys[0], *keys[1:]])))
                    self.assertEqual(keys[1:], sorted(keys[1:]))

    def test_eligible_are_those_behind_the_weighted_average(self):
        seen = 0
        for queue in self.queues():
            fair = [task for task in queue["tasks"] if task["class"] == "fair"]
            # Where groups have trees of their own, one that has no groups in it.
            members = fair if "h_load" in fair[0] else [task for task in fair if task["group"] == "/queued/left"]
            if not all("eligible" in task for task in members):
                continue
            weights = [task.get("h_load", task["load_weight"]) for task in members]
            if "avg_load" in members[0] or min(weights) < 2048:
                continue
            average = Fraction(sum(w * task["vruntime"] for w, task in zip(weights, members)), sum(weights))
            for task in members:
                if abs(task["vruntime"] - average) > 5000:  # weights are rounded
                    self.assertIs(task["eligible"], task["vruntime"] <= average, (task, float(average)))
            seen += 1
        if "deadline" in fair[0]:
            self.assertGreater(seen, 0)

    def test_the_deadline_task_has_its_own_parameters(self):
        for _ in range(200):
            tasks = [task for queue in shared.daemon.get("/runqueues")["runqueues"] for task in queue["tasks"]
                     if task["pid"] == self.pids["deadline"]]
            if tasks:
                break
            time.sleep(0.01)
        self.assertEqual(len(tasks), 1)
        task = tasks[0]
        self.assertEqual((task["class"], task["policy"], task["comm"]), ("dl", "deadline", "q-deadline"))
        self.assertEqual((task["dl_runtime_ns"], task["dl_deadline_ns"], task["dl_period_ns"]), (30_000_000, 70_000_000, 100_000_000))
        self.assertLessEqual(task["runtime_ns"], 30_000_000)
        clock = shared.daemon.get("/runqueues")["runqueues"][task["cpu"]]["clock"]
        self.assertLess(abs(task["deadline_ns"] - clock), 2_000_000_000)
        self.assertIn("yielded", task)

    def test_an_idle_cpu_has_its_idle_task(self):
        for _ in range(200):
            queue = shared.daemon.get("/runqueues/0")
            if queue["idle"]:
                break
        self.assertIs(queue["idle"], True)
        self.assertEqual((queue["tasks"][-1]["pid"], queue["tasks"][-1]["class"], queue["tasks"][-1]["current"]), (0, "idle", True))
