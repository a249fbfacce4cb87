"""gdb on the same stub, asked for the same fields of the run queues, by the interface that programs drive it with.

It gets every help: the kernel's address from guestscope, its symbols before it attaches, and each command sent before the last one is
done. When gdb's input ends, so does gdb.
"""

import queue
import subprocess
import threading
import time

from figures import Stops, milliseconds, percentile, settle, spread

STOPS = 50
BETWEEN_SECONDS = 0.1
# Once gdb has taken ten minutes it is no rival.
LONGEST_SECONDS = 600


class Gdb:
    """A gdb under GDB/MI. One thread collects its lines."""

    def __init__(self):
        self.child = subprocess.Popen(["gdb", "-nx", "-q", "--interpreter=mi3"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, text=True, errors="replace")
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.child.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def say(self, *commands):
        self.child.stdin.write("".join(command + "\n" for command in commands))
        self.child.stdin.flush()

    def wait(self, start):
        """All lines up to one that begins with this."""
        seen, deadline = [], time.monotonic() + LONGEST_SECONDS
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise OSError(f"gdb: no {start} within {LONGEST_SECONDS} s") from None
            if line is None or line.startswith("^error"):
                raise OSError(f"gdb: {line or 'ended'}")
            seen.append(line)
            if line.startswith(start):
                return seen

    def do(self, command, start="^done"):
        self.say(command)
        return self.wait(start)

    def close(self):
        self.child.kill()
        self.child.wait()


def printing(cpus, slide):
    """(gdb's commands that find the run queues, those that print them).

    A per-CPU symbol does not move with the kernel, but gdb has moved all of them."""
    find = [f"set $rq{cpu} = (struct rq *)((char *)&runqueues - {slide} + __per_cpu_offset[{cpu}])" for cpu in range(cpus)]
    show = []
    for cpu in range(cpus):
        fields = ", ".join(f"$rq{cpu}->{field}" for field in ("nr_running", "nr_switches", "clock", "curr->pid"))
        show += [f'printf "RQ {cpu} %u %llu %llu %d ", {fields}', f"output $rq{cpu}->curr->comm", r'printf "\n"']
    return find, show


def console(command):
    return '-interpreter-exec console "' + command.replace("\\", "\\\\").replace('"', '\\"') + '"'


def again(guest, gdb, script):
    """Interrupt, print, continue, many times: what each takes and for how long the guest stood still."""
    stops, took = Stops(guest), []
    for _ in range(STOPS):
        time.sleep(BETWEEN_SECONDS)
        start = time.monotonic()
        gdb.do("-exec-interrupt", "*stopped")
        # Sent as one, so that gdb and not this program decides how long the guest waits.
        gdb.say(*script, "-exec-continue")
        lines = sum(line.startswith('~"RQ ') for line in gdb.wait("^running"))
        if lines != guest.cpus:
            raise OSError(f"gdb printed {lines} run queues instead of {guest.cpus}")
        took.append((time.monotonic() - start) * 1000)
    settle()
    return {"ms": percentile(took, 0.5), "stopped_us": spread(stops.lengths_us())}


def measure(guest, slide):
    """slide: where the kernel runs less where it was linked."""
    gdb = Gdb()
    try:
        _, symbols = milliseconds(lambda: gdb.do(console(f"symbol-file -o {slide:#x} {guest.kernel.vmlinux}")))
        gdb.do("-gdb-set pagination off")
        gdb.do("-gdb-set mi-async on")
        find, show = ([console(command) for command in commands] for commands in printing(guest.cpus, slide))
        stops = Stops(guest)
        gdb.say(f"-target-select remote {guest.gdb}", *find, *show, "-exec-continue")
        _, first = milliseconds(lambda: gdb.wait("^running"))
        settle()
        result = {"symbols_ms": symbols, "first_ms": first, "first_stopped_us": sum(stops.lengths_us()), "items": guest.cpus,
                  "again": again(guest, gdb, find + show), "kept": again(guest, gdb, show)}
        gdb.do("-exec-interrupt", "*stopped")
        gdb.do("-target-detach")
        return result
    finally:
        gdb.close()
