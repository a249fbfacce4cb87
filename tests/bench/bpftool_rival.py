"""bpftool inside the guest against guestscope's answers from outside: the list of maps, and all of a large one."""

import http.client
import time

from figures import milliseconds, percentile
from guest import Daemon

RUNS = 3
MAP = "large_hash"


def inside(guest, command):
    """In ms, less what the way in and out takes; the output stays in the guest."""
    empty = percentile([milliseconds(lambda: guest.run("true"))[1] for _ in range(RUNS)], 0.5)
    times = [milliseconds(lambda: guest.run(f"{command} >/dev/null", 600))[1] for _ in range(RUNS)]
    return max(0.0, percentile(times, 0.5) - empty)


def outside(daemon, path):
    times, told = [], []
    for _ in range(RUNS + 1):
        connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=600)
        start = time.monotonic()
        connection.request("GET", path)
        answer = connection.getresponse()
        size = len(answer.read())
        times.append((time.monotonic() - start) * 1000)
        connection.close()
        if answer.status != 200:
            raise OSError(f"{path}: {answer.status}")
        told.append(daemon.get("/status")["pauses"]["total_us"])
    return {"ms": percentile(times[1:], 0.5), "first_ms": times[0], "stopped_ms": (told[-1] - told[0]) / RUNS / 1000, "mb": size / 1e6}


def measure(guest):
    """On a guest with the large maps."""
    with Daemon(guest) as daemon:
        daemon.wait_ready()
        return {"list": {"bpftool_ms": inside(guest, "bpftool -j map show"), "guestscope": outside(daemon, "/maps")},
                "dump": {"bpftool_ms": inside(guest, f"bpftool -j map dump name {MAP}"),
                         "guestscope": outside(daemon, f"/maps/{MAP}"),
                         "guestscope_as_bpftool": outside(daemon, f"/maps/{MAP}?format=bpftool")}}
