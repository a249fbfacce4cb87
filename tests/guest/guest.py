"""A QEMU guest and the guestscope daemon, as the live tests use them. Standard library only.

    with Guest(kernel("6.1")) as guest:     # boots; ended by pid in every case
        guest.wait_ready()                  # "GUEST READY" on the console
        guest.run("bpftool -j map show")    # over the second serial port
        with Daemon(guest) as daemon:
            daemon.wait_ready()
            daemon.get("/maps")

Not thread-safe.
"""

import atexit
import collections
import ctypes
import functools
import gzip
import http.client
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
CACHE = pathlib.Path(
    os.environ.get("GUESTSCOPE_CACHE")
    or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "guestscope"
)

Kernel = collections.namedtuple("Kernel", "name release vmlinuz vmlinux arch modules")

# What an architecture's machine is, by Debian's name of it.
Machine = collections.namedtuple("Machine", "qemu machine console")
MACHINES = {
    "amd64": Machine("qemu-system-x86_64", "q35", "ttyS0"),
    "arm64": Machine("qemu-system-aarch64", "virt,gic-version=3", "ttyAMA0"),
}
# The serial port that init takes commands from, on PCI: arm64 has no second one of another kind, Debian's kernels of arm64 have no
# driver for virtio's built in, and of the classic one's edge-triggered interrupts Linux 6.1 with PREEMPT_RT loses some for good.
SHELL_DEVICE = ["-device", "pci-serial,chardev=shell"]


class HarnessError(Exception):
    """Something around the daemon failed: QEMU, the guest, a time limit."""


