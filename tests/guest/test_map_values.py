"""Values of every type, and parts of maps: one entry, a page, one CPU."""

import json
import math
import struct
import unittest

import oracle
from harness import LiveTest, shared
from known import le

# What programs/typed.c puts there.
KNOWN = {
    "y_nameless": {0: {"a": 1, "b": 0x04030201FEDC1234, "b_low": 0x1234, "b_high": 0xFEDC, "deep": [1, 2, 3, 4], "nothing": {}, "last": 200}},
    "y_bits": {0: {"a": 1, "b": 2, "c": 19, "d": -256, "e": 100, "f": -4294967296, "g": 0x7FFFFFFF, "h": 0xDEADBEEF, "i": -1, "j": True,
                   "in_union": {"word": 0xFA0 << 20 | 0x418 << 9 | 257, "low": 257, "middle": -1000, "high": 4000, "nibble": 1},
                   "k": str(0xABCDEF123 << 64 | 0x456789ABCDEF0123)},
               1: {"a": 1, "b": 3, "c": 31, "d": -1, "e": 127, "f": -1, "g": 0x7FFFFFFF, "h": 0xFFFFFFFF, "i": -1, "j": True,
                   "in_union": {"word": 0xFFFFFFFF, "low": 511, "middle": -1, "high": 4095, "nibble": -1}, "k": str((1 << 100) - 1)}},
    "y_bit_union": {5: {"word": 1023 << 9 | 300, "low": 300, "middle": 1023, "high": 0, "nibble": -4}},
    "y_enums": {0: {"tiny": "TINY_B", "tiny_unknown": 77, "negative": "NEGATIVE_ALL", "same": "SAME_FIRST", "unnamed": "UNNAMED_TWO",
                    "wide": "WIDE_MINUS", "wide_unknown": 3, "list": ["COLOR_GREEN", "COLOR_BLUE", 100]}},
    "y_texts": {0: {"terminated": "seven77", "full": "eight888", "empty": "", "after_end": "a", "lines": ["ab", "cdefgh"],
                    "bytes": [97, 98, 99, 0], "small": [97, -1, 0, 1], "one": "z", "cube": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]], "none": [],
                    "table": [[1], [2], [65535]]}},
    "y_modified": {1: {"value": 5, "pointer": "0x10", "address": [1, 2, 3, 4, 5, 6], "fixed": [[1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 9]],
                       "handler": "0xffffdead00000123", "table": ["0x0", "0x5"], "forward": "0x7fff12345678", "self": "0xffffffffffffffff",
                       "limited": "0x0", "tagged": "0x1", "declared": 42}},
    "y_long_name": {1: {"a_member_whose_name_is_also_rather_long_for_the_kernel": 31337}},
    "y_grid": {0: 0, 1: 1000000007, 2: 2000000014},
    "y_array": {0: [1, 2, 3, 4, 5, 255]},
    "y_pointer": {1: "0xffff888012345678"},
    "y_bool": {0: False, 1: True},
    "y_int128": {0: str(1 << 127), 1: str(1 << 63)},
}
# A kernel that does not know enumerators of 64 bits gets numbers of that size for them.
NEEDS_ENUM64 = {"wide", "wide_unknown"}


