#!/usr/bin/env python3
"""The comparison with bpftool must see through its notation, and must not see through errors."""

import json
import unittest

from oracle import Pairs, differences, entry_differences, parse_sched_debug, nanoseconds


def parse(text):
    return json.loads(text, object_pairs_hook=Pairs)


class Differences(unittest.TestCase):
    SAME = [
        (5, "5"), (-1, "-1"), (18446744073709551615, "18446744073709551615"), (True, "true"), ("RED", '"RED"'),
        (-9, '"0x17"'), (63, '"0x3f"'), (-2, '"0xfffffffffffffffffffffffffffffffe"'), (True, '"0x1"'), ("COLOR_BLUE", '"0xd"'),
        ("0xffff888000000010", "18446612682070032400"), ("0x0", "0"),
        ("eth0", '"eth0"'), ("full", "[102,117,108,108]"), ("hello", "[104,101,108,108,111,0,0,0]"), ([1, -1, 0], "[1,-1,0]"),
        ("", '""'), ([0, 0], '""'), ("é", "[-61,-87,0,0]"),
        ({"a": 1, "b": [1, 2]}, '{"a":1,"b":[1,2]}'),
        ({"a": 1, "b": 2, "c": 3, "d": 4}, '{"a":1,"":{"b":2},"":{"c":3},"d":4}'),
        (["one", "two"], '["one","two"]'), ("TINY_B", "-56"),
        ("do_idle", "18446612682070032400"), ("bpf_prog_00ff_count+0x1a", "18446612682070032400"),
    ]
    OTHER = [
        (5, "6"), (1, "true"), (True, "1"), ("5", "5"), (-8, '"0x17"'), (23 + 32, '"0x17"'), (-9, '"0x3f"'), ("COLOR_RED", '"0xd"'),
        ("0xffff888000000011", "18446612682070032400"), ("eth1", '"eth0"'), ("hell", "[104,101,108,108,111,0]"), ([1, 2], "[1,2,3]"),
        ({"a": 1}, '{"a":1,"b":2}'), ({"b": 1, "a": 2}, '{"a":2,"b":1}'), ({"a": 1, "b": 3}, '{"a":1,"":{"b":2}}'),
        (None, "0"), (None, '"x"'), (None, '{"a":1}'), ([], "{}"), (1.0, "1"), ({"": {"b": 2}}, '{"":{"b":2}}'),
        ("TINY_B", "56"), ("TINY_A", "-56"), ("do_idle", "56"), ("do_idle+0x0", "18446612682070032400"),
    ]

    def test_the_same_meaning_in_another_notation_is_no_difference(self):
        for ours, theirs in self.SAME:
            with self.subTest(ours=ours, theirs=theirs):
                self.assertEqual(differences(ours, parse(theirs)), [])

    def test_another_meaning_is_a_difference(self):
        for ours, theirs in self.OTHER:
            with self.subTest(ours=ours, theirs=theirs):
                self.assertNotEqual(differences(ours, parse(theirs)), [])


class Entries(unittest.TestCase):
    def same(self, ours, theirs):
        return entry_differences(ours, parse(theirs), "") == []

    def test_bytes_and_types_both_count(self):
        theirs = '{"key":["0x01"],"value":["0x02","0x00"],"formatted":{"key":1,"value":2}}'
        good = {"key": 1, "key_hex": "01", "value": 2, "value_hex": "0200"}
        self.assertTrue(self.same(good, theirs))
        for name, wrong in {"key": 2, "key_hex": "02", "value": 3, "value_hex": "0300"}.items():
            self.assertFalse(self.same({**good, name: wrong}, theirs))
            self.assertFalse(self.same({key: value for key, value in good.items() if key != name}, theirs))

    def test_without_btf_the_value_is_its_bytes(self):
        theirs = '{"key":["0x01"],"value":["0x02","0x00"]}'
        self.assertTrue(self.same({"key": "01", "key_hex": "01", "value": "0200", "value_hex": "0200"}, theirs))
        self.assertFalse(self.same({"key": "01", "key_hex": "01", "value": 2, "value_hex": "0200"}, theirs))

    def test_every_cpu_counts(self):
        theirs = ('{"key":["0x01"],"values":[{"cpu":0,"value":["0x02"]},{"cpu":1,"value":["0x03"]}],'
                  '"formatted":{"key":1,"values":[{"cpu":0,"value":2},{"cpu":1,"value":3}]}}')
        values = [{"cpu": 0, "value": 2, "value_hex": "02"}, {"cpu": 1, "value": 3, "value_hex": "03"}]
        self.assertTrue(self.same({"key": 1, "key_hex": "01", "values": values}, theirs))
        self.assertFalse(self.same({"key": 1, "key_hex": "01", "values": values[:1]}, theirs))
        self.assertFalse(self.same({"key": 1, "key_hex": "01", "values": values[::-1]}, theirs))

    def test_a_data_section_is_one_object(self):
        theirs = '{"key":["0x00"],"value":["0x02"],"formatted":{"value":{".data":[{"a":1},{"b":{"c":2}}]}}}'
        self.assertTrue(self.same({"key": 0, "key_hex": "00", "value": {"a": 1, "b": {"c": 2}}, "value_hex": "02"}, theirs))
        self.assertFalse(self.same({"key": 0, "key_hex": "00", "value": {"a": 1}, "value_hex": "02"}, theirs))


class SchedDebug(unittest.TestCase):
    TEXT = """cpu#0, 2592.832 MHz
  .nr_running                    : 3
  .clock                         : 9588.685286

cfs_rq[0]:/autogroup-1
  .nr_running                    : 2

cfs_rq[0]:/
  .nr_running                    : 1
  .min_vruntime                  : 13249.311458

rt_rq[0]:
  .rt_nr_running                 : 0

runnable tasks:
 S            task   PID
-------------
>R             cat   325     10329.469051   E
cpu#1, 2592.832 MHz
  .nr_running                    : 0
"""

    def test_figures_are_those_of_the_root_queue_of_each_cpu(self):
        cpus = parse_sched_debug(self.TEXT)
        self.assertEqual(sorted(cpus), [0, 1])
        self.assertEqual(cpus[0]["rq"]["nr_running"], "3")
        self.assertEqual(cpus[0]["cfs"]["nr_running"], "1")
        self.assertEqual(nanoseconds(cpus[0]["rq"]["clock"]), 9588685286)
        self.assertEqual(cpus[0]["tasks"], [("R", "cat", 325)])
        self.assertEqual(cpus[1]["rq"]["nr_running"], "0")


if __name__ == "__main__":
    unittest.main()
