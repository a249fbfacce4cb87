"""Wrong addresses, hostile stubs, useless kernel files, bad requests: a clear answer, no crash, no hang."""

import contextlib
import os
import pathlib
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import guest as guests
from checks import build_id
from guest import Daemon, free_port, kernel, once
from harness import SERIES, LiveTest, shared


@contextlib.contextmanager
def stub(answer):
    """A listener on loopback that feeds answer(bytes received) back to every client; None says nothing. Yields its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    clients = []

    def serve(client):
        try:
            while data := client.recv(65536):
                reply = answer(data)
                if reply:
                    client.sendall(reply)
        except OSError:
            pass

    def accept():
        try:
            while True:
                client, _ = listener.accept()
                clients.append(client)
                threading.Thread(target=serve, args=(client,), daemon=True).start()
        except OSError:
            pass

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        # shutdown wakes the thread in accept(); close alone would leave it, and the port, alive.
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for client in clients:
            client.close()


def packet(text):
    return f"${text}#{sum(text.encode()) & 255:02x}".encode()


def plain_gdbserver(data):
    """A stub that knows the protocol's basics but nothing of QEMU: the unknown gets the empty answer."""
    reply = b""
    for part in data.split(b"$")[1:]:
        command = part.split(b"#")[0]
        reply += b"+"
        if command.startswith(b"qSupported"):
            reply += packet("PacketSize=1000")
        elif command == b"?":
            reply += packet("S05")
        elif command.startswith((b"H", b"D")):
            reply += packet("OK")
        else:
            reply += packet("")
    return reply


