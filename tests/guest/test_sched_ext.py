"""sched_ext: a scheduler of ours (programs/sched_ext.bpf.c), against /sys/kernel/sched_ext and against what it was made to do."""

import concurrent.futures
import time
import unittest

from guest import wait_until
from harness import LiveTest, shared

SYSFS = "/sys/kernel/sched_ext"
# As in programs/sched_ext.h.
FIFO, VTIME, NEVER = "0x55", "0x77", "0xdead0000beef"
SLICE, VTIME_STEP, TIMEOUT = 7_000_000, 10**12, 5 * 10**9


def supported():
    return shared.guest.run_full(f"test -d {SYSFS}")[0] == 0


def read(name):
    return shared.guest.run(f"cat {SYSFS}/{name}").strip()


def events():
    return {name.removeprefix("SCX_EV_").lower(): int(count)
            for name, count in (line.split() for line in read("root/events").splitlines())}


def start(how):
    """Loads the scheduler and starts its tasks; gives their pids by name."""
    shared.guest.run(f"rm -f /run/scx.log; guest scx {how} >/run/scx.log 2>&1 & echo $! >/run/scx.pid")
    wait_until(lambda: shared.guest.run("cat /run/scx.log 2>/dev/null; true").strip(), 60, "the scheduler and its tasks")
    said = shared.guest.run("cat /run/scx.log").strip()
    assert said == "ready", said
    return {name: int(pid) for pid, name in (line.split() for line in shared.guest.run("cat /run/scx").splitlines())}


def stop():
    shared.guest.run("kill -9 $(cat /run/scx.pid)")
    wait_until(lambda: read("state") == "disabled" and not shared.guest.run("grep -l ^scx- /proc/[0-9]*/comm; true"), 60, "the scheduler's end")


def verdict(parameters):
    return shared.daemon.get(f"/verdict?{parameters}")


def load_tests(_loader, tests, _pattern):
    """On a kernel without sched_ext there is one thing to test, and nothing to skip."""
    shared.daemon  # boots, when this is the first module
    if supported():
        return tests
    return unittest.TestSuite([WithoutScheduler("test_a_kernel_without_it_says_so_and_nothing_else"),
                               WithoutScheduler("test_other_parameters_are_refused")])


def queues(answer, name):
    return [queue for queue in answer["dsqs"] if queue["name"] == name]


def comms(queue):
    return [task["comm"] for task in queue["tasks"]]


class WithoutScheduler(LiveTest):
    def test_a_kernel_without_it_says_so_and_nothing_else(self):
        answer = shared.daemon.get("/scx")
        self.assertIs(answer["supported"], supported())
        if not supported():
            self.assertEqual(set(answer), {"snapshot", "supported"})

    def test_without_a_scheduler_there_are_the_cpus_own_queues(self):
        if not supported():
            raise unittest.SkipTest("no sched_ext in this kernel")
        answer = shared.daemon.get("/scx")
        self.assertEqual((answer["state"], answer["ops"], answer["nr_schedulers"]), (read("state"), None, 0))
        self.assertEqual(answer["enable_seq"], int(read("enable_seq")))
        self.assertEqual([queue["cpu"] for queue in queues(answer, "local")], list(range(shared.guest.cpus)))
        self.assertNotIn("problems", answer)

    def test_other_parameters_are_refused(self):
        self.assert_problem(shared.daemon.request("/scx?tasks=1"), 400, "invalid_request")
        self.assert_problem(shared.daemon.request("/scx/0"), 404, "not_found")


class ExtTest(LiveTest):
    how = None

    @classmethod
    def setUpClass(cls):
        shared.daemon  # boots, when this is the first class
        if not supported():
            raise unittest.SkipTest("no sched_ext in this kernel")
        cls.pids = start(cls.how)

    @classmethod
    def tearDownClass(cls):
        stop()


