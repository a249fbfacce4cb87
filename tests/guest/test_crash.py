"""The run queues as text, against crash itself, which reads a dump of the same instant."""

import re
import shutil
import subprocess
import unittest

from guest import HERE, Daemon, Guest, kernel, wait_until
from harness import SERIES, LiveTest

# Control characters are dots in ours, and crash prints what is there.
COMMAND = re.compile(rb'COMMAND: "(.*?)"$', re.M | re.S)


def crash_program():
    """crash of the cache, or the installed one, or None."""
    cached = subprocess.run([HERE / "fetch_crash.sh", "--cached"], capture_output=True, text=True, check=False)
    return cached.stdout.strip() if cached.returncode == 0 else shutil.which("crash")


def printable(match):
    return b'COMMAND: "' + bytes(byte if 0x20 <= byte <= 0x7e else ord(".") for byte in match[1]) + b'"'


def stop_in_user_mode(guest):
    """crash ends when it finds a CPU's task in the kernel, whose stacks it cannot tell apart without a panic."""
    def stopped():
        guest.qmp("stop")
        registers = guest.qmp("human-monitor-command", **{"command-line": "info registers -a"})
        if registers.count("CPL=3") == guest.cpus:
            return True
        guest.qmp("cont")
        return False

    wait_until(stopped, 20, "all CPUs in user mode", 0.02)


def without_own_lists(text):
    """Our text without what crash does not print: the queues of deadline tasks."""
    return re.sub(r"  DL RB_ROOT:\n(     .*\n)+", "", text)


class Crash(LiveTest):
    def test_a_person_sees_what_crash_prints(self):
        file, crash = kernel(SERIES), crash_program()
        if file.vmlinux is None or crash is None:
            raise unittest.SkipTest("crash is not there: run tests/guest/fetch_crash.sh" if file.vmlinux else
                                    f"no debug file: run tests/guest/fetch_kernel.sh --debug {SERIES}")
        # crash learns from the note of the device where the kernel is.
        with Guest(file, memory="192M", qemu=["-device", "vmcoreinfo"]) as guest, Daemon(guest, vmlinux="") as daemon:
            guest.wait_ready()
            pids = [int(line.split()[1]) for line in guest.run("queued 1").splitlines()]
            daemon.wait_ready()
            stop_in_user_mode(guest)
            ours = daemon.request("/runqueues?format=crash").body.decode()
            dump = guest.directory / "dump"
            guest.qmp("dump-guest-memory", paging=False, protocol=f"file:{dump}")
            done = subprocess.run([crash, "-s", file.vmlinux, dump], input=b"ps\nrunq\nquit\n", capture_output=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, (done.stdout[-2000:], done.stderr[-1000:]))
        known, begin, theirs = done.stdout.partition(b"CPU 0 RUNQUEUE: ")
        if not re.search(rf"^>? +{pids[0]} ".encode(), known, re.M):
            raise unittest.SkipTest("this crash does not find this kernel's tasks: run tests/guest/fetch_crash.sh")
        theirs = COMMAND.sub(printable, begin + theirs).decode()
        self.assertGreaterEqual(len(re.findall(r"^     \[ *\d+\] PID", theirs, re.M)), len(pids) - 2)
        self.assertEqual(without_own_lists(ours).strip(), theirs.strip())


if __name__ == "__main__":
    unittest.main()
