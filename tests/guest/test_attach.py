"""When the daemon attaches: before the guest exists, before it boots, while it boots, after; and across a reboot."""

import time
import unittest

from checks import answers_are_right
from guest import Daemon, Guest, free_port, kernel, wait_until
from harness import SERIES, LiveTest


class Attach(LiveTest):
    def finish(self, guest, daemon):
        daemon.wait_ready()
        guest.wait_ready()
        self.assertTrue(guest.running())
        answers_are_right(self, guest, daemon)

    def test_before_the_guest_exists(self):
        port = free_port()
        with Daemon(None, gdb=f"127.0.0.1:{port}", vmlinux=kernel(SERIES).vmlinux) as daemon:
            daemon.wait_listening()
            status = daemon.get("/status")
            self.assertEqual(status["guest"]["connection"], "connecting")
            self.assertEqual(daemon.request("/readyz").status, 503)
            self.assert_problem(daemon.request("/maps"), 503, "guest_unreachable")
            with Guest(kernel(SERIES), gdb_port=port) as guest:
                self.finish(guest, daemon)

    def test_before_boot_with_the_vm_waiting_and_resume(self):
        with Guest(kernel(SERIES), paused=True) as guest, Daemon(guest, "--resume") as daemon:
            self.finish(guest, daemon)

    def test_before_boot_with_the_vm_waiting_and_left_so_until_its_owner_starts_it(self):
        with Guest(kernel(SERIES), paused=True) as guest, Daemon(guest) as daemon:
            status = daemon.wait_connection("connected")
            self.assertEqual(status["guest"]["run_state"], "paused")
            time.sleep(1.5)
            self.assertFalse(guest.running())
            problem = self.assert_problem(daemon.request("/maps"), 503, "not_ready")
            self.assertIn("attempts", problem)
            self.assertIn("last_error", problem)
            self.assertTrue(daemon.request("/maps").headers["Retry-After"])
            guest.qmp("cont")
            self.finish(guest, daemon)

    def test_at_several_moments_of_the_boot(self):
        for delay in (0.2, 1.0, 2.0):
            with self.subTest(delay=delay), Guest(kernel(SERIES)) as guest:
                time.sleep(delay)
                with Daemon(guest) as daemon:
                    self.finish(guest, daemon)

    def test_after_boot_and_again(self):
        with Guest(kernel(SERIES)) as guest:
            guest.wait_ready()
            for _ in range(3):
                with Daemon(guest) as daemon:
                    self.finish(guest, daemon)
                self.assertTrue(guest.running())

    def test_readiness_never_goes_back_within_a_boot(self):
        with Guest(kernel(SERIES)) as guest, Daemon(guest) as daemon:
            daemon.wait_listening()
            ready = set()
            deadline = time.monotonic() + 60
            settled = 0
            while settled < 20 and time.monotonic() < deadline:
                accessors = daemon.get("/status")["accessors"]
                now = {name for name, accessor in accessors.items() if accessor["state"] == "ready"}
                self.assertLessEqual(ready, now)
                ready = now
                settled += len(ready) == 3
                time.sleep(0.1)
            self.assertEqual(ready, {"maps", "progs", "per_cpu_offsets"})
            for accessor in daemon.get("/status")["accessors"].values():
                self.assertGreaterEqual(accessor["attempts"], 1)
                self.assertGreaterEqual(accessor["ready_after_ms"], 0)

    def test_a_reboot_empties_the_accessors_and_they_come_back(self):
        with Guest(kernel(SERIES)) as guest, Daemon(guest) as daemon:
            self.finish(guest, daemon)
            self.assertEqual(daemon.get("/status")["guest"]["boots"], 1)
            for boots in (2, 3):
                guest.qmp("system_reset")
                wait_until(lambda: daemon.request("/readyz").status == 503, 15, "the accessors being emptied", 0.05)
                guest.wait_ready(boots=boots)
                self.finish(guest, daemon)
                self.assertEqual(daemon.get("/status")["guest"]["boots"], boots)


if __name__ == "__main__":
    unittest.main()
