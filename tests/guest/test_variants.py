"""Other machines: processors, paging modes, memory sizes and holes, CPU counts, ways to the stub."""

import os
import re
import unittest

import matrix
from checks import answers_are_right, offline_cpus_are_only_named
from guest import Daemon, Guest, kernel
from harness import SERIES, LiveTest


class Variants(LiveTest):
    """One test for each of matrix.MACHINES is added below."""

    def check(self, row):
        name = row.kernel or SERIES
        file = kernel(name)
        if file is None:
            self.skipTest(f"kernel {name} is not in the cache: run tests/guest/fetch_kernel.sh {name}")
        with Guest(file, **row.options) as guest:
            self.compare(guest, row.options)

    def compare(self, guest, options):
        with Daemon(guest) as daemon:
            daemon.wait_ready()
            guest.wait_ready()
            answers_are_right(self, guest, daemon)
            offline_cpus_are_only_named(self, guest, daemon)
            many = re.search(r"possible_cpus=(\d+)", options.get("append", ""))
            if many:
                self.assertEqual(daemon.get("/status")["kernel"]["possible_cpus"], int(many[1]))
            if guest.kernel.arch == "amd64":
                levels = 4 if guest.run("grep -c la57 /proc/cpuinfo || true").strip() == "0" else 5
                if "no5lvl" in options.get("append", ""):
                    levels = 4
                self.assertEqual(daemon.get("/status")["kernel"]["paging_levels"], levels)

    def test_an_offline_cpu_has_no_figures_until_it_is_back(self):
        with Guest(kernel(SERIES)) as guest, Daemon(guest) as daemon:
            guest.wait_ready()
            daemon.wait_ready()
            guest.run("echo 0 >/sys/devices/system/cpu/cpu1/online")
            queues = daemon.get("/runqueues")["runqueues"]
            self.assertEqual([queue["online"] for queue in queues], [True, False])
            for name in ("nr_running", "curr", "cfs"):
                self.assertNotIn(name, queues[1])
            guest.run("echo 1 >/sys/devices/system/cpu/cpu1/online")
            self.assertEqual([queue["online"] for queue in daemon.get("/runqueues")["runqueues"]], [True, True])

    def test_a_cpu_that_never_came_up_does_not_alias_another(self):
        with Guest(kernel(SERIES), cpus=2, append="maxcpus=1") as guest, Daemon(guest) as daemon:
            guest.wait_ready()
            daemon.wait_ready()
            queues = daemon.get("/runqueues")["runqueues"]
            self.assertEqual([queue["online"] for queue in queues], [True, False])
            self.assertEqual(daemon.get("/status")["kernel"]["online_cpus"], 1)


def _add(row):
    def test(self):
        self.check(row)

    setattr(Variants, matrix.method(row), test)


# Those that tests/run.sh runs, or all.
for _row in matrix.MACHINES:
    if _row.always or os.environ.get("GUESTSCOPE_MATRIX") == "all":
        _add(_row)


if __name__ == "__main__":
    unittest.main()
