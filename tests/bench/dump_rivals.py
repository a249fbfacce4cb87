"""crash and drgn on a dump of the guest: what they take, and what the dump costs the guest."""

import pathlib
import re
import shutil
import struct
import subprocess

from figures import Stops, milliseconds, percentile, settle
from guest import HarnessError, wait_until

HERE = pathlib.Path(__file__).resolve().parent
RUNS = 3
LONGEST_SECONDS = 600
# Number, address, type and flags; a program's line has a tag behind its type and no flags.
MAP_OF_CRASH = r"^ *[0-9]+ +[0-9a-f]{16} +[A-Z_]+ +[0-9a-f]{8} *$"
PT_LOAD, PT_NOTE = 1, 4


def make_dump(guest, path, paging):
    """An ELF dump of all memory, with the addresses that the kernel has for it or without.

    (How long that took, for how long the guest stood still), in ms."""
    stops = Stops(guest)

    def dump():
        # Without detaching, QEMU's answer can take longer than the channel's limit.
        guest.qmp("dump-guest-memory", paging=paging, protocol=f"file:{path}", detach=True)
        wait_until(lambda: stops.pairs(), LONGEST_SECONDS, "the dump", 0.02)

    _, took = milliseconds(dump)
    settle()
    return took, sum(stops.lengths_us()) / 1000


def add_vmcoreinfo(path, place):
    """drgn wants the note VMCOREINFO, which QEMU adds for guests with its device vmcoreinfo and the driver for it. Its text is in the dump.

    place: what the guest says in /sys/kernel/vmcoreinfo, its physical address and size.
    """
    address, size = (int(word, 16) for word in place.split())
    with open(path, "r+b") as dump:
        header = dump.read(64)
        table, = struct.unpack_from("<Q", header, 32)
        entry_size, entries = struct.unpack_from("<HH", header, 54)
        dump.seek(table)
        segments = [struct.unpack("<IIQQQQQQ", dump.read(entry_size)) for _ in range(entries)]
        _, _, start, _, physical, _, _, _ = next(segment for segment in segments if segment[0] == PT_LOAD and
                                                 segment[4] <= address < segment[4] + segment[5])
        dump.seek(start + address - physical)
        # The guest keeps it as a note with that note's own header, in a place that is larger.
        note = dump.read(size)
        name_size, text_size = struct.unpack_from("<II", note)
        note = note[:12 + (name_size + 3) // 4 * 4 + (text_size + 3) // 4 * 4]
        index, notes = next((i, segment) for i, segment in enumerate(segments) if segment[0] == PT_NOTE)
        dump.seek(notes[2])
        all_notes = dump.read(notes[5]) + note
        end = dump.seek(0, 2)
        dump.write(all_notes)
        dump.seek(table + index * entry_size)
        dump.write(struct.pack("<IIQQQQQQ", notes[0], notes[1], end, notes[3], notes[4], len(all_notes), len(all_notes), notes[7]))


def run(command, given=""):
    done = subprocess.run([str(word) for word in command], input=given, capture_output=True, text=True, errors="replace",
                          timeout=LONGEST_SECONDS, check=False)
    if done.returncode:
        raise OSError(f"{command[0]}: exit status {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout


def several(command, given, pattern):
    """The median time of some runs, and how many lines of the last one match: an answer that is none shows by that."""
    runs = [milliseconds(lambda: run(command, given)) for _ in range(RUNS)]
    lines = len(re.findall(pattern, runs[-1][0], re.MULTILINE))
    return {"ms": percentile([ms for _, ms in runs], 0.5), "items": lines}


def one_line(error):
    return " ".join(f"{error or type(error).__name__}".split())[:300]


def attempt(action):
    """What it gives, or a row that says why not."""
    try:
        return action()
    except (OSError, HarnessError, subprocess.TimeoutExpired, StopIteration) as error:
        return {"failed": one_line(error)}


def crash_rows(vmlinux, dump):
    crash = ["crash", "-s", vmlinux, dump]
    return {"start": attempt(lambda: several(crash, "q\n", "^CPU ")),
            "start, `bpf`": attempt(lambda: several(crash, "bpf\nq\n", MAP_OF_CRASH)),
            "start, `runq`": attempt(lambda: several(crash, "runq\nq\n", "^CPU [0-9]+ RUNQUEUE:"))}


def drgn_rows(vmlinux, dump):
    drgn = ["drgn", "-q", "-c", dump, "-s", vmlinux]
    return {"start": attempt(lambda: several([*drgn, "/dev/null"], "", "^MAP ")),
            "start, list of maps": attempt(lambda: several([*drgn, HERE / "drgn_maps.py"], "", "^MAP ")),
            "start, run queues": attempt(lambda: several([*drgn, HERE / "drgn_runqueues.py"], "", "^RQ "))}


def with_dump(guest, tool, paging, rows):
    """Has a dump made, and lets a tool work on it. Meanwhile the guest stands still: nobody analyses a dump on the host that the guest
    keeps busy."""
    if not shutil.which(tool):
        return {"failed": "not installed"}, {}
    path = guest.directory / "dump"
    try:
        took, stopped = make_dump(guest, path, paging)
        if tool == "drgn":
            add_vmcoreinfo(path, guest.run("cat /sys/kernel/vmcoreinfo"))
        size = path.stat().st_size / 1e6
        guest.qmp("stop")
        try:
            return {"ms": took, "stopped_ms": stopped, "mb": size, "memory": guest.memory}, rows(guest.kernel.vmlinux, path)
        finally:
            guest.qmp("cont")
    except (OSError, HarnessError, StopIteration, struct.error) as error:
        return {"failed": one_line(error)}, {}
    finally:
        path.unlink(missing_ok=True)


def measure(guest):
    result = {}
    # drgn of Debian 12 finds nothing in a dump without the kernel's own addresses; crash takes that one, which is the quicker.
    for tool, paging, rows in (("crash", False, crash_rows), ("drgn", True, drgn_rows)):
        result[f"dump for {tool}"], result[tool] = with_dump(guest, tool, paging, rows)
    return result
