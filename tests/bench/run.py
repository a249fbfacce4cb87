"""Boots a guest and measures what guestscope costs: python3 tests/bench/run.py BUILD_DIR [SERIES]. See run.sh."""

import json
import os
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "guest"))
from guest import Daemon, Guest, kernel  # noqa: E402

SNAPSHOTS = 200
STARTS = 9
IDLE_SECONDS = 5


def first_answer_ms(binary, guest):
    """From exec to the last byte of /maps, as a user's script sees it."""
    times = []
    for _ in range(STARTS):
        start = time.monotonic()
        subprocess.run([binary, "--gdb", guest.gdb, "--vmlinux", guest.kernel.vmlinux, "--once", "/maps", "--log-level", "off"],
                       stdout=subprocess.DEVNULL, check=True)
        times.append((time.monotonic() - start) * 1000)
    return sorted(times)[STARTS // 2]


def resident_and_idle(guest):
    """Peak resident memory in MB after every map has been asked for, and the share of a processor used while idle."""
    with Daemon(guest) as daemon:
        daemon.wait_ready()
        for name in ("/maps?contents", "/progs", "/runqueues"):
            daemon.get(name)
        cpu = lambda: cpu_ticks(daemon.process.child.pid)  # noqa: E731
        before, stops = cpu(), daemon_stops(daemon)
        time.sleep(IDLE_SECONDS)
        used = (cpu() - before) / os.sysconf("SC_CLK_TCK") / IDLE_SECONDS
        status = pathlib.Path(f"/proc/{daemon.process.child.pid}/status").read_text()
        field = lambda name: int(next(l for l in status.splitlines() if l.startswith(name)).split()[1]) / 1024  # noqa: E731
        return field("VmRSS"), field("VmHWM"), used, daemon_stops(daemon) - stops - 1


def daemon_stops(daemon):
    return daemon.get("/status")["pauses"]["count"]


def cpu_ticks(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def main():
    build = pathlib.Path(sys.argv[1])
    series = sys.argv[2] if len(sys.argv) > 2 else "6.1"
    os.environ["GUESTSCOPE_BINARY"] = str(build / "daemon/guestscope")
    with Guest(kernel(series)) as guest:
        guest.wait_ready()
        guest.busy(True)
        result = json.loads(subprocess.run(
            [build / "tests/bench/bench_snapshots", guest.gdb, guest.kernel.vmlinux, str(SNAPSHOTS)],
            stdout=subprocess.PIPE, check=True).stdout)
        result["first_answer_ms"] = first_answer_ms(build / "daemon/guestscope", guest)
        rss, peak, idle, stops = resident_and_idle(guest)
        result["daemon"] = {"resident_mb": rss, "peak_mb": peak, "idle_cpu": idle, "idle_stops": stops}
        release = guest.kernel.release
    print(f"Linux {release}, 2 CPUs busy, emulated; {os.cpu_count()} host CPUs\n")
    print("| start-up | ms |\n| --- | --- |")
    for name, value in result["start_up"].items():
        print(f"| {name.removesuffix('_ms').replace('_', ' ')} | {value:.1f} |")
    print(f"| exec to the last byte of `--once /maps` (median of {STARTS}) | {result['first_answer_ms']:.0f} |\n")
    print("| snapshot | pause µs: median | p99 | max | round trips | packets | stops |\n| --- | --- | --- | --- | --- | --- | --- |")
    for name, kind in result["snapshots"].items():
        pause = kind["pause_us"]
        print(f"| {name} | {pause['median']:.0f} | {pause['p99']:.0f} | {pause['max']:.0f} | {kind['round_trips']} | "
              f"{kind['packets']} | {kind['stops']} |")
    print(f"\nResident: {rss:.0f} MB, at most {peak:.0f} MB. Idle: {idle * 100:.2f} % of a CPU, {stops} stops in {IDLE_SECONDS} s.")
    output = build / "bench.json"
    output.write_text(json.dumps(result, indent=2) + "\n")
    print(f"Figures: {output}")


main()
