"""The kernels and machines that the live tests cover, in one table.

    matrix.py --table               the tables of docs/kernel-support.md
    matrix.py --check FILE          fails when FILE's tables are others
    matrix.py --kernels [--all]     the kernels for fetch_kernel.sh, NAME [OPTION]: those of tests/run.sh, or all
    matrix.py --tests               of each of those that tests/run.sh runs: kernel, kernel file, QEMU, test modules
    matrix.py --run FILE [WORD…]    runs all rows, or those whose names have one of the words; results go to FILE as JSON

A row of KERNELS is all of MODULES on that kernel; a row of MACHINES the quick comparison of
checks.py on a machine of its own. tests/run.sh runs the rows marked "always", tests/run.sh --matrix all of them.
"""

import argparse
import collections
import datetime
import functools
import json
import os
import pathlib
import re
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent

# always: the kernel file (see FILES), the QEMU ("" for the installed one, else fetch_qemu.sh's suite) and --memory of tests/run.sh; None:
# --matrix only.
# files: what --matrix gives the daemon.
KernelRow = collections.namedtuple("KernelRow", "name what files always")
FILES = {"vmlinux": "`vmlinux`", "vmlinuz": "`vmlinuz`", "none": "no file"}
BOTH = ("none", "vmlinuz")
ALL = ("none", "vmlinuz", "vmlinux")
KERNELS = [
    KernelRow("5.10", "x86-64", ALL, ("none", "", "stub")),
    KernelRow("6.1", "x86-64", ALL, ("vmlinux", "", "stub")),
    KernelRow("6.12", "x86-64", ALL, ("vmlinuz", "", "process")),
    KernelRow("7.2", "x86-64, with `sched_ext`", ALL, ("none", "trixie", "process")),
    KernelRow("6.1-rt", "x86-64, `PREEMPT_RT`, all drivers", BOTH, None),
    KernelRow("6.12-rt", "x86-64, `PREEMPT_RT`, all drivers", BOTH, None),
    KernelRow("6.12-generic", "x86-64, all drivers", BOTH, None),
    KernelRow("arm64/5.10", "arm64", BOTH, None),
    KernelRow("arm64/6.1", "arm64, only functions in kallsyms", BOTH, None),
    KernelRow("arm64/6.12", "arm64, addresses of 52 bits", ALL, ("none", "", "process")),
    KernelRow("arm64/6.12-16k", "arm64, pages of 16 KB", BOTH, None),
    KernelRow("arm64/7.2", "arm64, addresses of 52 bits", BOTH, None),
]

# options are Guest's; an empty kernel means GUESTSCOPE_KERNEL.
MachineRow = collections.namedtuple("MachineRow", "name how options kernel always")


def _x86(name, how, options, always=True):
    return MachineRow(name, how, options, "", always)


def _arm64(name, how, options, kernel="arm64/6.12", always=False):
    return MachineRow(f"arm64: {name}", how, options, kernel, always)


def _numa(cpus_of_nodes, megabytes):
    words = []
    for node, cpus in enumerate(cpus_of_nodes):
        words += ["-object", f"memory-backend-ram,id=m{node},size={megabytes}M", "-numa", f"node,memdev=m{node},cpus={cpus}"]
    return words


