"""Links, types and the code of programs, against bpftool inside the guest and what programs/links.c attached."""

import struct
import unittest

from harness import LiveTest, shared
from known import LINKS_SINCE, LINKS_WITH, expected_links, facts, map_ids, prog_ids

# Programs whose instructions bpftool is asked for.
FOR_BPFTOOL = ("on_switch", "with_functions", "never_run", "keep_typed", "at_iter_task")


class Links(LiveTest):
    def test_the_guest_has_every_link_that_its_kernel_has(self):
        made = {line.split()[1] for line in shared.made if line.startswith("link ")}
        lacking = [line for line in shared.made if line.startswith("lacks at_")]
        self.assertEqual(made & {*LINKS_SINCE, *LINKS_WITH}, expected_links(), lacking)

    def test_links_are_bpftools(self):
        answer = shared.daemon.get("/links")
        self.assertNotIn("problems", answer)
        theirs = shared.guest.json("bpftool -j link show")
        self.assertEqual([link["id"] for link in answer["links"]], [link["id"] for link in theirs])
        for mine, other in zip(answer["links"], theirs):
            with self.subTest(link=mine["id"], type=mine["type"]):
                # Types that are newer than bpftool 7.1 are numbers there, and a link without a program has the program 0.
                named = {name: value for name, value in other.items() if name != "pids" and (name, value) != ("prog_id", 0)
                         and not (name.endswith("type") and type(value) is int)}
                self.assertEqual({name: mine.get(name) for name in named}, named)

    def link(self, name):
        """Our object of a link of programs/links.c, or None when the kernel does not have it."""
        noted = [int(line.split()[2]) for line in shared.made if line.startswith(f"link {name} ")]
        if not noted:
            return None
        return next(link for link in shared.daemon.get("/links")["links"] if link["id"] == noted[0])

    def test_what_bpftool_does_not_say_of_links_is_what_was_attached(self):
        known = {
            "at_tcx": {"type": "tcx", "ifindex": 1, "devname": "lo", "attach_type": "tcx_ingress"},
            "at_xdp": {"type": "xdp", "ifindex": 1, "devname": "lo"},
            "at_netfilter": {"type": "netfilter", "pf": 2, "hook": 3, "prio": -128, "flags": 0},
            "k_struct_ops": {"type": "struct_ops", "map_id": map_ids().get("k_struct_ops")},
            "at_netkit": {"type": "netkit", "ifindex": facts().get("netkit_device"), "devname": "kit0", "attach_type": "netkit_primary"},
            "at_sockmap": {"type": "sockmap", "map_id": map_ids().get("k_linked"), "attach_type": "sk_msg_verdict"},
            "at_trace_multi": {"type": "tracing_multi", "prog_type": "tracing", "attach_type": "trace_fentry_multi", "func_cnt": 3},
            "at_kprobe_multi": {"type": "kprobe_multi", "retprobe": False},
            "at_kret_multi": {"type": "kprobe_multi", "retprobe": True, "func_cnt": 3, "missed": 0},
            "at_uprobe_multi": {"type": "uprobe_multi", "retprobe": False, "path": "/bin/guest", "pid": 0, "func_cnt": 2,
                                "funcs": [{"offset": 0x2000, "ref_ctr_offset": 0, "cookie": 7}, {"offset": 0x2010, "ref_ctr_offset": 0, "cookie": 8}]},
            "at_iter_map": {"type": "iter", "target_name": "bpf_map_elem", "map_id": map_ids()["iterated"]},
            "at_freplace": {"type": "tracing", "attach_type": "cgroup_inet_ingress", "prog_type": "ext"},
        }
        for name, members in known.items():
            mine = self.link(name)
            if mine is None:
                continue
            with self.subTest(link=name):
                self.assertEqual({member: mine.get(member) for member in members}, members)
                if name != "k_struct_ops":
                    self.assertEqual(mine["prog_id"], prog_ids()[name])

    def test_functions_of_one_link_are_those_of_the_kernel(self):
        symbols = {}
        for line in shared.guest.run("grep -E ' bpf_fentry_test[0-9a-z_]*$' /proc/kallsyms").splitlines():
            symbols[line.split()[2]] = int(line.split()[0], 16)
        cookies = {"bpf_fentry_test2": 22, "bpf_fentry_test1": 11, "bpf_fentry_test4": 44}
        for name, known in (("at_kprobe_multi", dict.fromkeys(f"bpf_fentry_test{i}" for i in range(1, 10))), ("at_kret_multi", cookies)):
            mine = self.link(name)
            if mine is None:
                continue
            with self.subTest(link=name):
                found = {function["func"]: (int(function["addr"], 16), function.get("cookie")) for function in mine["funcs"]}
                self.assertEqual(found, {function: (symbols[function], cookie) for function, cookie in known.items() if function in symbols})
                self.assertEqual(mine["func_cnt"], len(found))

    def test_types_are_bpftools(self):
        theirs = shared.guest.json("bpftool -j btf show")
        answer = shared.daemon.get("/btf")
        self.assertNotIn("problems", answer)
        self.assertEqual([btf["id"] for btf in answer["btf"]], [btf["id"] for btf in theirs])
        for mine, other in zip(answer["btf"], theirs):
            with self.subTest(btf=mine["id"]):
                for name, value in other.items():
                    if name != "pids":
                        self.assertEqual(*(sorted(what) if isinstance(what, list) else what for what in (mine.get(name), value)), name)

    def test_names_are_whole(self):
        names = {prog["name"] for prog in shared.daemon.get("/progs")["progs"]}
        self.assertIn("a_program_whose_name_is_longer_than_fifteen_characters", names)


