"""What all parts of the benchmarks share: order statistics, tables for people, and how long a guest stood still as QEMU itself tells it."""

import json
import math
import time


def percentile(values, share):
    """By nearest rank, so always a value that was measured; None of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def spread(values):
    """What a table shows of many measurements."""
    return {"count": len(values), "median": percentile(values, 0.5), "p99": percentile(values, 0.99), "max": max(values, default=None)}


def cell(value):
    """A figure as precise as it is worth: three digits, or more when it is larger."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return str(value)


def print_table(title, heads, rows):
    """A table as documents have them."""
    print(f"\n{title}\n")
    for row in [heads, ["---"] * len(heads), *rows]:
        print("| " + " | ".join(cell(value) for value in row) + " |")
    print(end="", flush=True)


def milliseconds(action):
    """What an action gives, and how long it took."""
    start = time.monotonic()
    result = action()
    return result, (time.monotonic() - start) * 1000


class Stops:
    """When a guest stood still, by the times in QEMU's events STOP and RESUME, from now on.

    These are taken when all vCPUs have stopped and just before they may run again: what the vCPUs take to notice either is not in them.
    Their clock is the host's, time.time(), in whole microseconds.
    """

    def __init__(self, guest):
        self.qmp = guest.qmp
        self.first = 0
        self.first = len(self._events())

    def _events(self):
        return self.qmp.events[self.first:]

    def pairs(self):
        """(from, to) in seconds of the host's clock, in order. A stop that lasts is not in it."""
        found, since = [], None
        for event in self._events():
            at = event["timestamp"]["seconds"] + event["timestamp"]["microseconds"] / 1e6
            if event["event"] == "STOP":
                since = at
            elif event["event"] == "RESUME" and since is not None:
                found.append((since, at))
                since = None
        return found

    def lengths_us(self):
        return [(to - since) * 1e6 for since, to in self.pairs()]

    def by_window(self, begins):
        """For each interval that begins at one of these times and ends at the next one: (stops that began in it, their sum in µs)."""
        sums = [[0, 0.0] for _ in begins]
        at = -1
        for since, to in self.pairs():
            while at + 1 < len(begins) and begins[at + 1] <= since:
                at += 1
            if at >= 0:
                sums[at][0] += 1
                sums[at][1] += (to - since) * 1e6
        return sums


def settle():
    """Lets QEMU's last events arrive."""
    time.sleep(0.2)


def write_json(path, result):
    path.write_text(json.dumps(result, indent=2) + "\n")