class Held(ExtTest):
    """Every queue holds what was put there, and nobody takes anything out."""

    how = "hold"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.before = events()
        cls.answer = shared.daemon.get("/scx")
        cls.after = events()
        cls.sysfs = {name: read(name) for name in ("state", "root/ops", "switch_all", "nr_rejected", "enable_seq", "hotplug_seq")}
        cls.enabled = {name: shared.guest.run(f"cat /proc/{pid}/sched") for name, pid in cls.pids.items()}
        cls.later = shared.daemon.get("/scx")

    def names(self, part):
        return [name for name in self.pids if part in name]

    def test_the_state_is_what_the_kernel_shows(self):
        ours = self.answer
        self.assertNotIn("problems", ours)
        self.assertEqual((ours["state"], ours["ops"]), (self.sysfs["state"], self.sysfs["root/ops"]))
        self.assertEqual((ours["state"], ours["ops"]), ("enabled", "queues"))
        self.assertEqual(int(ours["switch_all"]), int(self.sysfs["switch_all"]))
        for name in ("nr_rejected", "enable_seq", "hotplug_seq"):
            self.assertEqual(ours[name], int(self.sysfs[name]), name)
        self.assertEqual(ours["flags"], ["switch_partial"])
        self.assertEqual(ours["watchdog_timeout_ns"], 30 * 10**9)
        self.assertEqual((ours["exit"], ours["bypass"]), (None, False))
        self.assertEqual([scheduler["ops"] for scheduler in ours["schedulers"]], ["queues"])

    def test_events_are_counted_as_the_kernel_sums_them(self):
        self.assertEqual(list(self.answer["events"]), list(self.before))
        for name, count in self.answer["events"].items():
            self.assertTrue(self.before[name] <= count <= self.after[name], (name, count))

    def test_queues_hold_what_was_put_there_in_order(self):
        (everywhere,) = queues(self.answer, "global")
        self.assertEqual(comms(everywhere), ["scx-global-1", "scx-global-2"])
        local = queues(self.answer, "local")[0]
        self.assertEqual([comm for comm in comms(local) if "hog" not in comm], ["scx-local"])
        if self.names("fifo"):  # the kernel lets a scheduler make queues
            (fifo,), (vtime,), (never,) = (queues(self.answer, name) for name in (FIFO, VTIME, NEVER))
            self.assertEqual((fifo["order"], comms(fifo)), ("fifo", ["scx-fifo-2", "scx-fifo-1", "scx-fifo-3"]))
            self.assertEqual((vtime["order"], comms(vtime)), ("vtime", ["scx-vtime-1", "scx-vtime-2", "scx-vtime-3"]))
            self.assertEqual([task["vtime"] for task in vtime["tasks"]], [VTIME_STEP, 2 * VTIME_STEP, 3 * VTIME_STEP])
            self.assertEqual((never["nr"], never["tasks"]), (0, []))
        else:
            self.assertEqual(queues(self.answer, FIFO), [])

    def test_each_task_is_the_one_of_its_name(self):
        for queue in self.answer["dsqs"]:
            self.assertEqual(queue["nr"], len(queue["tasks"]), queue)
            for task in queue["tasks"]:
                self.assertEqual(task["pid"], self.pids[task["comm"]])
                self.assertEqual((task["scx_state"], "queued" in task["flags"]), ("enabled", True))
                if "hog" not in task["comm"]:
                    self.assertEqual(task["slice_ns"], SLICE)

    def test_the_kernel_says_of_all_of_them_that_they_are_the_schedulers(self):
        for name, text in self.enabled.items():
            self.assertRegex(text, r"ext\.enabled\s*:\s*1\b", name)

    def test_cpus_count_what_is_runnable_there(self):
        waiting = [name for name in self.pids if "hog" not in name]
        self.assertEqual([cpu["nr_running"] for cpu in self.answer["cpus"]], [1 + len(waiting)] + [1] * (shared.guest.cpus - 1))
        for cpu in self.answer["cpus"]:
            self.assertIn("online", cpu["flags"])
            self.assertEqual(cpu["local_dsq_nr"], queues(self.answer, "local")[cpu["cpu"]]["nr"])

    def test_a_verdict_names_what_waits_too_long_and_where(self):
        broken = verdict("seconds=1&interval_ms=100&sustained=3&local_dsq=0")
        self.assertEqual(broken["verdict"], "fail", broken)
        found = {(one["rule"], one.get("cpu")): one for one in broken["violations"]}
        self.assertEqual(set(found) - {("stalled_cpu", 0), ("stalled_cpu", 1)}, {("imbalance", None), ("local_dsq", 0), ("starving", 0)})
        # What is not the scheduler's comes and goes, and puts the task that runs back into its queue.
        self.assertIn(found["local_dsq", 0]["worst"], (1, 2))
        self.assertGreaterEqual(found["imbalance", None]["worst"], self.answer["cpus"][0]["nr_running"])
        self.assertEqual(found["starving", 0]["detail"], f"scx-local (pid {self.pids['scx-local']})")
        lenient = verdict("seconds=1&interval_ms=100&sustained=3&imbalance=100&starving_ms=60000&local_dsq=2")
        # The host may have left a vCPU alone meanwhile.
        self.assertIn(lenient["verdict"], ("pass", "inconclusive"), lenient)

    def test_the_oldest_waits_ever_longer(self):
        first, second = (answer["cpus"][0]["oldest_runnable"] for answer in (self.answer, self.later))
        for oldest in (first, second):
            self.assertEqual((oldest["pid"], oldest["comm"], oldest["dsq"]), (self.pids["scx-local"], "scx-local", "local"))
            self.assertEqual(oldest["waiting_ns"] + oldest["stall_in_ns"], 30 * 10**9)
        self.assertLess(first["waiting_ns"], second["waiting_ns"])


