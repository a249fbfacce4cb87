"""Many clients at once, the daemon as a user starts it: how many it serves, how late, how much of the time the guest stands still."""

import json
import pathlib
import subprocess
import sys
import time

from figures import Stops, cell, print_table, settle
from guest import Daemon

CLIENTS = 64
SECONDS = 30
PATH = "/runqueues"




def measure(guest):
    with Daemon(guest, max_pause_share=None) as daemon:
        daemon.wait_ready()
        settle()
        before, stops, start = daemon.get("/status")["pauses"], Stops(guest), time.monotonic()
        clients = [sys.executable, pathlib.Path(__file__).with_name("load_clients.py"), str(daemon.port), str(CLIENTS), str(SECONDS), PATH]
        result = json.loads(subprocess.run(clients, stdout=subprocess.PIPE, check=True).stdout)
        seconds = time.monotonic() - start
        settle()
        after, lengths = daemon.get("/status")["pauses"], stops.lengths_us()
    return {"clients": CLIENTS, "path": PATH, **result, "stops": len(lengths), "stopped_share_seen": sum(lengths) / 1e6 / seconds,
            "stopped_share_told": (after["total_us"] - before["total_us"]) / 1e6 / seconds,
            "longest_stop_us": max(lengths, default=None)}


def show(result):
    errors = ", ".join(f"{count} × {what}" for what, count in result["errors"].items()) or "none"
    longest = result["longest_stop_us"]
    print_table(f"{result['clients']} clients asking `{result['path']}` as fast as they can, {result['seconds']:.0f} s, default options",
                ["what", ""], [
        ["answers; a second", f"{result['answers']}; {result['per_second']:.0f}"],
        ["errors", errors],
        ["ms: median; p99; max", "; ".join(cell(result["ms"][each]) for each in ("median", "p99", "max"))],
        ["longest wait of a client that has no answer at the end, ms", result["longest_still_waiting_ms"]],
        ["connections opened again; requests sent again", f"{result['reconnects']}; {result['asked_again']}"],
        ["stops; longest, ms", f"{result['stops']}; {cell(longest / 1000) if longest is not None else ''}"],
        ["guest stopped, % of the time: by QMP; by `/status`",
         f"{result['stopped_share_seen'] * 100:.2f}; {result['stopped_share_told'] * 100:.2f}"],
        ["the clients' share of a processor, %", result["clients_cpu"] * 100]])
