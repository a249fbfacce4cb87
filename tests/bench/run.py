"""Boots a guest and measures what guestscope costs: python3 tests/bench/run.py [--start-up | --maps] BUILD_DIR [KERNEL]. See run.sh."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
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


def without_btf(vmlinux, directory):
    """A copy whose types are told by DWARF alone."""
    copy = pathlib.Path(directory) / "vmlinux"
    # Its symbols refer to the section, which therefore cannot be removed.
    subprocess.run(["objcopy", "--rename-section", ".BTF=.no_BTF", vmlinux, copy], check=True)
    return copy


def start_ups(binary, guest):
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


def print_start_ups(rows):
    print("| given | symbols | types | ready after ms: median | longest | stops | held, ms | longest stop, ms |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, row in rows.items():
        print(f"| {name} | {row['symbols']} | {row['types']} | {row['ms']:.0f} | {row['longest_ms']:.0f} | {row['stops']} | "
              f"{row['held_ms']:.0f} | {row['longest_stop_ms']:.0f} |")


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


def large_maps(build, guest):
    """Maps of 100,000 and 1,000,000 elements: read through the stub, and as a user's curl gets them."""
    guest.run("guest large", 120)
    result = json.loads(subprocess.run([build / "tests/bench/bench_maps", guest.gdb, guest.kernel.vmlinux],
                                       stdout=subprocess.PIPE, check=True).stdout)
    with Daemon(guest) as daemon:
        daemon.wait_ready()
        for name in ("large_hash", "large_array", "huge_hash"):
            start = time.monotonic()
            size = int(subprocess.run(["curl", "-sf", "-o", "/dev/null", "-w", "%{size_download}", f"http://127.0.0.1:{daemon.port}/maps/{name}"],
                                      stdout=subprocess.PIPE, check=True).stdout)
            result[f"curl {name}"] = {"ms": (time.monotonic() - start) * 1000, "json_mb": size / 1e6}
        status = pathlib.Path(f"/proc/{daemon.process.child.pid}/status").read_text()
        result["peak_mb"] = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024
    return result


def print_large_maps(result):
    ceiling = result["ceiling"]["mb_per_s"]
    print("| read | ms | entries | MB read | MB/s | of the ceiling | round trips | packets |\n| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in ("ceiling", "large_hash", "large_array", "huge_hash?key="):
        row = result[name]
        print(f"| {name} | {row['ms']:.1f} | {row['entries']} | {row['bytes_read'] / 1e6:.2f} | {row['mb_per_s']:.0f} | "
              f"{row['mb_per_s'] / ceiling * 100:.0f} % | {row['round_trips']} | {row['packets']} |")
    print("\n| answer | ms | MB of JSON |\n| --- | --- | --- |")
    for name in ("large_hash", "large_array", "huge_hash"):
        row = result[f"curl {name}"]
        print(f"| `/maps/{name}` | {row['ms']:.0f} | {row['json_mb']:.1f} |")
    print(f"\nThe daemon's memory afterwards: at most {result['peak_mb']:.0f} MB.")


def daemon_stops(daemon):
    return daemon.get("/status")["pauses"]["count"]


def cpu_ticks(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def main():
    arguments = [word for word in sys.argv[1:] if not word.startswith("--")]
    build = pathlib.Path(arguments[0])
    series = arguments[1] if len(arguments) > 1 else "6.1"
    os.environ["GUESTSCOPE_BINARY"] = str(build / "daemon/guestscope")
    # A million elements have 140 MB.
    with Guest(kernel(series), memory="1G" if "--maps" in sys.argv[1:] else "512M") as guest:
        guest.wait_ready()
        if "--maps" in sys.argv[1:]:
            guest.busy(False)
            result = large_maps(build, guest)
            (build / "bench-maps.json").write_text(json.dumps(result, indent=2) + "\n")
            print(f"Linux {guest.kernel.release}, 2 CPUs, emulated; {os.cpu_count()} host CPUs\n")
            print_large_maps(result)
            return
        guest.busy(True)
        by_source = start_ups(build / "daemon/guestscope", guest)
        if "--start-up" in sys.argv[1:]:
            print(f"Linux {guest.kernel.release}, 2 CPUs busy, emulated; {os.cpu_count()} host CPUs; {STARTS} starts each\n")
            print_start_ups(by_source)
            return
        result = json.loads(subprocess.run(
            [build / "tests/bench/bench_snapshots", guest.gdb, guest.kernel.vmlinux, str(SNAPSHOTS)],
            stdout=subprocess.PIPE, check=True).stdout)
        result["first_answer_ms"] = first_answer_ms(build / "daemon/guestscope", guest)
        rss, peak, idle, stops = resident_and_idle(guest)
        result["start_up_by_source"] = by_source
        result["daemon"] = {"resident_mb": rss, "peak_mb": peak, "idle_cpu": idle, "idle_stops": stops}
        release = guest.kernel.release
    print(f"Linux {release}, 2 CPUs busy, emulated; {os.cpu_count()} host CPUs\n")
    print("| start-up | ms |\n| --- | --- |")
    for name, value in result["start_up"].items():
        print(f"| {name.removesuffix('_ms').replace('_', ' ')} | {value:.1f} |")
    print(f"| exec to the last byte of `--once /maps` (median of {STARTS}) | {result['first_answer_ms']:.0f} |\n")
    print_start_ups(by_source)
    print("\n| snapshot | pause µs: median | p99 | max | the first | round trips: median | p99 | the first | packets |\n"
          "| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, kind in result["snapshots"].items():
        pause = kind["pause_us"]
        trips, first = kind["round_trips"], kind["first"]
        print(f"| {name} | {pause['median']:.0f} | {pause['p99']:.0f} | {pause['max']:.0f} | {first['pause_us']} | "
              f"{trips['median']:.0f} | {trips['p99']:.0f} | {first['round_trips']} | {kind['packets']} |")
    print(f"\nResident: {rss:.0f} MB, at most {peak:.0f} MB. Idle: {idle * 100:.2f} % of a CPU, {stops} stops in {IDLE_SECONDS} s.")
    output = build / "bench.json"
    output.write_text(json.dumps(result, indent=2) + "\n")
    print(f"Figures: {output}")


main()
