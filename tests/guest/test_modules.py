"""Kernel modules: a program attached to one, and a map whose value is of the kernel's own types, against bpftool."""

import json
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

import oracle
from guest import HERE, Daemon, Guest, kernel
from harness import SERIES, LiveTest

PROGRAMS = HERE / "programs"


def output_of(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def compiled():
    """The programs of this test, by their names in the guest."""
    clang = shutil.which("clang-19") or shutil.which("clang")
    bpf = [clang, "-O2", "-g", "-target", "bpf", "-mcpu=v3", "-idirafter", "/usr/include/" + output_of("gcc", "-print-multiarch"), "-c"]
    with tempfile.TemporaryDirectory() as directory:
        made = pathlib.Path(directory)
        for name, options in (("module.bpf", ()), ("ops.bpf", ("-DOPS_MAP=slow_ops", '-DOPS_NAME="slow"'))):
            output_of(*bpf, *options, PROGRAMS / f"{name}.c", "-o", made / f"{name}.o")
        output_of("gcc", "-O2", "-Wall", "-static", PROGRAMS / "attach.c", "-o", made / "attach", "-lbpf", "-lelf", "-lz")
        return {path.name: path.read_bytes() for path in made.iterdir()}


class Modules(LiveTest):
    @classmethod
    def setUpClass(cls):
        if kernel(SERIES).arch != output_of("dpkg", "--print-architecture"):
            raise unittest.SkipTest("its programs are built for this machine's architecture only")
        cls.guest = cls.enterClassContext(Guest(kernel(SERIES), modules=("dummy", "tcp_bbr"), files=compiled()))
        cls.guest.wait_ready()
        cls.guest.busy(False)
        cls.guest.run("insmod /tcp_bbr.ko && insmod /dummy.ko numdummies=0")
        cls.guest.run("cp /attach /run/attach && chmod +x /run/attach && /run/attach /module.bpf.o")
        cls.guest.run("for i in 1 2 3; do ip link add test$i type dummy; done")
        cls.guest.run("bpftool struct_ops register /ops.bpf.o")
        cls.daemon = cls.enterClassContext(Daemon(cls.guest))
        cls.daemon.wait_ready()

    def test_maps_and_programs_are_bpftools_with_modules_loaded(self):
        modules = {entry.get("name"): entry["id"] for entry in self.guest.json("bpftool -j btf show")}
        self.assertLess({"vmlinux", "dummy", "tcp_bbr"}, set(modules))
        for path, command in (("maps", "map show"), ("progs", "prog show")):
            theirs = self.guest.json(f"bpftool -j {command}")
            # Of a type that is newer than itself bpftool 7.1 prints the number.
            newer = {entry["id"] for entry in theirs if isinstance(entry["type"], int)}

            def seen(entry):
                fields = ("id", "name", "tag", "btf_id", "map_ids") + (() if entry["id"] in newer else ("type",))
                return [entry.get(field) or None for field in fields]
            self.assertEqual([seen(entry) for entry in self.daemon.get(f"/{path}")[path]], [seen(entry) for entry in theirs])

    def test_the_map_of_a_program_in_a_module_has_its_types(self):
        program = next(program for program in self.daemon.get("/progs")["progs"] if program["name"] == "on_dummy_init")
        self.assertEqual(program["run_cnt"], 3)
        # That it is a module's: bpftool 7.1 does not say it, nor do kernels before 6.2.
        target = re.search(r"^target_obj_id:\s+(\d+)", self.guest.run("cat /proc/$(pidof attach)/fdinfo/*"), re.M)
        if target:
            self.assertEqual({entry["id"]: entry.get("name") for entry in self.guest.json("bpftool -j btf show")}[int(target[1])], "dummy")
        answer = self.daemon.get("/maps/module_seen")
        self.assertEqual([answer["id"]], program["map_ids"])
        self.assertEqual([entry["value"] for entry in answer["entries"]], [{"calls": 0, "comm": ""}, {"calls": 3, "comm": "ip"}])

    def test_a_value_of_the_kernels_own_type_is_shown_by_it(self):
        answer = self.daemon.get("/maps/slow_ops")
        self.assertNotIn("problems", answer)
        expected = json.loads(self.guest.run("bpftool -j map dump name slow_ops"), object_pairs_hook=oracle.Pairs)
        self.assertEqual((len(answer["entries"]), len(expected)), (1, 1))
        self.assertEqual(oracle.differences(answer["entries"][0]["value"], expected[0].get("formatted").get("value")), [])
        self.assertEqual(answer["entries"][0]["value"]["data"]["name"], "slow")
