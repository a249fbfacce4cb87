"""Every BPF program of the guest, against bpftool and /proc/PID/fdinfo inside it."""

import re

from harness import LiveTest, shared

LIVE = {"on_switch"}


def fdinfo():
    """verified_insns and recursion_misses by program id, which bpftool does not print."""
    text = shared.guest.run("for f in /proc/$(cat /run/guest.pid)/fdinfo/*; do echo ---; cat $f; done")
    found = {}
    for block in text.split("---"):
        fields = dict(re.findall(r"^(\w+):\s+(\S+)", block, re.M))
        if "prog_type" in fields:  # a link shows its program too, but not its figures
            found[int(fields["prog_id"])] = fields
    return found


class Progs(LiveTest):
    def compare_bracketed(self, get):
        before = {p["id"]: p for p in shared.guest.json("bpftool -j prog show")}
        ours = get()
        after = {p["id"]: p for p in shared.guest.json("bpftool -j prog show")}
        return before, ours, after

    def test_the_list_equals_bpftools(self):
        before, answer, after = self.compare_bracketed(lambda: shared.daemon.get("/progs"))
        self.assertIs(answer["stats_enabled"], True)
        ours = answer["progs"]
        self.assertEqual([p["id"] for p in ours], sorted(before))
        details = fdinfo()
        for mine in ours:
            expected, later = before[mine["id"]], after[mine["id"]]
            with self.subTest(prog=mine["id"], name=mine["name"]):
                self.assertEqual(mine["name"] or "", expected.get("name", ""))
                if isinstance(expected["type"], int):  # one that is newer than bpftool
                    expected["type"] = mine["type"]
                for name, key in {"type": "type", "tag": "tag", "xlated_len": "bytes_xlated", "jited_len": "bytes_jited",
                                  "jited": "jited", "uid": "uid"}.items():
                    self.assertEqual(mine[name], expected[key], name)
                self.assertEqual(mine["map_ids"], expected.get("map_ids", []))
                self.assertEqual(mine.get("btf_id") or 0, expected.get("btf_id", 0))
                self.assertLessEqual(expected.get("run_cnt", 0), mine["run_cnt"])
                self.assertLessEqual(mine["run_cnt"], later.get("run_cnt", 0))
                self.assertLessEqual(expected.get("run_time_ns", 0), mine["run_time_ns"])
                self.assertLessEqual(mine["run_time_ns"], later.get("run_time_ns", 0))
                if mine["name"] not in LIVE:
                    self.assertEqual(mine["run_time_ns"], expected.get("run_time_ns", 0))
                if mine["id"] in details:
                    detail = details[mine["id"]]
                    for name in ("verified_insns", "recursion_misses"):
                        # Kernels that do not count them do not show them.
                        self.assertEqual(mine.get(name), int(detail[name]) if name in detail else None, name)
                self.assertRegex(mine["address"], "^0xff[0-9a-f]{14}$")
        self.assertGreater(len(details), 5)

    def test_load_times_are_as_far_apart_as_the_kernel_says(self):
        expected = {p["id"]: p["loaded_at"] for p in shared.guest.json("bpftool -j prog show")}
        offsets = [expected[p["id"]] - p["loaded_at_ns"] / 1e9 for p in shared.daemon.get("/progs")["progs"]]
        self.assertLess(max(offsets) - min(offsets), 2)

    def test_run_counts_are_those_of_the_guest_program(self):
        progs = {p["name"]: p for p in shared.daemon.get("/progs")["progs"]}
        cpus = shared.guest.cpus
        exact = {"on_sethostname": 7, "on_setdomain": 5, "with_functions": 50, "never_run": 0, "write_records": 3,
                 "run_exactly": 100 * cpus * (cpus + 1) // 2}
        for name in ("on_sethostname", "on_setdomain"):
            if name not in progs:
                self.assertNotIn(f"attached {name}", shared.made)
                del exact[name]
            elif f"attached {name}" not in shared.made:
                exact[name] = 0
        self.assertEqual({name: progs[name]["run_cnt"] for name in exact}, exact)
        self.assertEqual(progs["owned_by_1000"]["uid"], 1000)

    def test_one_program_has_its_counters_per_cpu(self):
        answer = shared.daemon.get("/progs/run_exactly")
        self.assertEqual([cpu["run_cnt"] for cpu in sorted(answer["per_cpu"], key=lambda cpu: cpu["cpu"])][:shared.guest.cpus],
                         [100 * (cpu + 1) for cpu in range(shared.guest.cpus)])
        self.assertEqual(sum(cpu["run_time_ns"] for cpu in answer["per_cpu"]), answer["run_time_ns"])

    def test_switched_off_statistics_are_reported(self):
        shared.guest.run("echo 0 >/proc/sys/kernel/bpf_stats_enabled")
        try:
            self.assertIs(shared.daemon.get("/progs")["stats_enabled"], False)
        finally:
            shared.guest.run("echo 1 >/proc/sys/kernel/bpf_stats_enabled")
        self.assertIs(shared.daemon.get("/progs")["stats_enabled"], True)

    def test_an_unknown_program_is_not_found(self):
        self.assert_problem(shared.daemon.request("/progs/no_such_program"), 404, "not_found")
        self.assert_problem(shared.daemon.request("/progs/4000000000"), 404, "not_found")