def kernel(name):
    """The cached kernel of a name ("6.1", "arm64/6.12-16k"), or None: fetch_kernel.sh puts them there. vmlinux may be None."""
    found = subprocess.run([HERE / "fetch_kernel.sh", "--cached", name], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        return None
    fields = Kernel(*found.stdout.strip().split("\t"))
    return fields._replace(vmlinux=None) if fields.vmlinux == "-" else fields


def kernel_file(of):
    """The file that the daemon is given of a kernel, by $GUESTSCOPE_KERNEL_FILE: "vmlinux" (where it was fetched), "vmlinuz", "none"."""
    which = os.environ.get("GUESTSCOPE_KERNEL_FILE", "vmlinux")
    return {"vmlinux": of.vmlinux or of.vmlinuz, "vmlinuz": of.vmlinuz, "none": ""}[which]


@functools.lru_cache(maxsize=None)
def image(arch="amd64"):
    """The guest's initramfs, built when needed."""
    built = subprocess.run([HERE / "build_image.sh", "--arch", arch], stdout=subprocess.PIPE, text=True, check=True)
    return built.stdout.strip()


def archive(files):
    """A cpio archive (newc) of files by their names: what an initramfs may have appended."""
    out = b""
    for name, content in [*files.items(), ("TRAILER!!!", b"")]:
        path = name.encode() + b"\0"
        fields = [0, 0o100644, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0]
        out += b"070701" + b"".join(b"%08x" % field for field in fields) + path
        out += b"\0" * (-len(out) % 4) + content
        out += b"\0" * (-len(out) % 4)
    return out


def binary():
    """The daemon to test: $GUESTSCOPE_BINARY, or the newest build; None when there is none."""
    if "GUESTSCOPE_BINARY" in os.environ:
        path = pathlib.Path(os.environ["GUESTSCOPE_BINARY"])
        return path if path.exists() else None
    builds = sorted(PROJECT.glob("build/*/daemon/guestscope"), key=lambda path: path.stat().st_mtime)
    return builds[-1] if builds else None


def qemu_program(name="qemu-system-x86_64", directory=None):
    """QEMU's program of that name: in `directory` or $GUESTSCOPE_QEMU, or the installed one. A directory without a
    slash is a Debian release of which fetch_qemu.sh has put the QEMU into the cache."""
    directory = directory or os.environ.get("GUESTSCOPE_QEMU")
    if not directory:
        return name
    place = pathlib.Path(directory) if "/" in str(directory) else CACHE / "qemu" / directory
    return str(place / name)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, timeout, what, interval=0.1):
    """Polls condition until it gives something true, which is returned."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise HarnessError(f"{what}: not within {timeout} s")
        time.sleep(interval)


_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent():
    """In the child: the kernel kills it when we go, even if we are killed ourselves."""
    _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Process:
    """A child that ends when we do."""

    def __init__(self, command, **options):
        self.command = [str(word) for word in command]
        self.child = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent, **options)
        atexit.register(self.kill)

    @property
    def pid(self):
        return self.child.pid

    def alive(self):
        return self.child.poll() is None

    def kill(self):
        if self.alive():
            self.child.kill()
            self.child.wait()
        atexit.unregister(self.kill)

    def end(self, number=signal.SIGTERM, timeout=20):
        """Sends a signal and gives the exit status; a child that ignores it is killed, and that is an error."""
        if self.alive():
            self.child.send_signal(number)
        try:
            return self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise HarnessError(f"{self.command[0]} did not end within {timeout} s of signal {number}") from None
        finally:
            atexit.unregister(self.kill)


class Qmp:
    """QEMU's control channel, from one thread. Nothing is read from it before somebody asks: a reader that wakes up for each event would
    take a processor just when a guest stops and continues, which is when benchmarks look at it."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self._received = b""
        self._events = []
        self._answers = []
        wait_until(lambda: self._receive(1) and b"\n" in self._received, 20, "QEMU's greeting", 0)
        self._received = self._received.partition(b"\n")[2]
        self("qmp_capabilities")

    def _receive(self, timeout):
        """Takes what is there, or what comes within that time; False when there was nothing."""
        if not select.select([self.socket], [], [], timeout)[0]:
            return False
        data = self.socket.recv(1 << 20)
        if not data:
            raise HarnessError("QEMU closed its control channel")
        self._received += data
        return True

    def _sort(self):
        *lines, self._received = self._received.split(b"\n")
        for line in lines:
            message = json.loads(line)
            (self._events if "event" in message else self._answers).append(message)

    def __call__(self, command, **arguments):
        self.socket.sendall((json.dumps({"execute": command, "arguments": arguments}) + "\n").encode())
        deadline = time.monotonic() + 20
        self._sort()
        while not self._answers:
            if time.monotonic() > deadline:
                raise HarnessError(f"QMP {command}: no answer")
            self._receive(1)
            self._sort()
        answer = self._answers.pop(0)
        if "error" in answer:
            raise HarnessError(f"QMP {command}: {answer['error']['desc']}")
        return answer["return"]

    @property
    def events(self):
        """All so far: QEMU sends them, and what the socket did not take in time, before the answer to a later question."""
        self("query-status")
        return self._events

    def count(self, event):
        return sum(1 for entry in self.events if entry["event"] == event)

    def close(self):
        self.socket.close()


