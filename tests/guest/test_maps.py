"""Every BPF map of the guest, against bpftool inside it."""

import json
import unittest

import oracle
from guest import once
from harness import LiveTest, shared

READABLE = {"array", "hash", "lru_hash", "percpu_array", "percpu_hash", "lru_percpu_hash"}

# Of the other types, those that nothing is put into, and Bloom filters, whose values cannot be listed.
EMPTY = {"p_stacks", "p_stack", "p_bloom", "p_perf", "k_queue_empty", "k_lpm_empty", "k_bloom", "k_linked"}

# What programs/guest.c puts there: read from its source, not from bpftool, so an error common to both shows.
KNOWN = {
    "t_ints": {0: {"plain": 99, "small_signed": -128, "small_unsigned": 255, "yes": True, "half_signed": -32768,
                   "half_unsigned": 65535, "word_signed": -2147483648, "word_unsigned": 4294967295,
                   "long_signed": -9223372036854775808, "long_unsigned": 18446744073709551615, "wide_signed": -1,
                   "wide_unsigned": 9007199254740993, "no": False}},
    "t_enums": {0: {"color": "COLOR_GREEN", "blue": "COLOR_BLUE", "unnamed": 77, "flag": "FLAG_HIGH", "minus": "WIDE_MINUS",
                    "big": "WIDE_BIG"}},
    "t_nested": {1: {"first": {"x": -1, "y": 2}, "named": {"id": 7, "inner": {"x": 3, "y": -4}}, "as_word": 0x04030201,
                     "as_bytes": [1, 2, 3, 4], "before": 9, "after_padding": 10,
                     "number": {"whole": 0x200000001, "halves": {"low": 1, "high": 2}}, "corner": {"x": 5, "y": 6}}},
    "t_pointers": {0: {"nothing": "0x0", "somewhere": "0xffff888000000010", "object": "0x1000", "function": "0xffffffff81000000"}},
    "t_bits": {0: {"one": 1, "three": 5, "crossing": 0x1ABC, "minus": -9, "plus": 63, "forty": 0xA987654321, "low": -300000,
                   "tail": 2, "color": "COLOR_GREEN", "flag": True},
               1: {"one": 1, "three": 7, "crossing": 8191, "minus": -1, "plus": -1, "forty": (1 << 40) - 1, "low": -1, "tail": 3,
                   "flag": True}},
    "t_scalar": {0: -1, 1: 0, 2: 1, 3: 2147483647},
    "t_typedef": {1: {"x": -10, "y": 20}},
    "t_text": {0x100000001: "twelve bytes"},
    "t_real": {0: {"single": 1.5, "wide": -0.25}},
    "frozen": {0: 100, 1: 101, 2: 102, 3: 103},
}
# Kinds of types that a kernel may not know: libbpf then loads others of the same size.
NEEDS_KIND = {"t_real": {"": "btf float"}, "t_enums": {"minus": "btf enum64", "big": "btf enum64"}}


