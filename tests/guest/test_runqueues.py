"""Every run queue of the guest, against the kernel's own list of them inside it."""

import time

from harness import LiveTest, shared
from oracle import nanoseconds, parse_sched_debug

# Its place since 5.13, or else the one before.
SCHED_DEBUG = "cat /sys/kernel/debug/sched/debug 2>/dev/null || cat /proc/sched_debug"


class RunQueues(LiveTest):
    @classmethod
    def setUpClass(cls):
        shared.daemon  # boots, when this is the first class
        shared.guest.busy(True)
        cls.before = parse_sched_debug(shared.guest.run(SCHED_DEBUG))
        cls.answer = shared.daemon.get("/runqueues")
        cls.after = parse_sched_debug(shared.guest.run(SCHED_DEBUG))

    @classmethod
    def tearDownClass(cls):
        shared.guest.busy(False)

    def queues(self):
        for queue in self.answer["runqueues"]:
            yield queue["cpu"], queue, self.before[queue["cpu"]], self.after[queue["cpu"]]

    def test_every_possible_cpu_is_there_and_online(self):
        self.assertEqual([queue["cpu"] for queue in self.answer["runqueues"]], list(range(shared.guest.cpus)))
        self.assertEqual(sorted(self.before), list(range(shared.guest.cpus)))
        for queue in self.answer["runqueues"]:
            self.assertIs(queue["online"], True)
        self.assertEqual(len({queue["address"] for queue in self.answer["runqueues"]}), shared.guest.cpus)

    def test_figures_that_only_grow_lie_between_two_readings(self):
        for cpu, ours, before, after in self.queues():
            with self.subTest(cpu=cpu):
                self.assertLessEqual(int(before["rq"]["nr_switches"]), ours["nr_switches"])
                self.assertLessEqual(ours["nr_switches"], int(after["rq"]["nr_switches"]))
                for name in ("clock", "clock_task"):
                    self.assertLessEqual(nanoseconds(before["rq"][name]), ours[name])
                    self.assertLessEqual(ours[name], nanoseconds(after["rq"][name]))
                if "min_vruntime" in ours["cfs"] and "min_vruntime" in before["cfs"]:
                    self.assertLessEqual(nanoseconds(before["cfs"]["min_vruntime"]), ours["cfs"]["min_vruntime"])
                    self.assertLessEqual(ours["cfs"]["min_vruntime"], nanoseconds(after["cfs"]["min_vruntime"]))

    def test_figures_that_do_not_change_are_equal(self):
        for cpu, ours, before, after in self.queues():
            with self.subTest(cpu=cpu):
                # Kernels without group scheduling of real-time tasks have had neither field since 6.12.
                self.assertEqual("throttled" in ours["rt"], "rt_throttled" in before["rt"])
                self.assertIs(ours["rt"].get("throttled", False), False)
                if "rt_runtime" in before["rt"]:
                    self.assertEqual(ours["rt"]["runtime_ns"], nanoseconds(before["rt"]["rt_runtime"]))
                low, high = sorted((int(before["rq"]["nr_uninterruptible"]), int(after["rq"]["nr_uninterruptible"])))
                self.assertTrue(low - 3 <= ours["nr_uninterruptible"] <= high + 3, ours["nr_uninterruptible"])

    def test_queues_are_consistent_with_themselves(self):
        for queue in self.answer["runqueues"]:
            with self.subTest(cpu=queue["cpu"]):
                total = queue["cfs"]["h_nr_running"] + queue["rt"]["nr_running"] + queue["dl"]["nr_running"]
                total += queue.get("scx", {}).get("nr_running", 0)
                self.assertTrue(total <= queue["nr_running"] <= total + 1, queue)  # a stop task counts in none
                self.assertEqual(queue["idle"], queue["curr"]["pid"] == 0)

    def test_every_busy_task_is_counted_on_its_cpu(self):
        for queue in self.answer["runqueues"]:
            cpu = queue["cpu"]
            pinned = {f"busy-{cpu}"} | ({"nice-0"} if cpu == 0 else set()) | ({"wave"} if cpu == shared.guest.cpus - 1 else set())
            with self.subTest(cpu=cpu):
                self.assertGreaterEqual(queue["nr_running"], len(pinned))
                self.assertGreaterEqual(queue["cfs"]["h_nr_running"], len(pinned))

    def test_each_pinned_task_is_seen_running_with_its_own_attributes(self):
        pids = {name: int(pid) for name, pid in (line.split() for line in shared.guest.run(
            "cd /run/tasks; for f in *; do echo $f $(cat $f); done").splitlines())}
        wanted = {f"busy-{cpu}" for cpu in range(shared.guest.cpus)} | {"nice-0"}
        seen = {}
        for _ in range(400):
            for queue in shared.daemon.get("/runqueues")["runqueues"]:
                seen[queue["curr"]["comm"]] = queue["curr"]
            if wanted <= set(seen):
                break
            time.sleep(0.01)
        self.assertLessEqual(wanted, set(seen))
        for name in wanted:
            self.assertEqual((seen[name]["pid"], seen[name]["class"], seen[name]["prio"]),
                             (pids[name], "fair", 130 if name == "nice-0" else 120))

    def test_the_current_task_is_one_that_runs_there(self):
        seen = set()
        for _ in range(30):
            for queue in shared.daemon.get("/runqueues")["runqueues"]:
                current = queue["curr"]
                seen.add(current["comm"])
                self.assertFalse(current["comm"].startswith("busy-") and current["comm"] != f"busy-{queue['cpu']}", current)
                if current["comm"].startswith("busy-"):
                    self.assertEqual((current["class"], current["policy"], current["prio"], current["state"]),
                                     ("fair", "normal", 120, "running"))
        self.assertTrue(seen & {"busy-0", "busy-1"}, seen)

    def test_times_of_the_guest_pass(self):
        first = shared.daemon.get("/runqueues")["runqueues"]
        shared.guest.run("sleep 0.3")
        for before, after in zip(first, shared.daemon.get("/runqueues")["runqueues"]):
            self.assertLess(before["clock"], after["clock"])

    def test_tasks_can_be_left_out(self):
        for queue in shared.daemon.get("/runqueues?tasks=0")["runqueues"]:
            self.assertNotIn("tasks", queue)

    def test_one_cpu_by_number(self):
        answer = shared.daemon.get("/runqueues/1")
        queue = answer.get("runqueue", answer.get("runqueues", [answer])[0])
        self.assertEqual(queue["cpu"], 1)
        self.assert_problem(shared.daemon.request("/runqueues/64"), 404, "not_found")

    def test_pauses_are_short_and_counted(self):
        before = shared.daemon.get("/status")["pauses"]
        for _ in range(20):
            snapshot = shared.daemon.get("/runqueues")["snapshot"]
            self.assertIs(snapshot["consistent"], True)
            self.assertLess(snapshot["pause_us"], 150_000)
        after = shared.daemon.get("/status")["pauses"]
        self.assertGreaterEqual(after["count"], before["count"])


