"""?format=bpftool: byte for byte what bpftool prints inside the guest."""

import json
import re
import unittest

import oracle
from harness import LiveTest, shared

# What docs/interface.md says is not there: what cannot be read from outside, and the owner of a table of programs.
LEFT_OUT = ("pids", "pinned", "bytes_memlock", "owner_prog_type", "owner_jited")
# The kernel hands out the addresses of its own copy of a list's head.
OF_THE_MOMENT = {"z_list"}


class BpftoolFormat(LiveTest):
    def test_every_dump_is_bpftools(self):
        compared = 0
        for entry in shared.map_list:
            name = entry.get("name", "")
            # The big ones are long, and nothing else: a part of one is compared below.
            if oracle.is_live(name) or name in oracle.NOT_JSON | OF_THE_MOMENT or name.startswith("big_"):
                continue
            # Linux 5.10 lists a storage too many: the head of its own list, of which a look-up finds nothing.
            if name.startswith("k_cg_") and b'"error"' in shared.dumped(entry["id"]):
                continue
            with self.subTest(map=entry["id"], name=name, type=entry["type"]):
                answer = shared.daemon.request(f"/maps/{entry['id']}?format=bpftool")
                self.assertEqual(answer.status, 200, answer.body[:500])
                self.assert_same(answer.body, shared.dumped(entry["id"]))
                compared += 1
        self.assertGreater(compared, 130)

    def assert_same(self, ours, theirs):
        if ours == theirs:
            return
        at = next((i for i, (one, other) in enumerate(zip(ours, theirs)) if one != other), min(len(ours), len(theirs)))
        self.fail(f"from byte {at} of {len(ours)} and {len(theirs)}: {ours[max(at - 80, 0):at + 80]!r}, "
                  f"expected {theirs[max(at - 80, 0):at + 80]!r}")

    def test_a_dump_that_bpftool_leaves_unfinished_is_whole_here(self):
        """As far as bpftool comes, both are the same; the bytes of values are whole in both."""
        for name in oracle.NOT_JSON:
            with self.subTest(map=name):
                map_id = next(entry["id"] for entry in shared.map_list if entry.get("name") == name)
                ours = json.loads(shared.daemon.request(f"/maps/{map_id}?format=bpftool").body)
                theirs = shared.dumped(map_id).decode()
                bytes_of = re.compile(r'"key":(\[[^]]*\]),"value":(\[[^]]*\])')
                self.assertEqual([(entry["key"], entry["value"]) for entry in ours][:1],
                                 [(json.loads(key), json.loads(value)) for key, value in bytes_of.findall(theirs)][:1])

    def test_the_list_is_bpftools(self):
        def comparable(entries):
            return [[(name, value) for name, value in entry.items() if name not in LEFT_OUT] for entry in entries]

        ours = shared.daemon.request("/maps?format=bpftool").body
        ours, theirs = comparable(json.loads(ours)), comparable(shared.guest.json("bpftool -j map show"))
        # Linux 7 leaves in bpftool's memory what it does not set, so a map without types seems to have its predecessor's.
        btf_ids = {map_id: entry["id"] for entry in shared.guest.json("bpftool -j btf show") for map_id in entry.get("map_ids", [])}
        self.assertEqual(len(ours), len(theirs))
        for mine, other in zip(ours, theirs):
            map_id = dict(other)["id"]
            with self.subTest(map=map_id):
                expected = [(name, value) for name, value in other if name != "btf_id" or btf_ids.get(map_id) == value]
                # Of a type that is newer than itself bpftool 7.1 prints the number; newer ones print the name.
                if isinstance(dict(other)["type"], int):
                    mine, expected = ([pair for pair in pairs if pair[0] != "type"] for pairs in (mine, expected))
                self.assertEqual(mine, expected)


class Objects(LiveTest):
    """Programs and links: what docs/interface.md says is left out, and what a running program changes, is not compared."""

    LEFT_OUT = ("pids", "pinned", "loaded_at", "metadata")
    COUNTERS = ("run_time_ns", "run_cnt", "recursion_misses")

    def comparable(self, text, without=()):
        """Objects as bpftool writes them, without what is left out: text again, so that order and notation count."""
        pairs = json.loads(text, object_pairs_hook=oracle.Pairs)
        one = isinstance(pairs, oracle.Pairs)
        kept = [[pair for pair in entry if pair[0] not in self.LEFT_OUT + tuple(without)] for entry in ([pairs] if one else pairs)]
        return [json.dumps(entry) for entry in kept]

    def both(self, ours, theirs):
        answer = shared.daemon.request(ours)
        self.assertEqual(answer.status, 200, answer.body[:500])
        self.assertTrue(answer.body.endswith(b"\n"))
        return answer.body.decode(), shared.guest.run_full(theirs, 120)[1].decode()

    def test_programs_are_bpftools(self):
        ours, theirs = self.both("/progs?format=bpftool", "bpftool -j prog show")
        live = {entry["id"] for entry in json.loads(theirs) if entry.get("name") == "on_switch"}
        pairs = list(zip(json.loads(ours), json.loads(theirs)))
        self.assertEqual(len(json.loads(ours)), len(json.loads(theirs)))
        for mine, other in pairs:
            with self.subTest(prog=other["id"]):
                without = self.COUNTERS if other["id"] in live else ()
                if isinstance(other["type"], int):  # newer than bpftool 7.1
                    without = (*without, "type")
                self.assertEqual(self.comparable(json.dumps(mine), without), self.comparable(json.dumps(other), without))
        self.assertGreater(len(pairs), 20)

    def test_one_program_is_bpftools_byte_for_byte(self):
        prog_id = next(entry["id"] for entry in shared.guest.json("bpftool -j prog show") if entry.get("name") == "run_exactly")
        ours, theirs = self.both(f"/progs/{prog_id}?format=bpftool", f"bpftool -j prog show id {prog_id}")
        self.assertEqual(ours, re.sub(r',"(loaded_at":[0-9]+|pids":\[[^]]*\])', "", theirs))

    def test_links_are_bpftools(self):
        ours, theirs = self.both("/links?format=bpftool", "bpftool -j link show")
        mine, others = json.loads(ours), json.loads(theirs)
        self.assertEqual(len(mine), len(others))
        for link, other in zip(mine, others):
            with self.subTest(link=other["id"], type=other["type"]):
                # What is newer than bpftool 7.1 is a number there.
                without = [name for name, value in other.items() if name.endswith("type") and isinstance(value, int)]
                self.assertEqual(self.comparable(json.dumps(link), without), self.comparable(json.dumps(other), without))
        link = next(other["id"] for other in others if other["type"] == "tracing" and not isinstance(other.get("attach_type"), int))
        ours, theirs = self.both(f"/links/{link}?format=bpftool", f"bpftool -j link show id {link}")
        self.assertEqual(ours, re.sub(r',"pids":\[[^]]*\]', "", theirs))


if __name__ == "__main__":
    unittest.main()