class Values(LiveTest):
    def entries(self, name, options=""):
        answer = shared.daemon.get(f"/maps/{name}{options}")
        self.assertNotIn("problems", answer)
        return answer["entries"]

    def test_values_of_every_type_are_what_was_written(self):
        for name, known in KNOWN.items():
            entries = {entry["key"]: entry["value"] for entry in self.entries(name)}
            for key, value in known.items():
                with self.subTest(map=name, key=key):
                    mine = entries[key]
                    if isinstance(value, dict) and "btf enum64" not in shared.made:
                        mine, value = ({member: of[member] for member in of if member not in NEEDS_ENUM64} for of in (mine, value))
                    # As JSON: in Python 1 equals True and 1.0.
                    self.assertEqual(json.dumps(mine), json.dumps(value))

    def test_functions_are_named_where_the_kernel_names_them(self):
        absent, entry = self.entries("y_handlers", "?raw")
        value = entry["value"]
        words = dict(zip(value, struct.unpack("<8Q", bytes.fromhex(entry["value_hex"]))))
        places = {}
        for line in shared.guest.run("grep -E 'wake_up_process|veth_xmit|bpf_prog_[0-9a-f]{16}| bpf_tree' /proc/kallsyms").splitlines():
            places.setdefault(line.split()[2], set()).add(int(line.split()[0], 16))
        self.assertEqual(value["begin"], "wake_up_process")
        self.assertEqual(value["inside"], "wake_up_process+0x3")
        for member in ("begin", "inside", "program", "in_program", "module"):
            if words[member] == 0 and member == "module":  # its veth is no module
                continue
            # Where they are is in variables, whose symbols a kernel may lack.
            if member not in ("begin", "inside") and "bpf_tree" not in places and value[member] == f"{words[member]:#x}":
                continue
            with self.subTest(member=member):
                name, plus, offset = value[member].partition("+")
                self.assertEqual(plus, "+" if member.startswith("in") else "")
                self.assertIn(words[member] - int(offset or "0", 16), places.get(name, set()), value[member])
        self.assertEqual((value["none"], value["garbage"], value["data"]), ("0x0", "0xffffdead00000123", f"{words['begin']:#x}"))
        self.assertEqual(set(absent["value"].values()), {"0x0"})
        dumped = shared.dump(next(other["id"] for other in shared.map_list if other.get("name") == "y_handlers"))
        self.assertEqual(entry["value_hex"], oracle.hex_bytes(dumped[1].get("value")))

    def test_a_number_without_an_enumerator_has_the_sign_of_its_type(self):
        # Before enumerators of 64 bits types did not say whether they have one.
        unknown = -100 if "btf enum64" in shared.made else 2**32 - 100
        self.assertEqual([entry["value"] for entry in self.entries("y_negative")], ["NEGATIVE_ALL", unknown])

    def test_floating_point_numbers_are_exact(self):
        if "btf float" not in shared.made:
            return  # the kernel has no types for them: libbpf puts others of the same size there
        first, second, _ = (entry["value"] for entry in self.entries("y_numbers"))
        self.assertEqual(struct.pack("<ffd", *first["single"], first["wide"]), struct.pack("<ffd", 0.1, -1e30, 1 / 3))
        self.assertEqual((first["signed_huge"], first["unsigned_huge"]), (str(-(1 << 100)), str((1 << 128) - 1)))
        self.assertEqual((first["yes"], first["no"], first["double_word"]), (True, False, -1))
        self.assertEqual((second["single"], second["wide"]), (["inf", "-inf"], "nan"))
        doubles = [entry["value"] for entry in self.entries("y_float")]
        self.assertEqual(doubles, [0.1, 1e300, -0.0, 12345678.0])
        self.assertEqual(math.copysign(1, doubles[2]), -1)

    def test_sections_of_data_are_their_variables(self):
        sections = {entry["name"]: self.entries(entry["id"])[0]["value"] for entry in shared.map_list if entry.get("name", "").startswith("typed_va.")}
        self.assertEqual(sections["typed_va.rodata"], {"seen_here": 17})
        data = sections["typed_va.data"]
        self.assertEqual(data["counts"], [[1, -2], [3, -4]])
        self.assertEqual(data["aligned_far"], [7, 8, 9])
        self.assertEqual(data["enumerations"]["list"], ["COLOR_BLUE", "COLOR_RED", "COLOR_GREEN"])
        self.assertEqual(sections["typed_va.bss"], {"message": "0x0"})
        self.assertEqual(self.entries(".rodata.custom")[0]["value"], {"in_custom": 99})

    def test_what_surrounds_the_kernels_own_is_what_was_written(self):
        for name in ("z_lock", "z_lock_array", "z_timer", "z_timer_hash", "z_work", "z_kept", "z_list", "z_tree"):
            with self.subTest(map=name):
                value = next(entry["value"] for entry in self.entries(name) if entry["key"] == 1)
                self.assertEqual((value.get("before", 0x1111), value["after"]), (0x1111, 0x2222))

    def test_what_the_kernel_keeps_is_hidden_from_bpftool_only(self):
        """Where bpftool has zeros we may have more; everything else is the same."""
        for name in ("z_lock", "z_timer", "z_timer_hash", "z_work", "z_kept"):
            map_id = next(entry["id"] for entry in shared.map_list if entry.get("name") == name)
            for mine, theirs in zip(self.entries(map_id, "?raw"), shared.dump(map_id)):
                with self.subTest(map=name, key=mine["key"]):
                    self.assertEqual(mine["key_hex"], oracle.hex_bytes(theirs.get("key")))
                    pairs = list(zip(bytes.fromhex(mine["value_hex"]), bytes.fromhex(oracle.hex_bytes(theirs.get("value")))))
                    self.assertEqual([pair for pair in pairs if pair[1] not in (0, pair[0])], [])
                    self.assertEqual(pairs[:2], [pair[:1] * 2 for pair in pairs[:2]])
        if {"ran keep_task", "ran keep_current"} & shared.made:
            kept = next(entry for entry in self.entries("z_kept", "?raw") if entry["key"] == 1)
            self.assertRegex(kept["value"]["task"], "^0xff[0-9a-f]{14}$")
            self.assertEqual(kept["value_hex"], le(0x1111, 8) + le(0, 8) + le(0x2222, 8))


