"""/topology and /stats, against the kernel's own files inside the guest."""

import re

from harness import LiveTest, shared
from oracle import domain_files, parse_proc_stat, parse_schedstat

# The kernel's files are read by tasks that run themselves: what they count may be off by what they do.
CPU_TIME_SLACK = 2_000_000_000  # ns


def has_all_symbols():
    """Of a kernel whose symbol table has functions only, not every variable can be found: what needs another one is absent."""
    return "functions only" not in shared.daemon.get("/status")["kernel"]["symbols_from"]


def files(*paths):
    return shared.guest.run("; ".join(f"cat {path}" for path in paths))


class Topology(LiveTest):
    @classmethod
    def setUpClass(cls):
        shared.daemon
        shared.guest.busy(False)
        # Later kernels make the files of domains only then.
        shared.guest.run("echo Y > /sys/kernel/debug/sched/verbose 2>/dev/null; true")
        cls.domains_before = parse_schedstat(files("/proc/schedstat"))
        cls.answer = shared.daemon.get("/topology")
        cls.domains_after = parse_schedstat(files("/proc/schedstat"))
        cls.files = domain_files(shared.guest.run(
            "for f in /sys/kernel/debug/sched/domains/cpu*/domain*/* /proc/sys/kernel/sched_domain/cpu*/domain*/*; do "
            'if [ -f $f ]; then echo "$f $(cat $f)"; fi; done'))

    def test_nothing_is_amiss(self):
        self.assertNotIn("problems", self.answer)
        self.assertIs(self.answer["snapshot"]["consistent"], True)

    def test_sets_of_cpus_are_those_of_sysfs(self):
        for name in ("possible", "present", "online", "isolated"):
            with self.subTest(name=name):
                if name == "isolated" and not has_all_symbols():
                    continue
                self.assertEqual(self.answer["cpus"][name], files(f"/sys/devices/system/cpu/{name}").strip())
        self.assertEqual(self.answer["cpus"]["active"], self.answer["cpus"]["online"])

    def test_every_cpu_has_the_domains_of_schedstat(self):
        self.assertEqual([cpu["cpu"] for cpu in self.answer["domains"]], sorted(self.domains_before))
        for cpu in self.answer["domains"]:
            theirs = self.domains_before[cpu["cpu"]]["domains"]
            self.assertEqual([domain["span"] for domain in cpu["domains"]], [domain["span"] for domain in theirs])

    def test_balancing_statistics_lie_between_two_readings(self):
        compared = 0
        for cpu in self.answer["domains"]:
            for ours, before, after in zip(cpu["domains"], self.domains_before[cpu["cpu"]]["domains"],
                                           self.domains_after[cpu["cpu"]]["domains"]):
                # Their order is that of the enum; ours has the enum's names.
                balance = ours["balance"]
                types = [balance[name] for name in balance if isinstance(balance[name], dict)]
                self.assertEqual(sorted(name for name in balance if isinstance(balance[name], dict)),
                                 ["idle", "newly_idle", "not_idle"])
                flat = [count for counts in types for count in counts.values()]
                flat += [count for count in balance.values() if not isinstance(count, dict)]
                self.assertEqual(len(flat), len(before["counts"]))
                for low, count, high in zip(before["counts"], flat, after["counts"]):
                    self.assertTrue(low <= count <= high, (low, count, high))
                    compared += 1
        self.assertTrue(compared or not any(cpu["domains"] for cpu in self.answer["domains"]))

    def test_attributes_are_those_of_the_debug_files(self):
        self.assertTrue(self.files)
        for (cpu, level), theirs in self.files.items():
            ours = self.answer["domains"][cpu]["domains"][level]
            with self.subTest(cpu=cpu, level=level):
                self.assertEqual(ours["name"], theirs["name"])
                for name, mine in (("busy_factor", "busy_factor"), ("imbalance_pct", "imbalance_pct"),
                                   ("cache_nice_tries", "cache_nice_tries"), ("min_interval", "min_interval_ms"),
                                   ("max_interval", "max_interval_ms")):
                    self.assertEqual(ours[mine], int(theirs[name]), name)
                if "level" in theirs:
                    self.assertEqual(ours["level"], int(theirs["level"]))
                if re.fullmatch("[0-9]+", theirs["flags"]):
                    self.assertEqual(ours["flags"], int(theirs["flags"]))
                else:
                    self.assertEqual(ours["flag_names"], [name.removeprefix("SD_").lower() for name in theirs["flags"].split()])

    def test_groups_divide_the_span_of_their_domain(self):
        for cpu in self.answer["domains"]:
            for domain in cpu["domains"]:
                with self.subTest(cpu=cpu["cpu"], domain=domain["name"]):
                    self.assertEqual(sum(group["weight"] for group in domain["groups"]), domain["span_weight"])
                    for group in domain["groups"]:
                        self.assertTrue(0 < group["capacity"] <= 1024 * group["weight"], group)

    def test_the_root_domain_has_the_online_cpus(self):
        self.assertEqual([root["online"] for root in self.answer["root_domains"]], [self.answer["cpus"]["online"]])


