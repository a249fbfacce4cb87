"""A guest that is watched from its first instruction against the same guest alone: how much later it is ready."""

import time

from figures import Stops, percentile, print_table, spread
from guest import Daemon, Guest

PAIRS = 5
CPUS = 4
LONGEST_SECONDS = 600


def ready_ms(guest):
    """From its first start, as QEMU tells it, to its words on the console, which are looked for every few milliseconds."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while b"GUEST READY" not in guest.console_path.read_bytes():
        if time.monotonic() > deadline or not guest.process.alive():
            raise OSError(f"the guest is not ready: {guest.console()[-500:]}")
        time.sleep(0.01)
    now = time.time()
    first = next(event for event in guest.qmp.events if event["event"] == "RESUME")["timestamp"]
    return (now - first["seconds"] - first["microseconds"] / 1e6) * 1000


def alone(kernel):
    with Guest(kernel, cpus=CPUS, paused=True) as guest:
        guest.qmp("cont")
        return {"ms": ready_ms(guest)}


def watched(kernel):
    with Guest(kernel, cpus=CPUS, paused=True) as guest:
        stops = Stops(guest)
        with Daemon(guest, "--resume", max_pause_share=None) as daemon:
            took = ready_ms(guest)
            status = daemon.wait_ready()
            return {"ms": took, "accessors_ms": max(each["ready_after_ms"] for each in status["accessors"].values()),
                    "stops": len(stops.lengths_us()), "stopped_ms": sum(stops.lengths_us()) / 1000}


def measure(kernel):
    """Pairs, so that what else the host does meets both alike; the first of a pair takes turns."""
    pairs = []
    for turn in range(PAIRS):
        order = (alone, watched) if turn % 2 == 0 else (watched, alone)
        done = {each.__name__: each(kernel) for each in order}
        pairs.append(done)
        print(f"boot {turn + 1} of {PAIRS}: alone {done['alone']['ms']:.0f} ms, watched {done['watched']['ms']:.0f} ms", flush=True)
    middle = {name: percentile([pair[name]["ms"] for pair in pairs], 0.5) for name in ("alone", "watched")}
    growth = [pair["watched"]["ms"] / pair["alone"]["ms"] - 1 for pair in pairs]
    return {"pairs": pairs, "alone_ms": middle["alone"], "watched_ms": middle["watched"], "growth": middle["watched"] / middle["alone"] - 1,
            "growth_of_pairs": spread(growth), "stopped_ms": percentile([pair["watched"]["stopped_ms"] for pair in pairs], 0.5),
            "stops": percentile([pair["watched"]["stops"] for pair in pairs], 0.5)}


def show(result):
    pairs = result["growth_of_pairs"]
    print_table(f"Boot until GUEST READY, {PAIRS} pairs", ["what", ""], [
        ["alone, median, ms", result["alone_ms"]],
        ["watched from the first instruction, median, ms", result["watched_ms"]],
        ["growth, %", result["growth"] * 100],
        ["growth of single pairs, %: median; largest", f"{pairs['median'] * 100:.1f}; {pairs['max'] * 100:.1f}"],
        ["stopped while booting, by QMP: stops; ms", f"{result['stops']}; {result['stopped_ms']:.0f}"]])
