"""Boots guests and measures what guestscope and its rivals cost: python3 tests/bench/run.py [--PART…] BUILD_DIR [KERNEL]. See run.sh."""

import os
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "guest"))

import boot  # noqa: E402 (the path comes first)
import bpftool_rival  # noqa: E402
import ceiling  # noqa: E402
import large_maps  # noqa: E402
import load  # noqa: E402
import pauses  # noqa: E402
import rivals  # noqa: E402
import snapshots  # noqa: E402
import start_up  # noqa: E402
from figures import write_json  # noqa: E402
from guest import Guest, kernel, qemu_program, MACHINES  # noqa: E402

CPUS = 4
PARTS = ("start-up", "pauses", "rivals", "load", "maps", "boot")


class Run:
    """The figures so far. They are written after each step, so that one that fails costs no more than itself."""

    def __init__(self, path, measured_on):
        self.path = path
        self.result = {"measured_on": measured_on}

    def step(self, name, measure, show):
        start = time.monotonic()
        result = measure()
        self.result[name] = {"took_s": round(time.monotonic() - start, 1), **result}
        write_json(self.path, self.result)
        show(result)
        return result


def host(of):
    processor = next((line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                      if line.startswith("model name")), "unknown")
    qemu = subprocess.run([qemu_program(MACHINES[of.arch].qemu), "--version"], capture_output=True, text=True, check=True).stdout
    return {"kernel": of.release, "host_cpus": os.cpu_count(), "processor": processor, "qemu": qemu.splitlines()[0],
            "load_average": os.getloadavg(), "at": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())}


def on_busy_guest(run, parts, build, of):
    with Guest(of, cpus=CPUS) as guest:
        guest.wait_ready(600)
        guest.busy(True)
        if "start-up" in parts:
            run.step("start-up", lambda: start_up.measure(build / "daemon/guestscope", guest), start_up.show)
        if parts & {"pauses", "rivals"}:
            run.step("ceiling", lambda: ceiling.measure(guest), ceiling.show)
            own = run.step("pauses", lambda: pauses.measure(guest), pauses.show)
        if "pauses" in parts:
            run.step("snapshots", lambda: snapshots.measure(build, guest), snapshots.show)
        if "rivals" in parts:
            run.step("rivals", lambda: rivals.measure(guest), lambda result: rivals.show(result, own))
        if "load" in parts:
            run.step("load", lambda: load.measure(guest), load.show)


def on_large_guest(run, parts, build, of):
    # A million elements have 140 MB.
    with Guest(of, cpus=CPUS, memory="1G") as guest:
        guest.wait_ready(600)
        guest.busy(False)
        guest.run("guest large", 300)
        if "maps" in parts:
            run.step("maps", lambda: large_maps.measure(build, guest), large_maps.show)
        if "rivals" in parts:
            # Still without the busy tasks, beside which bpftool takes minutes.
            run.step("bpftool", lambda: bpftool_rival.measure(guest), rivals.show_bpftool)


def main():
    arguments = [word for word in sys.argv[1:] if not word.startswith("--")]
    parts = {word[2:] for word in sys.argv[1:] if word.startswith("--")} or set(PARTS)
    build = pathlib.Path(arguments[0])
    of = kernel(arguments[1] if len(arguments) > 1 else "6.1")
    os.environ["GUESTSCOPE_BINARY"] = str(build / "daemon/guestscope")
    run = Run(build / "bench.json", host(of))
    print(f"Linux {of.release}, {CPUS} CPUs, emulated by {run.result['measured_on']['qemu']}; {os.cpu_count()} host CPUs, "
          f"{run.result['measured_on']['processor']}, load {os.getloadavg()[0]:.1f} before", flush=True)
    if parts & {"start-up", "pauses", "rivals", "load"}:
        on_busy_guest(run, parts, build, of)
    if parts & {"maps", "rivals"}:
        on_large_guest(run, parts, build, of)
    if "boot" in parts:
        run.step("boot", lambda: boot.measure(of), boot.show)
    print(f"\nFigures: {run.path}")


main()