class Maps(LiveTest):
    def test_the_list_equals_bpftools(self):
        ours = shared.daemon.get("/maps")["maps"]
        self.assertEqual([m["id"] for m in ours], sorted(m["id"] for m in ours))
        fields = {"id": "id", "flags": "flags", "key_size": "bytes_key", "value_size": "bytes_value",
                  "max_entries": "max_entries"}
        theirs = shared.map_list
        self.assertEqual([m["id"] for m in ours], [m["id"] for m in theirs])
        # Not from the list of maps: bpftool asks about one map after the other in the same memory, and Linux 7 leaves there
        # what it does not set, so a map without types seems to have its predecessor's.
        btf_ids = {map_id: btf["id"] for btf in shared.guest.json("bpftool -j btf show") for map_id in btf.get("map_ids", [])}
        for mine, expected in zip(ours, theirs):
            with self.subTest(map=mine["id"]):
                self.assertEqual({name: mine[name] for name in fields}, {name: expected[key] for name, key in fields.items()})
                if isinstance(expected["type"], str):  # else newer than bpftool 7.1
                    self.assertEqual(mine["type"], expected["type"])
                self.assertEqual(mine["name"] or "", expected.get("name", ""))
                self.assertIs(mine["frozen"], bool(expected["frozen"]))
                self.assertEqual(mine.get("btf_id") or 0, btf_ids.get(mine["id"], 0))
                self.assertRegex(mine["address"], "^0xff[0-9a-f]{14}$")

    def test_every_entry_of_every_readable_map_equals_bpftools_in_order(self):
        compared = 0
        for entry in shared.map_list:
            name = entry.get("name", "")
            # Live maps change between two looks; what bpftool prints no JSON for, what the kernel hides and what is only long is in
            # test_map_values.
            if entry["type"] not in READABLE or oracle.is_live(name) or name in oracle.NOT_JSON or name.startswith(("z_", "big_", "y_negative")):
                continue
            with self.subTest(map=entry["id"], name=name, type=entry["type"]):
                theirs = shared.dump(entry["id"])
                self.assertIsNotNone(theirs, "bpftool printed no JSON")
                answer = shared.daemon.get(f"/maps/{entry['id']}?raw")
                self.assertNotIn("problems", answer)
                ours = answer["entries"]
                self.assertEqual(len(ours), len(theirs))
                found = []
                for i, (mine, expected) in enumerate(zip(ours, theirs)):
                    found += oracle.entry_differences(mine, expected, f"entries[{i}]")
                self.assertEqual(found[:10], [], f"{len(found)} differences")
                compared += 1
        self.assertGreater(compared, 50)

    def test_known_values_are_what_the_guest_program_wrote(self):
        for name, known in KNOWN.items():
            entries = {entry["key"]: entry["value"] for entry in shared.daemon.get(f"/maps/{name}")["entries"]}
            unknown = {member for member, kind in NEEDS_KIND.get(name, {}).items() if kind not in shared.made}
            if "" in unknown:
                continue
            for key, value in known.items():
                if isinstance(value, dict):
                    value = {member: what for member, what in value.items() if member not in unknown}
                with self.subTest(map=name, key=key):
                    mine = entries[key]
                    if isinstance(value, dict):
                        mine = {member: mine[member] for member in value}
                    self.assertEqual(mine, value)
                    # True == 1 in Python, not for a reader of JSON.
                    self.assertEqual(json.dumps(mine), json.dumps(value))

    def test_128_bit_numbers_are_exact(self):
        """As decimal strings: readers of JSON keep 53 or 64 bits of a number."""
        entries = {entry["key"]: entry["value"] for entry in shared.daemon.get("/maps/t_int128")["entries"]}
        known = {1: {"huge_signed": -2, "huge_unsigned": 0x0123456789ABCDEFFEDCBA9876543210}, 2: {"huge_signed": 5, "huge_unsigned": 6}}
        for key, members in known.items():
            for name, value in members.items():
                self.assertEqual(entries[key][name], str(value))

    def test_keys_of_maps_without_btf_are_numbers_for_arrays_and_bytes_for_hashes(self):
        entries = shared.daemon.get("/maps/p_array_3")["entries"]
        self.assertEqual([entry["key"] for entry in entries], list(range(9)))
        self.assertRegex(entries[0]["value"], "^[0-9a-f]{6}$")
        for entry in shared.daemon.get("/maps/p_hash_3_5")["entries"]:
            self.assertRegex(entry["key"], "^[0-9a-f]{6}$")

    def test_sizes_of_full_empty_and_thinned_maps(self):
        for name, count in {"s_empty": 0, "s_full": 100, "s_deleted": 133, "s_many": 10000, "s_many_np": 10000}.items():
            with self.subTest(map=name):
                self.assertEqual(len(shared.daemon.get(f"/maps/{name}")["entries"]), count)

    def test_a_name_that_two_maps_have_is_answered_with_both_ids(self):
        body = self.assert_problem(shared.daemon.request("/maps/same_name"), 409, "ambiguous_name")
        ids = [m["id"] for m in shared.map_list if m.get("name") == "same_name"]
        for map_id in ids:
            self.assertIn(str(map_id), json.dumps(body))
        self.assertEqual([len(shared.daemon.get(f"/maps/{map_id}")["entries"]) for map_id in ids], [1, 2])

    def test_a_map_by_name_equals_the_map_by_id(self):
        map_id = next(m["id"] for m in shared.map_list if m.get("name") == "b_hash")
        by_name, by_id = shared.daemon.get("/maps/b_hash"), shared.daemon.get(f"/maps/{map_id}")
        del by_name["snapshot"], by_id["snapshot"]
        self.assertEqual(by_name, by_id)

    def test_a_map_without_entries_is_empty_or_says_why(self):
        for entry in shared.map_list:
            if entry["type"] in READABLE:
                continue
            with self.subTest(map=entry["id"], type=entry["type"], name=entry.get("name")):
                answer = shared.daemon.get(f"/maps/{entry['id']}")
                if isinstance(entry["type"], str):  # else newer than bpftool 7.1
                    self.assertEqual(answer["type"], entry["type"])
                if not answer.get("entries") and entry.get("name") not in EMPTY:
                    self.assertTrue(answer.get("problems"), answer)

    def test_the_list_is_filtered_by_name_and_type(self):
        self.assertEqual([m["name"] for m in shared.daemon.get("/maps?name=b_lru")["maps"]], ["b_lru"])
        self.assertEqual([m["id"] for m in shared.daemon.get("/maps?type=percpu_hash")["maps"]],
                         [m["id"] for m in shared.map_list if m["type"] == "percpu_hash"])
        self.assertEqual(shared.daemon.get("/maps?name=no_such_map")["maps"], [])

    def test_a_consistent_answer_is_of_one_instant(self):
        """live_wave is at any instant n + 1 … n + 1, n … n: see wave() in programs/guest.c."""
        shared.guest.busy(True)
        try:
            consistent = 0
            for _ in range(20):
                answer = shared.daemon.get("/maps/live_wave")
                values = [entry["value"] for entry in answer["entries"]]
                self.assertEqual(len(values), 4096)
                if answer["snapshot"]["consistent"]:
                    consistent += 1
                    steps = [i for i in range(1, 4096) if values[i] != values[i - 1]]
                    self.assertLessEqual(len(steps), 1, [values[i] for i in steps][:10])
                    self.assertLessEqual(values[0] - values[-1], 1)
            self.assertGreater(consistent, 0)
        finally:
            shared.guest.busy(False)

    def test_a_consistent_answer_of_a_changing_hash_has_no_key_twice_and_no_wrong_value(self):
        shared.guest.busy(True)
        try:
            for _ in range(20):
                answer = shared.daemon.get("/maps/live_churn")
                keys = sorted(entry["key"] for entry in answer["entries"])
                if answer["snapshot"]["consistent"]:
                    self.assertEqual([entry["value"] for entry in answer["entries"]], [entry["key"] * 3 for entry in answer["entries"]])
                    self.assertIn(len(keys), (63, 64, 65))
                    self.assertEqual(keys, list(range(keys[0], keys[0] + len(keys))))
        finally:
            shared.guest.busy(False)

    def test_live_maps_only_grow(self):
        first = shared.daemon.get("/maps/live_switches")["entries"][0]["values"]
        second = shared.daemon.get("/maps/live_switches")["entries"][0]["values"]
        for before, after in zip(first, second):
            self.assertLessEqual(before["value"], after["value"])
        self.assertGreater(sum(value["value"] for value in second), 0)


class Once(LiveTest):
    def test_once_prints_the_answer_and_ends_well(self):
        # The stub serves one client: this test has a guest of its own by stopping the shared daemon first.
        shared.daemon.stop()
        shared._daemon = None
        status, out, err = once(shared.guest, "/maps")
        self.assertEqual(status, 0, err)
        self.assertEqual([m["id"] for m in json.loads(out)["maps"]], [m["id"] for m in shared.map_list])
        status, out, err = once(shared.guest, "/maps/t_scalar")
        self.assertEqual(status, 0, err)
        self.assertEqual([entry["value"] for entry in json.loads(out)["entries"]], [-1, 0, 1, 2147483647])
        self.assertTrue(shared.guest.running())

    def test_once_of_what_is_not_there_fails(self):
        shared.daemon.stop()
        shared._daemon = None
        status, _, err = once(shared.guest, "/maps/no_such_map")
        self.assertEqual(status, 1)
        self.assertTrue(err.strip())


if __name__ == "__main__":
    unittest.main()
