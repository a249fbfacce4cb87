"""What the live tests share: one booted guest per run, the oracle's output kept, and skips that say why.

    python3 tests/guest/harness.py test_maps test_progs …       runs the named modules against one guest

Environment: GUESTSCOPE_KERNEL (a name for fetch_kernel.sh, default 6.1), GUESTSCOPE_BINARY, GUESTSCOPE_CACHE, GUESTSCOPE_QEMU (a
directory, or the code name of a Debian release: see fetch_qemu.sh); GUESTSCOPE_NO_SKIP=1 makes a skip a failure. Exit status: 0 all
passed, 1 not, 77 skipped.
"""

import functools
import json
import os
import pathlib
import shutil
import sys
import traceback
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import guest as guests  # noqa: E402 (the path comes first)
import oracle  # noqa: E402

SERIES = os.environ.get("GUESTSCOPE_KERNEL", "6.1")


def missing():
    """Why the live tests cannot run here, or None."""
    kernel = guests.kernel(SERIES)
    if kernel is None:
        return f"kernel {SERIES} is not in the cache: run tests/guest/fetch_kernel.sh {SERIES}"
    emulator = guests.qemu_program(guests.MACHINES[kernel.arch].qemu)
    if not shutil.which(emulator):
        return f"{emulator} is missing: run tests/lib/packages.sh, or tests/guest/fetch_qemu.sh for another one"
    if guests.binary() is None:
        return "the daemon is not built"
    return None


class Shared:
    """One guest, one daemon and the oracle's answers for all test classes of a run. Made at first use."""

    def __init__(self):
        self._guest = None
        self._daemon = None

    @property
    def guest(self):
        if self._guest is None:
            # Storage of files takes the security module "bpf", which not every kernel starts by itself. schedstats switches code, which
            # a kernel does best while one CPU runs: done later, it once made an emulated guest crash.
            self._guest = guests.Guest(guests.kernel(SERIES), append="lsm=yama,apparmor,bpf schedstats=enable", modules=("veth",))
            self._guest.wait_ready()
            # Static content does not need the busy tasks, and everything is faster without them.
            self._guest.busy(False)
        return self._guest

    @property
    def daemon(self):
        if self._daemon is None:
            self._daemon = guests.Daemon(self.guest)
            self._daemon.wait_ready()
        return self._daemon

    @functools.cached_property
    def made(self):
        """What the guest's kernel could be given beside what every kernel has: see programs/guest.c."""
        return self.guest.made()

    @functools.cached_property
    def map_list(self):
        return self.guest.json("bpftool -j map show")

    @functools.lru_cache(maxsize=None)
    def dumped(self, map_id):
        """What bpftool's dump of a map prints, as bytes. For maps that do not change: it is asked once."""
        return self.guest.run_full(f"bpftool -j map dump id {map_id}", 120)[1]

    def dump(self, map_id):
        """The same: objects as lists of pairs, so that repeated names survive. None when bpftool prints no JSON."""
        try:
            return json.loads(self.dumped(map_id).decode("utf-8", "surrogateescape"), object_pairs_hook=oracle.Pairs)
        except ValueError:
            return None

    def close(self):
        """Ends both; gives the daemon's failure to end well, if it failed."""
        failure = None
        if self._daemon:
            try:
                self._daemon.stop()
            except guests.HarnessError as error:
                failure = str(error)
            if not failure and "Sanitizer" in self._daemon.stderr():
                failure = self._daemon.stderr()[-5000:]
        if self._guest:
            self._guest.close()
        self._guest = self._daemon = None
        return failure


shared = Shared()


class LiveTest(unittest.TestCase):
    maxDiff = 4000
    longMessage = True

    def assert_problem(self, answer, status, code):
        """An error answer as the interface describes it; gives its body."""
        self.assertEqual(answer.status, status, answer.body[:300])
        self.assertTrue(answer.headers.get("Content-Type", "").startswith("application/problem+json"), answer.headers)
        body = answer.json()
        self.assertEqual(body["status"], status)
        self.assertEqual(body["code"], code)
        for member in ("title", "detail"):
            self.assertTrue(body[member], body)
        return body


class Report(unittest.TextTestResult):
    """Says at once why a test failed: a run that is ended for its time never comes to the list of failures."""

    def addError(self, test, err):
        super().addError(test, err)
        self.stream.writeln(self.errors[-1][1])

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.stream.writeln(self.failures[-1][1])

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err:
            self.stream.writeln("".join(traceback.format_exception(*err)))

    def printErrors(self):
        """Nothing is left to be said."""


def main(modules):
    reason = missing()
    if reason:
        print(f"skipped: {reason}")
        return 1 if os.environ.get("GUESTSCOPE_NO_SKIP") == "1" else 77
    suite = unittest.defaultTestLoader.loadTestsFromNames(modules)
    result = unittest.TextTestRunner(verbosity=2, stream=sys.stdout, resultclass=Report).run(suite)
    failure = shared.close()
    if failure:
        print(f"at the end: {failure}")
    for test, why in result.skipped:
        print(f"skipped: {test}: {why}")
    if not result.wasSuccessful() or failure:
        return 1
    return 1 if result.skipped and os.environ.get("GUESTSCOPE_NO_SKIP") == "1" else 0


if __name__ == "__main__":
    # The test modules import this one by name: it must be the same module, with the same guest.
    sys.modules["harness"] = sys.modules["__main__"]
    sys.exit(main(sys.argv[1:]))