def run_daemon(*arguments, timeout=30):
    """Runs it until it ends: (exit status, stderr, seconds)."""
    start = time.monotonic()
    done = subprocess.run([guests.binary(), *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False)
    return done.returncode, done.stderr.decode(errors="replace"), time.monotonic() - start


class Stubs(LiveTest):
    def survives(self, port):
        """The daemon serves its own paths, refuses the guest's, and ends when told."""
        with Daemon(None, gdb=f"127.0.0.1:{port}", vmlinux=kernel(SERIES).vmlinux) as daemon:
            daemon.wait_listening()
            deadline = time.monotonic() + 3
            while time.monotonic() < deadline:
                self.assertEqual(daemon.request("/healthz", timeout=5).status, 200)
                time.sleep(0.3)
            self.assertEqual(daemon.request("/readyz").status, 503)
            answer = daemon.request("/maps", timeout=30)
            self.assertEqual(answer.status, 503)
            self.assertIn(answer.json()["code"], ("guest_unreachable", "not_ready"))
            status = daemon.get("/status")
            self.assertNotEqual([a["state"] for a in status["accessors"].values()], ["ready"] * 3)
            # Retries must not fill the log.
            self.assertLess(len(daemon.stderr().splitlines()), 40)
            return status

    def test_nobody_listens(self):
        self.assertIn(self.survives(free_port())["guest"]["connection"], ("connecting", "lost"))

    def test_a_stub_that_never_answers(self):
        with stub(lambda data: None) as port:
            self.assertNotEqual(self.survives(port)["guest"]["connection"], "connected")

    def test_a_server_that_is_no_stub(self):
        with stub(lambda data: b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
            self.assertNotEqual(self.survives(port)["guest"]["connection"], "connected")

    def test_a_stub_that_sends_noise(self):
        with stub(lambda data: os.urandom(5000)) as port:
            self.survives(port)

    def test_a_stub_that_echoes(self):
        with stub(lambda data: data) as port:
            self.survives(port)

    def test_a_stub_that_sends_endless_packets(self):
        with stub(lambda data: b"+$" + b"a" * 1_000_000) as port:
            self.survives(port)

    def test_a_gdbserver_that_is_not_qemus(self):
        with stub(plain_gdbserver) as port:
            self.survives(port)

    def test_once_on_an_unreachable_stub_fails_within_the_wait(self):
        start = time.monotonic()
        status, out, err = once(None, "/maps", "--wait", "2", gdb=f"127.0.0.1:{free_port()}", vmlinux=kernel(SERIES).vmlinux)
        self.assertEqual(status, 1)
        self.assertEqual(out, "")
        self.assertTrue(err.strip())
        self.assertLess(time.monotonic() - start, 15)


class Arguments(LiveTest):
    def assert_refused(self, statuses, words, *arguments):
        status, err, seconds = run_daemon(*arguments)
        self.assertIn(status, statuses, err)
        self.assertLess(seconds, 15)
        lines = [line for line in err.splitlines() if line.strip()]
        self.assertTrue(lines)
        self.assertLessEqual(len(lines), 3, err)
        for word in words:
            self.assertIn(word, err)
        self.assertNotIn("terminate called", err)

    def test_addresses_that_are_none(self):
        for address in ("", "localhost", "localhost:", "localhost:0x10", "localhost:99999", "tcp:", "unix:", "[::1", ":::"):
            with self.subTest(address=address):
                self.assert_refused((1, 2), [], "--gdb", address, "--vmlinux", kernel(SERIES).vmlinux)
                self.assert_refused((1, 2), [], "--listen", address or "x", "--vmlinux", kernel(SERIES).vmlinux)

    def test_unknown_options_and_values(self):
        self.assert_refused((2,), ["--no-such-option"], "--no-such-option")
        for option, value in (("--memory", "magic"), ("--max-pause", "soon"), ("--max-pause", "-1"), ("--log-level", "loud")):
            with self.subTest(option=option, value=value):
                self.assert_refused((2,), [], option, value, "--vmlinux", kernel(SERIES).vmlinux)

    def test_help_and_version(self):
        for option in ("--help", "--version"):
            self.assertEqual(run_daemon(option)[0], 0)

    def test_a_port_in_use(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            self.assert_refused((1,), [str(port)], "--gdb", f"127.0.0.1:{free_port()}", "--vmlinux", kernel(SERIES).vmlinux,
                                "--listen", f"127.0.0.1:{port}")


class WrongKernel(LiveTest):
    def setUp(self):
        shared.guest  # boots, when this is the first class
        if shared._daemon:
            shared._daemon.stop()
            shared._daemon = None

    def fails_for_good(self, vmlinux, mine, theirs):
        with Daemon(shared.guest, vmlinux=vmlinux) as daemon:
            status = daemon.wait_status(lambda s: s["accessors"]["maps"]["state"] == "failed", 60, "state failed")
            for name, accessor in status["accessors"].items():
                with self.subTest(accessor=name):
                    self.assertEqual(accessor["state"], "failed")
                    self.assertIn(mine, accessor["last_error"])
                    self.assertIn(theirs, accessor["last_error"])
            problem = self.assert_problem(daemon.request("/maps"), 503, "not_ready")
            self.assertIn(mine, problem["last_error"])
            attempts = status["accessors"]["maps"]["attempts"]
            time.sleep(2)
            self.assertLessEqual(daemon.get("/status")["accessors"]["maps"]["attempts"], attempts + 1)
        self.assertTrue(shared.guest.running())

    def test_another_version(self):
        other = kernel("6.12" if SERIES == "6.1" else "6.1")
        if other is None:
            self.skipTest("only one kernel in the cache: run tests/guest/fetch_kernel.sh 6.12")
        self.fails_for_good(other.vmlinux or other.vmlinuz, shared.guest.kernel.release, other.release)

    def test_the_same_version_of_another_build(self):
        good = shared.guest.kernel.vmlinux
        true_id = build_id(shared.guest)
        with tempfile.TemporaryDirectory() as folder:
            doctored = pathlib.Path(folder) / "vmlinux"
            subprocess.run(["cp", "--reflink=auto", good, doctored], check=True)
            with open(doctored, "r+b") as file:
                content = file.read()
                at = content.index(bytes.fromhex(true_id))
                file.seek(at)
                file.write(bytes(20))
            self.fails_for_good(doctored, true_id, "0" * 40)


class Requests(LiveTest):
    def test_unknown_things_are_not_found(self):
        for path in ("/maps/no_such_map", "/maps/4000000000", "/maps/99999999999999999999", "/nothing", "/maps/1/2/3", "/runqueues/99",
                     "/guests/nobody/maps", "/maps/%00", "/../etc/passwd"):
            with self.subTest(path=path):
                self.assert_problem(shared.daemon.request(path), 404, "not_found")

    def test_bad_queries_are_refused(self):
        for query in ("/maps/b_hash?limit=x", "/maps/b_hash?limit=-1", "/maps/b_hash?key=zz", "/maps/b_hash?key_hex=0x010203",
                      "/maps/b_pcpu_hash?cpu=x", "/maps/b_hash?format=xml", "/progs?format=xml", "/links/1?format=xml",
                      "/maps/b_hash?cursor=nonsense", "/runqueues?consistency=maybe", "/runqueues?tasks=perhaps", "/runqueues/x"):
            with self.subTest(path=query):
                answer = shared.daemon.request(query)
                self.assert_problem(answer, 400, "invalid_request")

    def test_other_methods_are_refused(self):
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            with self.subTest(method=method):
                self.assert_problem(shared.daemon.request("/maps", method=method, body="{}"), 405, "method_not_allowed")

    def test_a_path_of_odd_bytes_is_answered(self):
        for path in ("/maps/" + "a" * 2000, "/maps/%ff%fe", "/maps?name=%f0%9f%92%a9", "/maps?name=" + "&name=" * 500, "/maps?%"):
            with self.subTest(path=path[:30]):
                self.assertIn(shared.daemon.request(path).status, (200, 400, 404, 414))

    def test_raw_nonsense_does_not_stop_the_server(self):
        for text in (b"\0\0\0\0", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"x" * 100_000, b"GET / HTTP/1.1\r\nContent-Length: -5\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", shared.daemon.port), timeout=10) as client, contextlib.suppress(OSError):
                client.sendall(text)
                client.settimeout(1)
                client.recv(1000)
        self.assertEqual(shared.daemon.request("/healthz").status, 200)

    def test_idle_clients_do_not_keep_others_out(self):
        shared.daemon.get("/status")
        clients = [socket.create_connection(("127.0.0.1", shared.daemon.port), timeout=10) for _ in range(40)]
        try:
            guests.wait_until(lambda: self.served(), 30, "an answer beside 40 idle clients")
        finally:
            for client in clients:
                client.close()

    def served(self):
        try:
            return shared.daemon.request("/healthz", timeout=5).status == 200
        except OSError:
            return False


if __name__ == "__main__":
    unittest.main()