class Stats(LiveTest):
    @classmethod
    def setUpClass(cls):
        shared.daemon
        shared.guest.busy(False)
        read = "cat /proc/stat; echo ===; cat /proc/loadavg; echo ===; cat /proc/softirqs; echo ===; cat /proc/schedstat; echo ===; cat /proc/uptime"
        cls.before = shared.guest.run(read).split("===\n")
        cls.answer = shared.daemon.get("/stats")
        cls.after = shared.guest.run(read).split("===\n")

    def between(self, low, value, high, what, slack=0):
        self.assertTrue(low - slack <= value <= high + slack, f"{what}: {low} <= {value} <= {high}")

    def test_nothing_is_amiss(self):
        self.assertNotIn("problems", self.answer)

    def test_load_averages_are_those_of_loadavg(self):
        before, after = (text[1].split() for text in (self.before, self.after))
        for i in range(3):
            low, high = sorted((float(before[i]), float(after[i])))
            self.between(low, self.answer["load_average"][i], high, i, 0.005)
        self.assertEqual(self.answer["last_pid"] >= int(before[4]) and self.answer["last_pid"] <= int(after[4]), True)
        if not has_all_symbols():
            return
        threads = sorted(int(fields[3].split("/")[1]) for fields in (before, after))
        self.between(threads[0], self.answer["nr_threads"], threads[1], "threads", 3)

    def test_counts_lie_between_two_readings_of_stat(self):
        before, after = (parse_proc_stat(text[0]) for text in (self.before, self.after))
        self.between(before["ctxt"], self.answer["context_switches"], after["ctxt"], "ctxt")
        if has_all_symbols():
            self.between(before["processes"], self.answer["total_forks"], after["processes"], "processes")
        for cpu in self.answer["cpus"]:
            self.assertIs(cpu["online"], True)
            low, high = before["cpus"][cpu["cpu"]], after["cpus"][cpu["cpu"]]
            for name, value in cpu["time_ns"].items():
                if name not in low:
                    continue
                # An idle CPU's time is as of the last jiffy: up to a sleep behind.
                slack = CPU_TIME_SLACK if name in ("idle", "iowait") else 0
                self.between(low[name] * 10_000_000 - slack, value, (high[name] + 1) * 10_000_000, (cpu["cpu"], name))
        self.assertLessEqual(sum(cpu["interrupts"] for cpu in self.answer["cpus"]), after["intr"])

    def test_softirqs_lie_between_two_readings(self):
        def parse(text):
            return {line.split(":")[0].strip().lower(): [int(n) for n in line.split(":")[1].split()] for line in text.splitlines()[1:]}

        before, after = parse(self.before[2]), parse(self.after[2])
        for i, cpu in enumerate(self.answer["cpus"]):
            self.assertEqual(list(cpu["softirqs"]), list(before) if has_all_symbols() else [f"softirq_{n}" for n in range(len(before))])
            for name, count in zip(before, cpu["softirqs"].values()):
                self.between(before[name][i], count, after[name][i], name)

    def test_schedstat_lines_lie_between_two_readings(self):
        before, after = (parse_schedstat(text[3]) for text in (self.before, self.after))
        for cpu in self.answer["cpus"]:
            low, high = before[cpu["cpu"]]["counts"], after[cpu["cpu"]]["counts"]
            # The second number has had no meaning since 2.6.
            for (name, value), before_value, after_value in zip(cpu["sched"].items(), low[:1] + low[2:], high[:1] + high[2:]):
                self.between(before_value, value, after_value, name)
            self.assertEqual(len(cpu["sched"]), len(low) - 1)
        if has_all_symbols():
            self.assertIs(self.answer["schedstats"], True)

    def test_uptime_is_at_most_a_sleep_behind(self):
        if "uptime_ns" not in self.answer and not has_all_symbols():
            return
        before, after = (float(text[4].split()[0]) for text in (self.before, self.after))
        self.between(before - 2, self.answer["uptime_ns"] / 1e9, after, "uptime", 0.02)

    def test_pressure_is_that_of_the_pressure_files(self):
        if "pressure" not in self.answer and not has_all_symbols():
            return
        if "pressure" not in self.answer or not self.answer["pressure"]["enabled"]:
            self.assertNotIn("avg10", shared.guest.run("cat /proc/pressure/cpu 2>/dev/null; true"))
            return
        def read():
            text = shared.guest.run("for f in /proc/pressure/*; do sed \"s|^|${f##*/} |\" $f; done")
            return {tuple(line.split()[:2]): dict(pair.split("=") for pair in line.split()[2:]) for line in text.splitlines()}

        before = read()  # which brings the averages up to date
        answer = shared.daemon.get("/stats")["pressure"]
        after = read()
        compared = 0
        for (resource, kind), theirs in before.items():
            if (resource, kind) == ("cpu", "full"):
                self.assertNotIn("full", answer["cpu"])  # has no meaning for the whole system
                continue
            ours = answer[resource][kind]
            self.between(int(theirs["total"]), ours["total_us"], int(after[resource, kind]["total"]), (resource, kind))
            for name in ("avg10", "avg60", "avg300"):
                low, high = sorted((float(theirs[name]), float(after[resource, kind][name])))
                self.between(low, ours[name], high, (resource, kind, name), 0.005)
            compared += 1
        self.assertGreaterEqual(compared, 5)
