"""What guestscope costs before and between questions: until everything can be read, until the first answer, and while nobody asks."""

import json
import os
import pathlib
import subprocess
import tempfile
import time

from figures import Stops, percentile, print_table, settle
from guest import Daemon

STARTS = 9
IDLE_SECONDS = 10


def first_answer_ms(binary, guest):
    """From exec to the last byte of /maps, as a user's script sees it."""
    times = []
    for _ in range(STARTS):
        start = time.monotonic()
        subprocess.run([binary, "--gdb", guest.gdb, "--vmlinux", guest.kernel.vmlinux, "--once", "/maps", "--log-level", "off"],
                       stdout=subprocess.DEVNULL, check=True)
        times.append((time.monotonic() - start) * 1000)
    return percentile(times, 0.5)


def without_btf(vmlinux, directory):
    """A copy whose types are told by DWARF alone."""
    copy = pathlib.Path(directory) / "vmlinux"
    # Its symbols refer to the section, which therefore cannot be removed.
    subprocess.run(["objcopy", "--rename-section", ".BTF=.no_BTF", vmlinux, copy], check=True)
    return copy


def by_source(binary, guest):
    """How long until everything can be read, and what that costs the guest, by where symbols and types come from."""
    with tempfile.TemporaryDirectory() as directory:
        files = {"`vmlinux`": guest.kernel.vmlinux, "`vmlinuz`": guest.kernel.vmlinuz,
                 "`vmlinux` with DWARF alone": without_btf(guest.kernel.vmlinux, directory), "no file": None}
        # Types from DWARF are kept in there: the first start, which is the longest, makes them.
        environment = {**os.environ, "XDG_CACHE_HOME": directory}
        return {name: start_up(binary, guest, ["--vmlinux", file] if file else [], environment) for name, file in files.items()}


def start_up(binary, guest, options, environment):
    runs = []
    for _ in range(STARTS):
        start = time.monotonic()
        # It answers once everything is ready; the body is that of /status.
        done = subprocess.run([binary, "--gdb", guest.gdb, *options, "--once", "/readyz", "--log-level", "off"],
                              stdout=subprocess.PIPE, env=environment, check=True)
        runs.append({"ms": (time.monotonic() - start) * 1000, **json.loads(done.stdout)})
    middle = sorted(runs, key=lambda run: run["ms"])[STARTS // 2]
    return {"ms": middle["ms"], "longest_ms": max(run["ms"] for run in runs), "stops": middle["pauses"]["count"],
            "held_ms": middle["pauses"]["total_us"] / 1000,
            "longest_stop_ms": max(run["pauses"]["max_us"] for run in runs) / 1000,
            "symbols": middle["kernel"]["symbols_from"], "types": middle["kernel"]["types_from"]}


def process_mb(daemon, name):
    status = pathlib.Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1]) / 1024


def cpu_ticks(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def idle(guest):
    """Resident memory after every map has been asked for; then processor time and stops while nobody asks."""
    with Daemon(guest) as daemon:
        daemon.wait_ready()
        for name in ("/maps?contents", "/progs", "/runqueues"):
            daemon.get(name)
        settle()
        before, stops = cpu_ticks(daemon.process.pid), Stops(guest)
        time.sleep(IDLE_SECONDS)
        used = (cpu_ticks(daemon.process.pid) - before) / os.sysconf("SC_CLK_TCK") / IDLE_SECONDS
        return {"seconds": IDLE_SECONDS, "stops": len(stops.lengths_us()), "cpu": used, "resident_mb": process_mb(daemon, "VmRSS"),
                "peak_mb": process_mb(daemon, "VmHWM")}


def measure(binary, guest):
    return {"by_source": by_source(binary, guest), "first_answer_ms": first_answer_ms(binary, guest), "idle": idle(guest)}


def show(result):
    print_table(f"Start-up by source of symbols and types, {STARTS} starts each",
                ["given", "symbols", "types", "ready after ms: median", "longest", "stops", "held, ms", "longest stop, ms"],
                [[name, row["symbols"], row["types"], row["ms"], row["longest_ms"], row["stops"], row["held_ms"], row["longest_stop_ms"]]
                 for name, row in result["by_source"].items()])
    row = result["idle"]
    print_table("Around the answers", ["what", ""], [
        [f"exec to the last byte of `--once /maps`, median of {STARTS}, ms", result["first_answer_ms"]],
        [f"stops in {row['seconds']} s in which nobody asks", row["stops"]],
        ["share of a processor meanwhile, %", row["cpu"] * 100],
        ["resident; at most, MB", f"{row['resident_mb']:.0f}; {row['peak_mb']:.0f}"]])