MACHINES = [
    _x86("one CPU", "`-smp 1`", {"cpus": 1}, always=False),
    _x86("three CPUs", "`-smp 3`", {"cpus": 3}, always=False),
    _x86("four CPUs", "`-smp 4`", {"cpus": 4}),
    _x86("eight CPUs", "`-smp 8`", {"cpus": 8}, always=False),
    _x86("CPUs that never come up", "`-smp 4`, `maxcpus=2`", {"cpus": 4, "append": "maxcpus=2"}, always=False),
    # Later kernels take the parameter as a limit only, and count places in the firmware's table.
    MachineRow("300 possible CPUs", "`-smp 2`, `possible_cpus=300`", {"append": "possible_cpus=300"}, "6.1", True),
    _x86("four levels", "`no5lvl`", {"append": "no5lvl"}),
    _x86("page-table isolation", "`-cpu Skylake-Client`, `pti=on`", {"cpu": "Skylake-Client", "append": "pti=on"}),
    _x86("page-table isolation with five levels", "`pti=on`", {"append": "pti=on"}, always=False),
    _x86("old processor", "`-cpu qemu64`", {"cpu": "qemu64"}),
    _x86("Intel server", "`-cpu Skylake-Server`", {"cpu": "Skylake-Server"}, always=False),
    _x86("AMD server", "`-cpu EPYC`", {"cpu": "EPYC"}, always=False),
    _x86("no KASLR", "`nokaslr`", {"append": "nokaslr"}),
    _x86("no KASLR and four levels", "`nokaslr no5lvl`", {"append": "nokaslr no5lvl"}, always=False),
    _x86("little memory", "160 MB", {"memory": "160M"}),
    _x86("256 MB", "256 MB", {"memory": "256M"}, always=False),
    _x86("memory above the 4 GB hole", "6 GB", {"memory": "6G"}),
    _x86("two NUMA nodes", "two memory back ends", {"memory": "1G", "cpus": 2, "qemu": _numa(("0", "1"), 512)}),
    _x86("the older chip set", "`-machine pc`", {"qemu": ["-machine", "pc"]}, always=False),
    _x86("stub on a Unix socket", "`-chardev socket … -gdb chardev:…`", {"gdb": "unix"}),
    _x86("single-threaded emulation", "`-accel tcg,thread=single`", {"accel": "tcg,thread=single"}, always=False),
    _arm64("Cortex-A57", "`-cpu cortex-a57`", {"cpu": "cortex-a57"}, always=True),
    _arm64("Neoverse N1", "`-cpu neoverse-n1`", {"cpu": "neoverse-n1"}),
    # Of the processors above, the Cortex-A57 has no pages of 16 KB.
    _arm64("pages of 16 KB on a Neoverse N1", "`-cpu neoverse-n1`", {"cpu": "neoverse-n1"}, "arm64/6.12-16k"),
    _arm64("page-table isolation", "`kpti=on`", {"append": "kpti=on"}),
    _arm64("no page-table isolation", "`kpti=off`", {"append": "kpti=off"}),
    _arm64("no KASLR", "`nokaslr`", {"append": "nokaslr"}),
    _arm64("one CPU", "`-smp 1`", {"cpus": 1}),
    _arm64("eight CPUs", "`-smp 8`", {"cpus": 8}),
    _arm64("CPUs that never come up", "`-smp 4`, `maxcpus=2`", {"cpus": 4, "append": "maxcpus=2"}),
    _arm64("little memory", "192 MB", {"memory": "192M"}),
    _arm64("6 GB", "6 GB", {"memory": "6G"}),
    _arm64("two NUMA nodes", "two memory back ends", {"memory": "1G", "cpus": 2, "qemu": _numa(("0", "1"), 512)}),
    _arm64("with a hypervisor's level", "`-machine virtualization=on`", {"qemu": ["-machine", "virtualization=on"]}),
]


def architecture(kernel):
    """Debian's name of the architecture of a kernel's name."""
    return "arm64" if kernel.startswith("arm64/") else "amd64"


MODULES = ("test_maps", "test_progs", "test_runqueues", "test_sched_tasks", "test_system", "test_sched_ext", "test_map_kinds", "test_map_values",
           "test_bpftool_format", "test_links", "test_changing")


def method(machine):
    """The name of a machine's test in test_variants."""
    return "test_" + re.sub(r"\W+", "_", machine.name.lower())


def tables():
    """The tables of the documentation, as Markdown."""
    def always(row):
        if not row.always:
            return ""
        file, qemu, memory = row.always
        return FILES[file] + f", `--memory={memory}`" + (f", QEMU of {qemu}" if qemu else "")

    lines = ["| kernel | | always tested with | with `--matrix` |", "| --- | --- | --- | --- |"]
    lines += [f"| {row.name} | {row.what} | {always(row)} | {', '.join(FILES[file] for file in row.files)} |" for row in KERNELS]
    lines += ["", "| machine | how | when |", "| --- | --- | --- |"]
    lines += [f"| {row.name} | {row.how} | {'always' if row.always else 'with `--matrix`'} |" for row in MACHINES]
    return "\n".join(lines)


