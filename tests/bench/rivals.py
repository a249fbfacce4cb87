"""What a user would take instead of guestscope, each asked for the same things on the same guest, and one table of them all."""

import shutil
import subprocess

import dump_rivals
import gdb_rival
from dump_rivals import attempt
from figures import cell, print_table
from guest import Daemon


def measure(guest):
    with Daemon(guest) as daemon:
        status = daemon.wait_ready()
    slide = int(status["kernel"]["kaslr_slide"], 16)
    gdb = attempt(lambda: gdb_rival.measure(guest, slide)) if shutil.which("gdb") else {"failed": "not installed"}
    return {"gdb": gdb, **dump_rivals.measure(guest), "versions": versions()}


def versions():
    """One line of each, as it names itself."""
    named = {}
    for tool in ("gdb", "crash", "drgn", "bpftool"):
        path = shutil.which(tool) or shutil.which(tool, path="/usr/sbin")
        if path:
            said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
            named[tool] = next((line for line in (said.stdout + said.stderr).splitlines() if line.strip()), "")
    return named


def failed_row(tool, what, why):
    return [tool, what, f"failed: {why}", "", "", "", ""]


def gdb_rows(gdb):
    if "failed" in gdb:
        return [failed_row("gdb", "run queues", gdb["failed"])]
    rows = [["gdb", "symbols of the kernel file", gdb["symbols_ms"], 0, "", "", ""],
            ["gdb", "run queues, the first time", gdb["first_ms"], gdb["first_stopped_us"] / 1000, "", "", ""]]
    for what, name in (("run queues again", "again"), ("run queues again, their addresses kept", "kept")):
        stopped = gdb[name]["stopped_us"]
        rows.append(["gdb", what, gdb[name]["ms"], *(stopped[each] / 1000 for each in ("median", "p99", "max")), gdb["items"]])
    return rows


def dump_rows(result):
    rows = []
    for tool in ("crash", "drgn"):
        dump = result[f"dump for {tool}"]
        if "failed" in dump:
            rows.append(failed_row(tool, "dump", dump["failed"]))
            continue
        rows.append([tool, f"dump of {dump['memory']}", dump["ms"], dump["stopped_ms"], "", "", ""])
        for what, row in result[tool].items():
            rows.append(failed_row(tool, what, row["failed"]) if "failed" in row else [tool, what, row["ms"], 0, "", "", row["items"] or ""])
    return rows


def own_rows(pauses):
    rows = []
    for path, row in pauses.items():
        if "failed" not in row:
            seen = row["pause_us_seen"]
            rows.append(["guestscope", path, row["answer_ms"]["median"], seen["median"] / 1000, seen["p99"] / 1000,
                         seen["max"] / 1000, row["items"]])
    return rows


def show(result, pauses):
    print_table("The same from all: how long it takes, and how long the guest is stopped for it, by QMP, in ms",
                ["tool", "what", "takes: median", "stopped: median", "p99", "max", "items"],
                own_rows(pauses) + gdb_rows(result["gdb"]) + dump_rows(result))
    print("\n" + "; ".join(f"{tool}: {line.strip()}" for tool, line in result["versions"].items()))


def show_bpftool(result):
    rows = []
    for what, row in result.items():
        rows.append([what, "bpftool in the guest, its output left there", row["bpftool_ms"], "", "all the time it runs in the guest", ""])
        rows += [[what, name.replace("_", ", "), each["ms"], each["first_ms"], f"{cell(each['stopped_ms'])} ms stopped", each["mb"]]
                 for name, each in row.items() if name != "bpftool_ms"]
    print_table("bpftool inside the guest, and guestscope outside",
                ["what", "who", "ms", "the first", "what the guest pays", "MB of JSON"], rows)
