"""Guest memory from QEMU's own process, and answers that never stop the guest."""

import contextlib
import socket
import threading
import time

from checks import answers_are_right
from guest import Daemon, Guest, HarnessError, free_port, kernel, wait_until
from harness import SERIES, LiveTest

# What is the same in every answer while nobody changes it.
QUIET = ("/maps", "/maps/t_scalar", "/maps/p_array_big", "/maps/b_pcpu_hash", "/maps/s_full", "/links", "/btf")
# Root without the right to look into other processes, where QEMU has it; root of a user namespace that QEMU is not in.
POWERLESS = ("setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace")
ELSEWHERE = ("unshare", "--user", "--map-root-user")
CONTAINER = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child")


def memory_of(daemon):
    guest = daemon.get("/status")["guest"]
    return guest["memory"], guest["memory_reason"]


def without_snapshot(answer):
    return {name: value for name, value in answer.items() if name != "snapshot"}


class Proxy:
    """A program between guestscope and the stub, in this process."""

    def __init__(self, port):
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            stub = socket.create_connection(("127.0.0.1", self.target))
            for source, sink in ((client, stub), (stub, client)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    @staticmethod
    def _copy(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Memory(LiveTest):
    @classmethod
    def setUpClass(cls):
        cls.guest = Guest(kernel(SERIES))
        cls.addClassCleanup(cls.guest.close)
        cls.guest.wait_ready()
        cls.guest.busy(False)

    def test_every_way_to_read_gives_the_same(self):
        with Daemon(self.guest, "--memory=stub") as stub:
            stub.wait_ready()
            expected = {path: without_snapshot(stub.get(path)) for path in QUIET}
            self.assertEqual(memory_of(stub), ("stub", "not wanted (--memory=stub)"))
        with Daemon(self.guest, "--memory=process") as daemon:
            daemon.wait_ready()
            for path in QUIET:
                for query, consistent in (("", True), ("?consistency=paused", True), ("?consistency=live", False)):
                    with self.subTest(path=path + query):
                        answer = daemon.get(path + query)
                        self.assertEqual(answer["snapshot"]["memory"], "process")
                        self.assertEqual(answer["snapshot"]["consistent"], consistent)
                        self.assertEqual(without_snapshot(answer), expected[path])
            self.assertEqual(memory_of(daemon), ("process", None))

    def test_auto_takes_the_process_and_answers_rightly(self):
        self.guest.busy(True)
        self.addCleanup(self.guest.busy, False)
        with Daemon(self.guest, "--memory=auto") as daemon:
            daemon.wait_ready()
            wait_until(lambda: memory_of(daemon)[0] == "process", 10, "memory from QEMU's process")
            self.assertEqual(daemon.get("/maps")["snapshot"]["memory"], "process")
            answers_are_right(self, self.guest, daemon)

    def test_live_answers_never_stop_the_guest(self):
        self.guest.busy(True)
        self.addCleanup(self.guest.busy, False)
        with Daemon(self.guest, "--memory=process") as daemon:
            daemon.wait_ready()
            daemon.get("/runqueues?consistency=live")  # for which the process is found
            time.sleep(0.5)
            pauses = daemon.get("/status")["pauses"]["count"]
            time.sleep(0.2)
            stops = self.guest.qmp.count("STOP")
            for _ in range(100):
                answer = daemon.get("/runqueues?consistency=live")
                self.assertEqual(answer["snapshot"]["pause_us"], 0)
                self.assertEqual([queue["cpu"] for queue in answer["runqueues"]], [0, 1])
                self.assertTrue(all(queue["nr_running"] >= 1 for queue in answer["runqueues"]))
            daemon.get("/maps?contents&consistency=live")
            # /status looks once itself.
            self.assertEqual(self.guest.qmp.count("STOP"), stops)
            self.assertEqual(daemon.get("/status")["pauses"]["count"], pauses + 1)

    def test_a_paused_guest_is_read_and_stays_paused(self):
        with Daemon(self.guest, "--memory=process") as daemon:
            daemon.wait_ready()
            daemon.get("/maps")
            self.guest.qmp("stop")
            self.addCleanup(self.guest.qmp, "cont")
            for query in ("", "?consistency=live"):
                answer = daemon.get("/maps/t_scalar" + query)
                self.assertEqual([entry["value"] for entry in answer["entries"]], [-1, 0, 1, 2147483647])
                self.assertEqual(answer["snapshot"]["pause_us"], 0)
            time.sleep(0.5)
            self.assertFalse(self.guest.running())

    def test_who_may_not_look_is_told_so_and_reads_through_the_stub(self):
        proxy = Proxy(self.guest.gdb_port)
        self.addCleanup(proxy.close)
        for name, where, words in (("powerless", {"prefix": POWERLESS}, "CAP_SYS_PTRACE"),
                                   ("user namespace", {"prefix": ELSEWHERE}, "user namespace"),
                                   ("proxy", {"gdb": proxy.address}, "is it a proxy before the stub?")):
            with self.subTest(name), Daemon(self.guest, "--memory=auto", **where) as daemon:
                daemon.wait_ready()
                wait_until(lambda: memory_of(daemon)[1] not in (None, "not looked for yet"), 10, "a reason")
                memory, reason = memory_of(daemon)
                self.assertEqual(memory, "stub")
                self.assertIn(words, reason)
                self.assertEqual(daemon.get("/maps")["snapshot"]["memory"], "stub")
                live = daemon.request("/maps?consistency=live")
                self.assertEqual(live.status, 400)
                self.assertIn(words, live.json()["detail"])
        with Daemon(self.guest, "--memory=process", prefix=POWERLESS) as daemon:
            daemon.wait_ready()
            refused = daemon.request("/maps")
            self.assertEqual(refused.status, 503)
            self.assertIn("CAP_SYS_PTRACE", refused.json()["detail"])

    def test_bad_words_are_refused(self):
        with Daemon(self.guest, "--memory=stub") as daemon:
            daemon.wait_ready()
            for path in ("/maps?consistency=never", "/runqueues?consistency=", "/status?consistency=live", "/healthz?consistency=live"):
                with self.subTest(path=path):
                    self.assertEqual(daemon.request(path).status, 400)
            live = daemon.request("/maps?consistency=live")
            self.assertEqual(live.status, 400)
            self.assertIn("--memory=stub", live.json()["detail"])


class Changes(LiveTest):
    def test_a_new_qemu_on_the_same_port_is_another_process_and_found_again(self):
        port = free_port()
        with Guest(kernel(SERIES), gdb_port=port) as first:
            first.wait_ready()
            with Daemon(first, "--memory=process") as daemon:
                daemon.wait_ready()
                answers_are_right(self, first, daemon)
                first.close()
                daemon.wait_connection("lost")
                gone = daemon.request("/maps?consistency=live")
                self.assertEqual(gone.status, 503)
                with Guest(kernel(SERIES), gdb_port=port) as second:
                    second.wait_ready()
                    daemon.wait_connection("connected")
                    daemon.wait_ready()
                    self.assertEqual(daemon.get("/maps")["snapshot"]["memory"], "process")
                    answers_are_right(self, second, daemon)

    def test_a_reboot_is_noticed_by_live_answers_too(self):
        with Guest(kernel(SERIES)) as guest:
            guest.wait_ready()
            with Daemon(guest, "--memory=process") as daemon:
                daemon.wait_ready()
                daemon.get("/maps?consistency=live")
                guest.qmp("system_reset")
                # Nobody asks but for live answers: they must not be of the boot that has ended for ever.
                def noticed():
                    daemon.request("/maps?consistency=live")
                    guest_now = daemon.get("/guests")["guests"][0]  # which reads nothing
                    return guest_now["boots"] == 2
                wait_until(noticed, 60, "another boot", interval=0.02)
                guest.wait_ready(boots=2)
                daemon.wait_ready()
                self.assertEqual(daemon.get("/status")["guest"]["boots"], 2)
                answers_are_right(self, guest, daemon)
                self.assertEqual(daemon.get("/maps?consistency=live")["snapshot"]["memory"], "process")

    def test_live_questions_do_not_keep_a_booting_guest_from_getting_ready(self):
        with Guest(kernel(SERIES), paused=True) as guest, Daemon(guest, "--memory=process") as daemon:
            def answered():
                answer = daemon.request("/maps?consistency=live")
                self.assertIn(answer.status, (200, 503), answer.body)
                return answer.status == 200
            daemon.wait_connection("connected")
            self.assertFalse(answered())
            guest.qmp("cont")
            wait_until(answered, 60, "a live answer", interval=0.01)
            guest.wait_ready()
            answers_are_right(self, guest, daemon)

    def test_memory_that_is_plugged_in_and_out(self):
        options = ["-m", "512M,slots=2,maxmem=2G"]
        with Guest(kernel(SERIES), qemu=options, prefix=CONTAINER, append="memhp_default_state=online_movable") as guest:
            guest.wait_ready()
            with Daemon(guest, "--memory=process") as daemon:
                daemon.wait_ready()
                answers_are_right(self, guest, daemon)
                guest.qmp("object-add", **{"qom-type": "memory-backend-memfd", "id": "more", "size": 256 << 20})
                try:
                    guest.qmp("device_add", driver="pc-dimm", id="dimm", memdev="more")
                except HarnessError as error:
                    self.fail(str(error))
                more = "awk '/MemTotal/ { exit $2 < 550000 }' /proc/meminfo && echo yes || true"
                wait_until(lambda: guest.run(more).strip() == "yes", 30, "more memory in the guest")
                answers_are_right(self, guest, daemon)
                self.assertEqual(memory_of(daemon)[0], "process")
                guest.qmp("device_del", id="dimm")
                wait_until(lambda: guest.qmp.count("DEVICE_DELETED") > 0, 30, "the end of the memory")
                guest.qmp("object-del", id="more")
                answers_are_right(self, guest, daemon)
                self.assertEqual(memory_of(daemon)[0], "process")
