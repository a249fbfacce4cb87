"""Every run queue of the guest, against /sys/kernel/debug/sched/debug inside it."""

from harness import LiveTest, shared
from oracle import nanoseconds, parse_sched_debug

SCHED_DEBUG = "cat /sys/kernel/debug/sched/debug"


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
                self.assertEqual(ours["rt"]["throttled"], False)
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
                self.assertEqual(len([t for t in queue["tasks"] if t["class"] == "fair"]), queue["cfs"]["h_nr_running"])
                self.assertEqual(queue["idle"], queue["curr"]["pid"] == 0)
                current = [task["pid"] for task in queue["tasks"] if task["current"]]
                self.assertEqual(current, [] if queue["idle"] else [queue["curr"]["pid"]])

    def test_the_busy_tasks_are_on_their_cpus(self):
        pids = {name: int(pid) for name, pid in (line.split() for line in shared.guest.run(
            "cd /run/tasks; for f in *; do echo $f $(cat $f); done").splitlines())}
        for queue in self.answer["runqueues"]:
            cpu = queue["cpu"]
            expected = {f"busy-{cpu}"} | ({"nice-0"} if cpu == 0 else set()) | ({"wave"} if cpu == shared.guest.cpus - 1 else set())
            tasks = {task["comm"]: task for task in queue["tasks"]}
            with self.subTest(cpu=cpu):
                self.assertLessEqual(expected, set(tasks))
                self.assertGreaterEqual(queue["nr_running"], len(expected))
                for name in expected:
                    self.assertEqual(tasks[name]["pid"], pids[name])
                    self.assertEqual(tasks[name]["class"], "fair")
                    self.assertEqual(tasks[name]["prio"], {"nice-0": 130, "wave": 125}.get(name, 120))
                self.assertNotIn("sleeper", tasks)

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