# Figures of ours, and where the debug file has them: section, and its name, which depends on the kernel.
QUIET_FIGURES = {
    "balance.avg_idle_ns": ("rq", "avg_idle"),
    "balance.max_idle_balance_cost_ns": ("rq", "max_idle_balance_cost"),
    "cfs.nr_running": ("cfs", "nr_running|nr_queued"),
    "cfs.h_nr_running": ("cfs", "h_nr_running|h_nr_queued"),
    "cfs.h_nr_runnable": ("cfs", "h_nr_runnable"),
    "cfs.h_nr_idle": ("cfs", "idle_h_nr_running|h_nr_idle"),
    "cfs.load_weight": ("cfs", "load"),
    "cfs.load_avg": ("cfs", "load_avg"),
    "cfs.runnable_avg": ("cfs", "runnable_avg"),
    "cfs.util_avg": ("cfs", "util_avg"),
    "cfs.util_est": ("cfs", "util_est|util_est_enqueued"),
    "rt.nr_running": ("rt", "rt_nr_running"),
    "rt.nr_migratory": ("rt", "rt_nr_migratory"),
    "dl.nr_running": ("dl", "dl_nr_running"),
    "dl.nr_migratory": ("dl", "dl_nr_migratory"),
    "nr_running": ("rq", "nr_running"),
    "nr_switches": ("rq", "nr_switches"),
    "nr_uninterruptible": ("rq", "nr_uninterruptible"),
}


class QuietRunQueues(LiveTest):
    """A figure is that of the debug file when two readings of it around ours agree, or lies near them."""

    def test_every_figure_that_the_debug_file_has(self):
        shared.daemon
        shared.guest.busy(False)
        wanted, equal = set(), set()
        for _ in range(60):
            before = parse_sched_debug(shared.guest.run(SCHED_DEBUG))
            answer = shared.daemon.get("/runqueues")["runqueues"]
            after = parse_sched_debug(shared.guest.run(SCHED_DEBUG))
            for queue in answer:
                for name, place in QUIET_FIGURES.items():
                    group, _, inner = name.rpartition(".")
                    ours = (queue.get(group, {}) if group else queue).get(inner)
                    if ours is None:
                        continue
                    section, fields = place
                    field = next((f for f in fields.split("|") if f in before[queue["cpu"]][section]), None)
                    if field is None:
                        continue
                    first, second = (int(nanoseconds(debug[queue["cpu"]][section][field]) if "." in debug[queue["cpu"]][section][field]
                                         else debug[queue["cpu"]][section][field]) for debug in (before, after))
                    wanted.add(name)
                    if first == second == ours or (first != second and min(first, second) <= ours <= max(first, second)):
                        equal.add(name)
            if wanted and wanted == equal:
                break
        self.assertEqual(wanted - equal, set())
        self.assertGreaterEqual(len(wanted), 10)