class Guest:
    """A Linux guest in QEMU under emulation: KASLR on, two serial ports, QMP, gdb stub.

    gdb is "tcp" (a free loopback port, or gdb_port), "unix" or None. paused starts it with -S. qemu is appended to QEMU's command line,
    qemu_directory is where to find it if not where $GUESTSCOPE_QEMU says or where it is installed.
    modules are names of the kernel's modules ("dummy", "tcp_bbr"), put into the guest's root for insmod /NAME.ko; files are others,
    bytes by name. prefix is put before QEMU's command line (unshare, …).
    """

    def __init__(self, kernel_file, cpus=2, memory="512M", cpu="max", append="", paused=False, gdb="tcp", gdb_port=None,
                 initrd=None, qemu=(), modules=(), files=None, accel="tcg,thread=multi", qemu_directory=None, prefix=()):
        self.kernel = kernel_file
        if self.kernel is None:
            raise HarnessError("the guest's kernel is not in the cache; tests/guest/fetch_kernel.sh fetches it")
        machine = MACHINES[self.kernel.arch]
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="guest-"))
        self.cpus = cpus
        self.memory = memory
        self.console_path = self.directory / "console"
        self.gdb_port = (gdb_port or free_port()) if gdb == "tcp" else None
        self.gdb = {"tcp": f"127.0.0.1:{self.gdb_port}", "unix": f"unix:{self.directory}/gdb", None: None}[gdb]
        self.serial = None
        self.qmp = None
        self._received = b""
        self._token = 0
        self.process = None
        # Signing pointers as the architecture says costs an emulated CPU a third of its time.
        cpu += ",pauth-impdef=on" if cpu == "max" and self.kernel.arch == "arm64" else ""
        command = [qemu_program(machine.qemu, qemu_directory), "-nodefaults", "-no-user-config", "-display", "none", "-name", "guest",
                   "-accel", accel, "-machine", machine.machine, "-cpu", cpu, "-smp", str(cpus), "-m", memory,
                   "-kernel", self.kernel.vmlinuz, "-initrd", self._initrd(initrd, modules, files or {}),
                   "-append", f"console={machine.console} quiet {append}",
                   "-chardev", f"file,id=console,path={self.console_path}", "-serial", "chardev:console",
                   "-chardev", f"socket,id=shell,path={self.directory}/shell,server=on,wait=off", *SHELL_DEVICE,
                   "-qmp", f"unix:{self.directory}/qmp,server=on,wait=off"]
        if gdb == "tcp":
            command += ["-gdb", f"tcp:127.0.0.1:{self.gdb_port}"]
        elif gdb == "unix":
            command += ["-chardev", f"socket,id=gdb,path={self.directory}/gdb,server=on,wait=off", "-gdb", "chardev:gdb"]
        command += ["-S"] if paused else []
        command = [*prefix, *command, *qemu]
        self.started = time.monotonic()
        try:
            with open(self.directory / "qemu.log", "wb") as log:
                self.process = Process(command, stdout=log, stderr=log)
            self._connect()
        except BaseException:
            self.close()
            raise

    def _initrd(self, given, modules, files):
        path = given or image(self.kernel.arch)
        if not modules and not files:
            return path
        files = files | {f"{name}.ko": (pathlib.Path(self.kernel.modules) / f"{name}.ko").read_bytes() for name in modules}
        joined = self.directory / "initrd"
        joined.write_bytes(pathlib.Path(path).read_bytes() + archive(files))
        return joined

    def _connect(self):
        def connected():
            if not self.process.alive():
                raise HarnessError(f"QEMU ended: {(self.directory / 'qemu.log').read_text()}")
            try:
                self.qmp = Qmp(self.directory / "qmp")
                return True
            except (FileNotFoundError, ConnectionRefusedError):
                return False

        wait_until(connected, 20, "QEMU's control socket", 0.02)
        self.serial = socket.socket(socket.AF_UNIX)
        self.serial.connect(str(self.directory / "shell"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends QEMU, whatever state it is in. May be called twice."""
        if self.process:
            self.process.kill()
        if self.qmp:
            self.qmp.close()
            self.qmp = None
        if self.serial:
            self.serial.close()
            self.serial = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def console(self):
        return self.console_path.read_text(errors="replace") if self.console_path.exists() else ""

    def wait_console(self, text, timeout=120, count=1):
        def seen():
            console = self.console()
            for bad in ("GUEST FAILED", "Kernel panic"):
                if bad in console:
                    raise HarnessError(f"the guest failed:\n{console[-3000:]}")
            if not self.process.alive():
                raise HarnessError(f"QEMU ended: {(self.directory / 'qemu.log').read_text()}")
            return console.count(text) >= count

        try:
            wait_until(seen, timeout, f"'{text}' on the console")
        except HarnessError as error:
            raise HarnessError(f"{error}\n--- console:\n{self.console()[-2000:]}") from None

    def wait_ready(self, timeout=120, boots=1):
        self.wait_console("GUEST READY", timeout, boots)

    def running(self):
        return self.qmp("query-status")["status"] == "running"

    def _receive(self, deadline, what):
        while not select.select([self.serial], [], [], min(1, max(0, deadline - time.monotonic())))[0]:
            # Nobody waits for a guest that has crashed.
            if time.monotonic() >= deadline or "Kernel panic" in self.console():
                raise HarnessError(f"serial: no answer to {what}: {self.state()}; console ends:\n{self.console()[-5000:]}")
        data = self.serial.recv(1 << 16)
        if not data:
            raise HarnessError("serial: QEMU closed it")
        self._received += data

    def state(self):
        """What QEMU says of the guest and where its CPUs are, for the reports of failures."""
        try:
            status = self.qmp("query-status")["status"]
            registers = self.qmp("human-monitor-command", **{"command-line": "info registers -a"})
        except (HarnessError, OSError) as error:
            return f"QEMU says nothing: {error}"
        return f"{status}, " + "; ".join(re.findall(r"CPU#\d+|\b(?:RIP|PC) *=\s*[0-9a-f]+", registers))

    def run_full(self, command, timeout=60):
        """Runs a shell command in the guest: (exit status, stdout, stderr), the latter as bytes."""
        if "\n" in command:
            raise ValueError("one line only")
        self._token += 1
        token = f"run-{os.getpid()}-{self._token}"
        deadline = time.monotonic() + timeout
        self._received = b""
        self.serial.sendall(f"{token} {command}\n".encode())
        start = token.encode() + b" "
        # An earlier command that timed out may still answer: skip to our own token.
        while start not in self._received or b"\n" not in self._received[self._received.index(start):]:
            self._receive(deadline, command)
        header, _, rest = self._received[self._received.index(start):].partition(b"\n")
        status, out, err, follow = (int(word) for word in header.split()[1:])
        pieces = [rest]
        have = len(rest)
        while have < follow:
            self._received = b""
            self._receive(deadline, command)
            pieces.append(self._received)
            have += len(self._received)
        body = b"".join(pieces)
        if len(body) != follow:
            raise HarnessError(f"serial: {len(body)} bytes instead of {follow}")
        if follow < out + err:
            body = gzip.decompress(body)
        return status, body[:out], body[out:]

    def run(self, command, timeout=60):
        """stdout as text of a command that succeeds; anything else is an error."""
        status, out, err = self.run_full(command, timeout)
        if status:
            raise HarnessError(f"'{command}' in the guest: exit status {status}: {err.decode(errors='replace')[-500:]}")
        return out.decode("utf-8", "replace")

    def json(self, command, timeout=120):
        """The JSON that a command prints. bpftool ends with 255 after some partial answers that are whole JSON."""
        status, out, err = self.run_full(command, timeout)
        try:
            return json.loads(out.decode("utf-8", "surrogateescape"))
        except ValueError:
            raise HarnessError(f"'{command}' in the guest: exit status {status}, no JSON: {out[-200:]!r} {err[-300:]!r}") from None

    def made(self):
        """The lines of /run/guest/made: see programs/guest.c."""
        return set(self.run("cat /run/guest/made").splitlines())

    def busy(self, on):
        """Lets the busy tasks run, or stops them: everything else is faster without."""
        self.run("busy " + ("on" if on else "off"))


class Answer:
    """An HTTP answer: status, headers, body; json() parses the body."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    def json(self):
        return json.loads(self.body)


class Daemon:
    """The daemon under test, on a free loopback port. vmlinux is the kernel file: "" for none, None for what kernel_file() says.

    prefix is a command that runs the rest of the line. $GUESTSCOPE_MEMORY is --memory, max_pause_share the option of that name, where
    the options do not have them; None leaves the daemon its own default.
    """

    def __init__(self, guest=None, *options, gdb=None, vmlinux=None, port=None, prefix=(), max_pause_share=100):
        self.binary = binary()
        if self.binary is None:
            raise HarnessError("guestscope is not built")
        self.port = port or free_port()
        if vmlinux is None:
            vmlinux = kernel_file(guest.kernel if guest else kernel("6.1"))
        file = ["--vmlinux", vmlinux] if vmlinux else []
        # Tests ask as fast as they can.
        memory = os.environ.get("GUESTSCOPE_MEMORY")
        if memory and not any(str(word).startswith("--memory") for word in options):
            file += ["--memory", memory]
        given = max_pause_share is None or any(str(word).startswith("--max-pause-share") for word in options)
        share = [] if given else [f"--max-pause-share={max_pause_share}"]
        self.log = tempfile.TemporaryFile()
        self.process = Process(
            [*prefix, self.binary, "--gdb", gdb or guest.gdb, *file, "--listen", f"127.0.0.1:{self.port}", *share, *options],
            stdout=subprocess.DEVNULL, stderr=self.log)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind:
            self.process.kill()
            print(f"--- {' '.join(self.process.command)}\n{self.stderr()[-3000:]}", flush=True)
        else:
            self.stop()

    def stderr(self):
        self.log.flush()
        # pread leaves the offset alone, which is the daemon's own: it writes through the same open file.
        return os.pread(self.log.fileno(), 1 << 20, 0).decode(errors="replace")

    def stop(self, number=signal.SIGTERM):
        """Ends it as a user would, and insists on exit status 0."""
        status = self.process.end(number)
        if status != 0:
            raise HarnessError(f"the daemon's exit status is {status}; it said:\n{self.stderr()[-3000:]}")

    def request(self, path, method="GET", timeout=60, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body=body)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def get(self, path, timeout=60):
        """The JSON of a path that must answer 200."""
        answer = self.request(path, timeout=timeout)
        if answer.status != 200:
            raise HarnessError(f"GET {path}: {answer.status}: {answer.body[:1000]!r}; the daemon said:\n{self.stderr()[-2000:]}")
        return answer.json()

    def wait_listening(self, timeout=30):
        def listening():
            if not self.process.alive():
                raise HarnessError(f"the daemon ended with {self.process.child.poll()}:\n{self.stderr()[-3000:]}")
            try:
                return self.request("/healthz", timeout=5).status == 200
            except OSError:
                return False

        wait_until(listening, timeout, "the daemon's HTTP server", 0.05)

    def wait_status(self, condition, timeout, what):
        """Polls /status until condition(status) holds; gives that status."""
        self.wait_listening()
        last = {}

        def holds():
            nonlocal last
            last = self.get("/status")
            return condition(last)

        try:
            wait_until(holds, timeout, what)
        except HarnessError as error:
            raise HarnessError(f"{error}; /status: {json.dumps(last)}; the daemon said:\n{self.stderr()[-2000:]}") from None
        return last

    def wait_ready(self, timeout=90):
        """Waits for all three accessors."""
        return self.wait_status(
            lambda status: all(accessor["state"] == "ready" for accessor in status["accessors"].values()), timeout, "readiness")

    def wait_quiet(self, timeout=90):
        """wait_ready(), and until nothing more is done that nobody asks for: looking for QEMU's process holds the guest, too."""
        self.wait_ready(timeout)
        return self.wait_status(lambda status: status["guest"]["memory_reason"] != "not looked for yet", 10, "a look for QEMU's process")

    def wait_connection(self, state, timeout=30):
        return self.wait_status(lambda status: status["guest"]["connection"] == state, timeout, f"connection {state}")


def once(guest, path, *options, gdb=None, vmlinux=None, timeout=120):
    """guestscope --once PATH: (exit status, stdout, stderr)."""
    file = kernel_file(guest.kernel) if vmlinux is None else vmlinux
    done = subprocess.run(
        [binary(), "--gdb", gdb or guest.gdb, *(["--vmlinux", file] if file else []), "--once", path, *options],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, preexec_fn=_die_with_parent, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace")
