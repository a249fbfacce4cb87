"""Snapshots without HTTP, by bench_snapshots: pauses, round trips and packets of each kind."""

import json
import subprocess

from figures import print_table

SNAPSHOTS = 200


def measure(build, guest):
    return json.loads(subprocess.run([build / "tests/bench/bench_snapshots", guest.gdb, guest.kernel.vmlinux, str(SNAPSHOTS)],
                                     stdout=subprocess.PIPE, check=True).stdout)


def show(result):
    print_table("Start-up by steps", ["start-up", "ms"],
                [[name.removesuffix("_ms").replace("_", " "), value] for name, value in result["start_up"].items()])
    rows = []
    for name, kind in result["snapshots"].items():
        pause, trips, first = kind["pause_us"], kind["round_trips"], kind["first"]
        rows.append([name, pause["median"], pause["p99"], pause["max"], first["pause_us"], trips["median"], trips["p99"],
                     first["round_trips"], kind["packets"]])
    print_table(f"Snapshots, {SNAPSHOTS} of a kind, 10 of all contents",
                ["snapshot", "pause µs: median", "p99", "max", "the first", "round trips: median", "p99", "the first", "packets"], rows)
