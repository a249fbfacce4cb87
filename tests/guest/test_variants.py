"""Other machines: processors, paging modes, memory sizes and holes, CPU counts, ways to the stub."""

import unittest

from checks import answers_are_right
from guest import Daemon, Guest, kernel
from harness import SERIES, LiveTest

MACHINES = {
    "one CPU": {"cpus": 1},
    "four CPUs": {"cpus": 4},
    "four levels": {"append": "no5lvl"},
    "page-table isolation": {"cpu": "Skylake-Client", "append": "pti=on"},
    "old processor": {"cpu": "qemu64"},
    "no KASLR": {"append": "nokaslr"},
    "little memory": {"memory": "160M"},
    "memory above the 4 GB hole": {"memory": "6G"},
    "two NUMA nodes": {"memory": "1G", "cpus": 2, "qemu": ["-object", "memory-backend-ram,id=m0,size=512M", "-object",
                                                          "memory-backend-ram,id=m1,size=512M", "-numa", "node,memdev=m0,cpus=0",
                                                          "-numa", "node,memdev=m1,cpus=1"]},
    "stub on a Unix socket": {"gdb": "unix"},
    "single-threaded emulation": {"accel": "tcg,thread=single"},
}


class Variants(LiveTest):
    """One test for each of MACHINES is added below."""

    def check(self, **machine):
        with Guest(kernel(SERIES), **machine) as guest, Daemon(guest) as daemon:
            daemon.wait_ready()
            guest.wait_ready()
            answers_are_right(self, guest, daemon)
            levels = 4 if guest.run("grep -c la57 /proc/cpuinfo || true").strip() == "0" else 5
            if "no5lvl" in machine.get("append", ""):
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


def _add(name, machine):
    setattr(Variants, "test_" + name.replace(" ", "_").replace("-", "_"), lambda self: self.check(**machine))


for _name, _machine in MACHINES.items():
    _add(_name, _machine)


if __name__ == "__main__":
    unittest.main()