class Wasted(ExtTest):
    """A task that runs from slice to slice, for there is no other; and one that is sent to a CPU that is offline."""

    how = "waste"

    @classmethod
    def setUpClass(cls):
        shared.daemon  # boots, when this is the first class
        if not supported():
            raise unittest.SkipTest("no sched_ext in this kernel")
        # Before the scheduler comes, which would have to go when a CPU does.
        shared.guest.run("echo 0 >/sys/devices/system/cpu/cpu1/online")
        cls.addClassCleanup(shared.guest.run, "echo 1 >/sys/devices/system/cpu/cpu1/online")
        super().setUpClass()

    def test_a_verdict_has_the_rates_of_events(self):
        before, begun = events(), time.monotonic()
        answer = verdict("seconds=2&interval_ms=400&sustained=3&fallback=1&keep_last=1")
        seconds, after = time.monotonic() - begun, events()
        self.assertEqual(answer["verdict"], "fail", answer)
        found = {one["rule"]: one for one in answer["violations"]}
        for rule, event in (("fallback", "select_cpu_fallback"), ("keep_last", "dispatch_keep_last")):
            self.assertEqual(found[rule]["detail"], event)
            rate = (after[event] - before[event]) / seconds
            self.assertGreater(rate, 1, event)
            # The highest of some.
            self.assertGreater(found[rule]["worst"], rate / 2, event)
        rare = verdict("seconds=1&interval_ms=200&sustained=2&fallback=100000&keep_last=100000&imbalance=100&starving_ms=60000")
        self.assertEqual([one for one in rare["violations"] if one["rule"] != "stalled_cpu"], [], rare)


class Starved(ExtTest):
    """A task is left alone until the kernel throws the scheduler out."""

    how = "starve"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        with concurrent.futures.ThreadPoolExecutor() as pool:
            judged = pool.submit(verdict, "seconds=5&interval_ms=100&sustained=5&starving_ms=1000")
            cls.watch()
            cls.verdict = judged.result()

    @classmethod
    def watch(cls):
        cls.seen = [shared.daemon.get("/scx")]

        def ended():
            cls.seen.append(shared.daemon.get("/scx"))
            return cls.seen[-1]["state"] == "disabled"

        wait_until(ended, 90, "the watchdog")
        cls.last = shared.daemon.get("/scx")

    def test_the_coming_stall_is_seen(self):
        (name, pid), = self.pids.items()
        oldest = [answer["cpus"][0]["oldest_runnable"] for answer in self.seen if answer["state"] == "enabled"]
        oldest = [each for each in oldest if each and each["pid"] == pid]
        self.assertGreater(len(oldest), 2)
        waited = [each["waiting_ns"] for each in oldest]
        self.assertEqual(waited, sorted(waited))
        self.assertGreater(waited[-1], waited[0])
        for each in oldest:
            self.assertEqual(each["waiting_ns"] + each["stall_in_ns"], TIMEOUT)
            # In a queue from which nobody takes it, or with the scheduler.
            self.assertEqual((each["dsq"], each["ops_state"]), (NEVER, "none") if name == "scx-starved" else (None, "queued"))

    def test_a_verdict_names_the_task(self):
        (name, pid), = self.pids.items()
        self.assertEqual(self.verdict["verdict"], "fail", self.verdict)
        (starving,) = [one for one in self.verdict["violations"] if one["rule"] == "starving"]
        self.assertEqual((starving["cpu"], starving["detail"]), (0, f"{name} (pid {pid})"))
        self.assertEqual(starving["threshold"], 1000)
        self.assertGreater(starving["worst"], 1000)
        self.assertLessEqual(starving["worst"], 8000)  # the watchdog looks every few seconds

    def test_how_it_ended_is_told_as_long_as_its_loader_lives(self):
        (name, pid), = self.pids.items()
        ended = self.last["exit"]
        self.assertEqual((ended["ops"], ended["kind"]), ("starving", "error_stall"))
        self.assertEqual(ended["reason"], "runnable task stall")
        self.assertTrue(ended["message"].startswith(f"{name}[{pid}] failed to run for "), ended)
        self.assertIn(ended["message"], shared.guest.run("dmesg"))
        self.assertEqual((self.last["ops"], self.last["nr_schedulers"]), (None, 0))
        self.assertNotIn("problems", self.last)
        self.assertEqual(queues(self.last, NEVER), [])

    def test_the_task_runs_again(self):
        (pid,) = self.pids.values()
        self.assertRegex(shared.guest.run(f"cat /proc/{pid}/sched"), r"ext\.enabled\s*:\s*0\b")
