"""Maps of 100,000 and 1,000,000 elements: read through the stub, and as a user's curl gets them."""

import json
import subprocess
import time

from figures import print_table
from guest import Daemon
from start_up import process_mb


def measure(build, guest):
    """On a guest with the large maps."""
    result = json.loads(subprocess.run([build / "tests/bench/bench_maps", guest.gdb, guest.kernel.vmlinux],
                                       stdout=subprocess.PIPE, check=True).stdout)
    with Daemon(guest) as daemon:
        daemon.wait_ready()
        for name in ("large_hash", "large_array", "huge_hash"):
            start = time.monotonic()
            curl = ["curl", "-sf", "-o", "/dev/null", "-w", "%{size_download}", f"http://127.0.0.1:{daemon.port}/maps/{name}"]
            size = int(subprocess.run(curl, stdout=subprocess.PIPE, check=True).stdout)
            result[f"curl {name}"] = {"ms": (time.monotonic() - start) * 1000, "json_mb": size / 1e6}
        result["peak_mb"] = process_mb(daemon, "VmHWM")
    return result


def show(result):
    rows = [(name, result[name]) for name in ("ceiling", "large_hash", "large_array", "huge_hash?key=")]
    print_table("Large maps, an idle guest",
                ["read", "ms", "entries", "MB read", "MB/s", "of the ceiling, %", "round trips", "packets"],
                [[name, row["ms"], row["entries"], row["bytes_read"] / 1e6, row["mb_per_s"], row["ceiling_percent"],
                  row["round_trips"], row["packets"]] for name, row in rows])
    print_table("As curl gets them", ["answer", "ms", "MB of JSON"],
                [[f"`/maps/{name}`", result[f"curl {name}"]["ms"], result[f"curl {name}"]["json_mb"]]
                 for name in ("large_hash", "large_array", "huge_hash")])
    print(f"\nThe daemon's memory afterwards: at most {result['peak_mb']:.0f} MB.")