class Parts(LiveTest):
    def pages(self, path, limit):
        """The entries of each part, until there is no next one."""
        parts, cursor = [], ""
        while True:
            answer = shared.daemon.get(f"{path}?limit={limit}{cursor}")
            self.assertNotIn("problems", answer)
            parts.append(answer["entries"])
            self.assertLessEqual(len(parts[-1]), limit)
            self.assertIs(answer.get("truncated", False), "next" in answer)
            if "next" not in answer:
                return parts
            cursor = f"&cursor={answer['next']}"

    def test_the_parts_of_a_map_are_the_whole(self):
        for name, limit in {"big_hash": 3000, "big_hash_np": 3000, "big_lru": 7000, "s_big_array": 7, "b_pcpu_hash": 3, "b_array": 5, "b_pcpu_array": 2,
                            "s_empty": 5}.items():
            with self.subTest(map=name):
                whole = shared.daemon.get(f"/maps/{name}")["entries"]
                parts = self.pages(f"/maps/{name}", limit)
                self.assertEqual([entry for part in parts for entry in part], whole)
                self.assertLessEqual(len(parts), len(whole) // limit * 2 + 2)

    def test_one_entry_is_found_by_its_key(self):
        for name in ("big_hash", "big_hash_np", "big_lru"):
            for i in (0, 1, 9999, 19999):
                key = i * 0x100000007
                for text in (str(key), hex(key)):
                    entry, = shared.daemon.get(f"/maps/{name}?key={text}")["entries"]
                    self.assertEqual(entry, {"key": key, "value": 3 * key + 1})
        entry, = shared.daemon.get("/maps/p_hash_3_5?raw")["entries"][:1]
        self.assertEqual(shared.daemon.get(f"/maps/p_hash_3_5?raw&key_hex={entry['key_hex']}")["entries"], [entry])
        self.assertEqual(shared.daemon.get("/maps/s_big_array?key=63")["entries"][0]["value"]["index"], 63)
        self.assertEqual(len(shared.daemon.get("/maps/b_pcpu_hash?key=3")["entries"]), 1)

    def test_a_key_that_is_not_there_is_not_found(self):
        for path in ("/maps/big_hash?key=5", "/maps/b_array?key=16", "/maps/k_outer_arr?key=0"):
            with self.subTest(path):
                self.assert_problem(shared.daemon.request(path), 404, "not_found")
        self.assert_problem(shared.daemon.request("/maps/big_hash?key=nonsense"), 400, "invalid_request")
        self.assert_problem(shared.daemon.request("/maps/k_queue?key=1"), 400, "invalid_request")

    def test_one_cpus_values_can_be_asked_for(self):
        whole = shared.daemon.get("/maps/b_pcpu_hash")["entries"]
        for cpu in range(shared.guest.cpus):
            part = shared.daemon.get(f"/maps/b_pcpu_hash?cpu={cpu}")["entries"]
            self.assertEqual(part, [{**entry, "values": [value for value in entry["values"] if value["cpu"] == cpu]} for entry in whole])
        self.assertEqual(shared.daemon.request("/maps/b_pcpu_hash?cpu=64").status // 100, 4)

    def test_a_part_is_refused_that_makes_no_sense(self):
        for options in ("limit=0", "limit=-1", "limit=many", "cursor=nonsense", "limit=1&cursor=nonsense", "cpu=all"):
            with self.subTest(options):
                self.assert_problem(shared.daemon.request(f"/maps/big_hash?{options}"), 400, "invalid_request")


if __name__ == "__main__":
    unittest.main()