BEGIN, END = "<!-- tests/guest/matrix.py --table -->", "<!-- end of table -->"


def check(path):
    """What is wrong with a document's tables, or None."""
    text = pathlib.Path(path).read_text(encoding="utf-8")
    found = re.search(re.escape(BEGIN) + "\n(.*)\n" + re.escape(END), text, re.S)
    if not found:
        return f"{path} has no tables between '{BEGIN}' and '{END}'"
    if found[1].strip() != tables():
        return f"{path}: the tables are not those of 'tests/guest/matrix.py --table'"
    return None


def harness(kernel, file, *tests):
    """Runs tests on a kernel: (passed, failed or skipped; the end of what they said)."""
    environment = {**os.environ, "GUESTSCOPE_KERNEL": kernel, "GUESTSCOPE_MATRIX": "all", "GUESTSCOPE_KERNEL_FILE": file}
    done = subprocess.run([sys.executable, "-B", HERE / "harness.py", *tests], env=environment,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    return {0: "passed", 77: "skipped"}.get(done.returncode, "failed"), done.stdout[-4000:]


@functools.lru_cache(maxsize=None)
def release(kernel):
    """uname -r of a kernel's name, or None when it is not in the cache."""
    found = subprocess.run([HERE / "fetch_kernel.sh", "--cached", kernel], capture_output=True, text=True, check=False)
    return found.stdout.split("\t")[1] if found.returncode == 0 else None


def run(path, words):
    """Runs the rows; gives the exit status. The file has the results so far after every row."""
    rows = [(f"{row.name}, {file}", row.name, file, MODULES) for row in KERNELS for file in row.files]
    rows += [(row.name, row.kernel or "6.1", "none", (f"test_variants.Variants.{method(row)}",)) for row in MACHINES]
    results = []
    for name, kernel, file, tests in rows:
        if words and not any(word in name for word in words):
            continue
        begun = time.monotonic()
        result, output = harness(kernel, file, *tests)
        seconds = round(time.monotonic() - begun, 1)
        print(f"{result:8} {seconds:6} s  {name}", flush=True)
        if result == "failed":
            print(output, flush=True)
        results.append({"row": name, "kernel": release(kernel), "file": file, "result": result, "seconds": seconds,
                        "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")})
        pathlib.Path(path).write_text(json.dumps({"results": results}, indent=1) + "\n", encoding="utf-8")
    counts = collections.Counter(entry["result"] for entry in results)
    print(f"{counts['passed']} passed, {counts['failed']} failed" + (f", {counts['skipped']} skipped" if counts["skipped"] else ""))
    return 0 if counts["passed"] == len(results) and results else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--table", action="store_true")
    action.add_argument("--check", metavar="FILE")
    action.add_argument("--kernels", action="store_true")
    action.add_argument("--tests", action="store_true")
    action.add_argument("--run", metavar="FILE")
    parser.add_argument("--all", action="store_true", help="with --kernels: not only those of tests/run.sh")
    parser.add_argument("words", nargs="*", help="with --run: parts of rows' names")
    arguments = parser.parse_args()
    if arguments.table:
        print(tables())
    elif arguments.kernels:
        for row in KERNELS:
            files = row.files if arguments.all else row.always[:1] if row.always else ()
            if files:
                print(row.name + (" --debug" if "vmlinux" in files else ""))
    elif arguments.tests:
        for row in KERNELS:
            if row.always:
                file, qemu, memory = row.always
                print(row.name, file, qemu or "-", memory, *MODULES)
    elif arguments.check:
        problem = check(arguments.check)
        if problem:
            print(problem)
        return 1 if problem else 0
    else:
        return run(arguments.run, arguments.words)
    return 0


if __name__ == "__main__":
    sys.exit(main())
