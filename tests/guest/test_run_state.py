"""The guest is left as it was found, whoever stops, starts or kills whom."""

import concurrent.futures
import signal
import socket
import time
import unittest

from checks import answers_are_right
from guest import Daemon, Guest, free_port, kernel, once, wait_until
from harness import SERIES, LiveTest


def ask_stub(port, packet):
    """One packet to the stub from a new client, as gdb would after us: the answer. Stops the guest."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as stub:
        stub.sendall(f"${packet}#{sum(packet.encode()) & 255:02x}".encode())
        received = b""
        # A stop reply may come unasked, first.
        while True:
            received += stub.recv(4096)
            answers = [part for part in received.replace(b"+", b"").split(b"$")[1:] if b"#" in part]
            answers = [part.split(b"#")[0] for part in answers]
            answers = [part for part in answers if not part.startswith(b"T")]
            if answers:
                stub.sendall(b"+")
                return answers[0].decode()


class RunState(LiveTest):
    @classmethod
    def setUpClass(cls):
        cls.guest = Guest(kernel(SERIES))
        cls.addClassCleanup(cls.guest.close)
        cls.guest.wait_ready()

    def setUp(self):
        if not self.guest.running():
            self.guest.qmp("cont")

    def pause_needs_telling(self):
        """QEMU 8.1 and later do not tell whether the guest was paused before we attached."""
        version = self.guest.qmp("query-version")["qemu"]
        return (version["major"], version["minor"]) >= (8, 1)

    def paused(self):
        """The option for a guest that is paused now: none where QEMU tells."""
        return ["--paused"] if self.pause_needs_telling() else []

    def assert_runs(self):
        self.assertTrue(self.guest.running())
        before, _, after = self.guest.run("cat /proc/uptime; sleep 0.2; cat /proc/uptime").partition("\n")
        self.assertLess(float(before.split()[0]), float(after.split()[0]))

    def assert_stays_paused(self, seconds=1.5):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.assertFalse(self.guest.running())
            time.sleep(0.1)

    def test_a_guest_paused_before_stays_paused_and_can_be_read(self):
        self.guest.qmp("stop")
        with Daemon(self.guest, *self.paused()) as daemon:
            status = daemon.wait_ready()
            self.assertEqual(status["guest"]["run_state"], "paused")
            first, second = daemon.get("/runqueues"), daemon.get("/runqueues")
            self.assertEqual(first["runqueues"], second["runqueues"])
            self.assertEqual([e["value"] for e in daemon.get("/maps/t_scalar")["entries"]], [-1, 0, 1, 2147483647])
            self.assert_stays_paused()
        self.assert_stays_paused(0.5)
        self.guest.qmp("cont")
        self.assert_runs()

    def test_a_pause_that_qemu_does_not_tell_of_and_nobody_either_is_taken_for_ours(self):
        self.guest.qmp("stop")
        with Daemon(self.guest) as daemon:
            daemon.wait_ready()
            daemon.get("/runqueues")
            self.assertEqual(self.guest.running(), self.pause_needs_telling())
        self.assertEqual(self.guest.running(), self.pause_needs_telling())

    def test_a_pause_told_of_that_has_ended_by_then_is_not_continued_by_us_nor_for_ever(self):
        with Daemon(self.guest, *self.paused()) as daemon:
            daemon.wait_connection("connected")
            self.guest.qmp("cont")
            daemon.wait_ready()
            daemon.wait_status(lambda status: status["guest"]["run_state"] == "running", 10, "run_state running")
            daemon.get("/runqueues")
            self.assert_runs()
        self.assert_runs()

    def test_resume_does_not_start_a_guest_that_its_owner_pauses_later(self):
        with Daemon(self.guest, "--resume") as daemon:
            daemon.wait_quiet()
            self.guest.qmp("stop")
            daemon.get("/runqueues")
            self.assert_stays_paused()

    def test_a_guest_paused_while_attached_stays_paused_until_its_owner_continues_it(self):
        with Daemon(self.guest) as daemon:
            daemon.wait_quiet()
            self.guest.qmp("stop")
            for _ in range(5):
                daemon.get("/runqueues")
                daemon.get("/maps/b_hash")
            self.assert_stays_paused()
            self.assertEqual(daemon.get("/status")["guest"]["run_state"], "paused")
            self.guest.qmp("cont")
            self.assert_runs()
            daemon.wait_status(lambda status: status["guest"]["run_state"] == "running", 10, "run_state running")
            daemon.get("/runqueues")
            self.assert_runs()
            self.guest.qmp("stop")
        self.assert_stays_paused(0.5)

    def test_pauses_by_the_owner_between_our_reads_are_never_undone(self):
        with Daemon(self.guest) as daemon:
            daemon.wait_quiet()
            for _ in range(15):
                self.guest.qmp("stop")
                daemon.get("/runqueues")
                self.assertFalse(self.guest.running())
                self.guest.qmp("cont")
                daemon.get("/runqueues")
                self.assertTrue(self.guest.running())

    def test_a_verdict_ends_at_once_when_the_owner_pauses_the_guest(self):
        with Daemon(self.guest) as daemon, concurrent.futures.ThreadPoolExecutor() as pool:
            daemon.wait_ready()
            begun = time.monotonic()
            judged = pool.submit(daemon.get, "/verdict?seconds=30&interval_ms=1000&sustained=20")
            time.sleep(2.5)  # between two samples: QEMU does not heed a stop while its stub holds the guest
            self.guest.qmp("stop")
            while_running = judged.result()
            self.assertLess(time.monotonic() - begun, 10)
            self.assertEqual(while_running["samples"], 3)
            while_paused = [pool.submit(daemon.get, "/verdict?seconds=30&sustained=1") for _ in range(3)]
            for verdict in [while_running] + [each.result() for each in while_paused]:
                self.assertEqual((verdict["verdict"], verdict["not_counted"]), ("inconclusive", 1), verdict)
                self.assertEqual(verdict["reason"], "the guest is paused by its owner")
            self.assertLess(time.monotonic() - begun, 15)
            self.assert_stays_paused(0.5)
            self.guest.qmp("cont")
            self.assertGreater(daemon.get("/verdict?seconds=1&interval_ms=100")["samples"], 3)
            self.assert_runs()

    def test_a_running_guest_runs_on_after_either_signal(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            daemon = Daemon(self.guest)
            daemon.wait_ready()
            daemon.get("/maps")
            daemon.stop(number)
            self.assert_runs()

    def test_a_signal_while_requests_are_answered_leaves_the_guest_running(self):
        for delay in (0.0, 0.01, 0.05, 0.2):
            daemon = Daemon(self.guest)
            daemon.wait_ready()
            with socket.create_connection(("127.0.0.1", daemon.port)) as client:
                client.sendall(b"GET /maps/p_array_big HTTP/1.1\r\nHost: x\r\n\r\n")
                time.sleep(delay)
                daemon.stop()
            self.assert_runs()

    def test_a_killed_daemon_leaves_the_guest_running(self):
        for _ in range(5):
            daemon = Daemon(self.guest)
            daemon.wait_ready()
            for _ in range(20):
                daemon.get("/runqueues")
            daemon.process.kill()
            self.assert_runs()

    def test_once_leaves_the_guest_running_or_paused_as_found(self):
        self.assertEqual(once(self.guest, "/status")[0], 0)
        self.assert_runs()
        self.guest.qmp("stop")
        self.assertEqual(once(self.guest, "/runqueues", *self.paused())[0], 0)
        self.assert_stays_paused(0.5)

    def test_the_next_client_finds_virtual_memory_mode(self):
        with Daemon(self.guest) as daemon:
            daemon.wait_ready()
            daemon.get("/maps")
        self.assertEqual(ask_stub(self.guest.gdb_port, "qqemu.PhyMemMode"), "0")

    def test_after_a_client_that_left_the_stub_in_disorder(self):
        for leftover in ("qSupported:multiprocess+", "Qqemu.PhyMemMode:1"):
            ask_stub(self.guest.gdb_port, leftover)
            self.setUp()
            with Daemon(self.guest) as daemon:
                daemon.wait_ready()
                self.assertEqual([e["value"] for e in daemon.get("/maps/t_scalar")["entries"]], [-1, 0, 1, 2147483647])
            self.assert_runs()


class Lost(LiveTest):
    def test_a_killed_qemu_is_reported_and_a_new_one_on_the_same_port_is_served(self):
        port = free_port()
        with Guest(kernel(SERIES), gdb_port=port) as first:
            daemon = Daemon(first)
            first.wait_ready()
            daemon.wait_ready()
            first.process.kill()
            status = daemon.wait_connection("lost")
            self.assertEqual({a["state"] for a in status["accessors"].values()}, {"waiting"})
            self.assertEqual(daemon.request("/healthz").status, 200)
            self.assertEqual(daemon.request("/readyz").status, 503)
            self.assert_problem(daemon.request("/maps"), 503, "guest_unreachable")
        with daemon, Guest(kernel(SERIES), gdb_port=port) as second:
            second.wait_ready()
            daemon.wait_connection("connected", 60)
            daemon.wait_ready()
            answers_are_right(self, second, daemon)
            self.assertEqual(daemon.get("/status")["guest"]["boots"], 2)

    def test_a_qemu_that_hangs_does_not_hang_the_daemon(self):
        with Guest(kernel(SERIES)) as guest:
            guest.wait_ready()
            with Daemon(guest) as daemon:
                daemon.wait_ready()
                guest.process.child.send_signal(signal.SIGSTOP)
                try:
                    answer = daemon.request("/runqueues", timeout=60)
                    self.assertIn(answer.status, (503, 504))
                    self.assertEqual(daemon.request("/healthz", timeout=5).status, 200)
                finally:
                    guest.process.child.send_signal(signal.SIGCONT)
                wait_until(lambda: daemon.request("/runqueues").status == 200, 60, "answers after the hang", 0.5)
            wait_until(guest.running, 10, "the guest running on")


if __name__ == "__main__":
    unittest.main()