class Code(LiveTest):
    def of_the_kernel(self, kind):
        """The code of all programs by their ids, as the kernel hands it out: see programs/code.c."""
        ids = [entry["id"] for entry in shared.guest.json("bpftool -j prog show")]
        _, rest, _ = shared.guest.run_full(f"guest code {kind} {' '.join(map(str, ids))}")
        found = {}
        while rest:
            prog_id, size = struct.unpack_from("<II", rest)
            found[prog_id], rest = rest[8:8 + size], rest[8 + size:]
        self.assertEqual(list(found), ids)
        return found

    def compare(self, kind):
        names = {prog_id: name for name, prog_id in prog_ids().items()}
        for prog_id, theirs in self.of_the_kernel(kind).items():
            with self.subTest(prog=prog_id, name=names.get(prog_id)):
                self.assertGreater(len(theirs), 0)
                ours = shared.daemon.request(f"/progs/{prog_id}/{kind}")
                self.assertEqual(ours.status, 200, ours.body[:300])
                self.assertEqual(ours.body.hex(" ", 8), theirs.hex(" ", 8))

    def test_instructions_are_the_kernels(self):
        self.compare("xlated")

    def test_machine_code_is_the_kernels(self):
        self.compare("jited")

    def test_machine_code_is_as_long_as_bpftool_says(self):
        # Debian's bpftool dumps it only with a disassembler, which the guest has not: "No libbfd support".
        for prog in shared.guest.json("bpftool -j prog show"):
            with self.subTest(prog=prog["id"]):
                ours = shared.daemon.request(f"/progs/{prog['id']}/jited")
                self.assertEqual((ours.status, len(ours.body)), (200, prog["bytes_jited"]))
                functions = shared.daemon.get(f"/progs/{prog['id']}")["subprograms"]
                self.assertEqual(sum(function["jited_len"] for function in functions), len(ours.body))

    def test_instructions_are_bpftools(self):
        for name in FOR_BPFTOOL:
            with self.subTest(name):
                _, theirs, _ = shared.guest.run_full(f"bpftool prog dump xlated id {prog_ids()[name]} file /run/code && cat /run/code")
                self.assertEqual(shared.daemon.request(f"/progs/{prog_ids()[name]}/xlated").body.hex(" ", 8), theirs.hex(" ", 8))


if __name__ == "__main__":
    unittest.main()
