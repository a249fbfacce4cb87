"""Maps that change while they are read: programs/changing.c changes them on all CPUs, the daemon reads.

What the guest's program writes can be taken apart: changing.h says how. So a value tells whether it is whole, and a word whether
anybody ever wrote it there.
"""

import collections
import functools
import json
import time
import unittest

from guest import Daemon, wait_until
from harness import LiveTest, shared
from known import le, number

FACTOR = 0x9E3779B97F4A7C15
INVERSE = pow(FACTOR, -1, 1 << 64)
RESIDENT, STATIC = 128, 2000
Written = collections.namedtuple("Written", "key number place")

# By name: the words of a value, and how many keys come and go besides those that stay. "c_rhash" not every kernel has.
TABLES = {"c_hash": (8, 1536), "c_hash_np": (8, 1536), "c_wide": (375, 64), "c_pcpu": (8, 512), "c_lru": (8, 4096), "c_lpm": (8, 512),
          "c_rhash": (8, 2048)}
OTHERS = ("c_queue", "c_stack", "c_ring", "c_array", "c_outer", "c_static")
# Whose elements lie in one array from the beginning to the end: there is nobody else's word among them.
OWN_MEMORY = {"c_hash", "c_lru", "c_queue", "c_stack", "c_ring", "c_array"}
DOCUMENTED = {("not_found", 404), ("guest_fault", 502), ("timeout", 504), ("busy", 503)}
SECONDS = 20


@functools.lru_cache(maxsize=1 << 18)
def word(value):
    """Which word it is, by word_of() of changing.h."""
    plain = value * INVERSE % (1 << 64)
    return Written(plain >> 48, plain >> 8 & 0xFFFFFFFFFF, plain & 0xFF)


def words(text):
    return [word(number(text[i:i + 16])) for i in range(0, len(text), 16)]


def key_of(name, text):
    """The number of a key."""
    raw = bytes.fromhex(text)
    return raw[5] << 8 | raw[6] if name == "c_lpm" else int.from_bytes(raw, "little")


def is_whole(key, value):
    """All of it was written at once, for this key."""
    parts = words(value)
    return all(part == (key, parts[0].number, place % 256) for place, part in enumerate(parts))


class Changing(LiveTest):
    @classmethod
    def setUpClass(cls):
        # The stub has one client at a time.
        if shared._daemon:
            shared._daemon.stop()
            shared._daemon = None
        cls.before = shared.guest.run("bpftool -j map show")
        shared.guest.run("guest changing >/run/changing.log 2>&1 && until [ -s /run/changing.pid ]; do sleep 0.1; done", 120)

    @classmethod
    def tearDownClass(cls):
        """Others compare all maps: those of the program go with it, at last."""
        shared.guest.run("kill -9 -$(cat /run/changing.pid)")
        wait_until(lambda: shared.guest.run("bpftool -j map show") == cls.before, 60, "the end of the maps that change")

    def setUp(self):
        self.tables = {name: shape for name, shape in TABLES.items() if name != "c_rhash" or "map k_rhash" in shared.made}
        self.torn, self.foreign, self.values = collections.Counter(), collections.Counter(), collections.Counter()

    def turns(self):
        """How often each process has changed everything; all are alive."""
        entries = shared.guest.json("bpftool -j map dump name c_progress")
        turns = [int.from_bytes(bytes(int(byte, 16) for byte in entry["value"]), "little") for entry in entries]
        self.assertEqual(shared.guest.run("cat /run/changing.log"), "")
        return turns[:shared.guest.cpus]

    # --- what an answer may say ---

    def check_value(self, name, key, value, consistent, limit):
        """key: None where any may stand; limit: of the numbers of keys."""
        self.assertEqual(len(value), self.words_of(name) * 16, name)
        self.values[name] += 1
        parts = words(value)
        if is_whole(parts[0].key if key is None else key, value) and parts[0].key < limit:
            return
        self.assertFalse(consistent, f"{name}: for {key}: {parts[:8]}")
        self.torn[name] += 1
        written = all(part.key < limit and part.place == place % 256 or part == (0, 0, 0) for place, part in enumerate(parts))
        self.foreign[name] += not written
        if name in OWN_MEMORY:
            self.assertTrue(written, f"{name}: nobody wrote {parts[:8]} there")

    def words_of(self, name):
        return self.tables[name][0] if name in self.tables else 8

    def check_table(self, name, answer, consistent):
        coming = self.tables[name][1]
        keys = []
        for entry in answer["entries"]:
            key = key_of(name, entry["key_hex"])
            keys.append(key)
            # What cannot be read has its problem.
            found = [cell.get("value_hex") for cell in entry["values"]] if "values" in entry else [entry.get("value_hex")]
            # Zeros may be the beginning of anything.
            stays = 0 < key < RESIDENT and name != "c_lru"
            for value in found:
                if value is not None:
                    self.check_value(name, key, value, consistent or stays, RESIDENT + coming)
        if not consistent:
            return
        self.assertEqual([key for key, count in collections.Counter(keys).items() if count > 1], [], name)
        self.assertEqual([key for key in keys if key >= RESIDENT + coming], [], name)
        if name != "c_lru":
            self.assertEqual(set(range(RESIDENT)) - set(keys), set(), name)

    def check_order(self, values, rising):
        """The numbers of one writer are in the order in which it wrote them."""
        last = {}
        for value in values:
            first = words(value)[0]
            if first.key in last:
                self.assertTrue((first.number > last[first.key]) == rising, values)
            last[first.key] = first.number

    def check_buffer(self, name, answer, consistent):
        writers = shared.guest.cpus
        values = [entry.get("value_hex", entry["value"]) for entry in answer["entries"] if not entry.get("busy")]
        for value in values:
            if value is not None and len(value) == 128:
                self.check_value(name, None, value, consistent, writers)
            else:
                self.assertFalse(consistent, answer)
        if consistent and name == "c_queue":
            self.check_order(values, rising=True)

    def check_others(self, name, answer, consistent):
        if name == "c_array":
            self.assertEqual([entry["key"] for entry in answer["entries"]], list(range(4096)))
            for entry in answer["entries"]:
                # One word each: nothing to be torn.
                self.assertIn(word(number(entry["value_hex"])), [(0, 0, 0), (entry["key"], word(number(entry["value_hex"])).number, 0)])
        elif name == "c_outer":
            self.assertLessEqual(len(answer["entries"]), 64)
        elif name == "c_static":
            self.check_static(answer)
        else:
            self.check_buffer(name, answer, consistent)

    def check_static(self, answer):
        self.assertNotIn("problems", answer)
        self.assertEqual(sorted(key_of("c_static", entry["key_hex"]) for entry in answer["entries"]), list(range(STATIC)))
        for entry in answer["entries"]:
            self.check_value("c_static", key_of("c_static", entry["key_hex"]), entry["value_hex"], True, STATIC)

    def check(self, answer, consistent):
        """A map's object, with ?raw."""
        if consistent:
            self.assertNotIn("problems", answer)
        for problem in answer.get("problems", []):
            self.assertTrue(problem["error"], problem)
        name = answer["name"]
        if answer["entries"] is None:
            self.assertTrue(answer.get("problems"), answer)
        elif name in self.tables:
            self.check_table(name, answer, consistent)
        elif name in OTHERS:
            self.check_others(name, answer, consistent)

    # --- questions ---

    def ask(self, daemon, path, allowed=DOCUMENTED):
        """The answer as JSON, or None for an error of those that the interface has for this."""
        answer = daemon.request(path, timeout=120)
        self.statuses[answer.status] += 1
        if answer.status == 200:
            return json.loads(answer.body)
        body = self.assert_problem(answer, answer.status, answer.json()["code"])
        self.assertIn((body["code"], body["status"]), allowed, (path, body))
        return None

    def ask_map(self, daemon, name):
        answer = self.ask(daemon, f"/maps/{name}?raw")
        if answer:
            self.check(answer, answer["snapshot"]["consistent"])
        return answer

    def ask_all(self, daemon):
        """The maps of one type with contents: those of the program among them."""
        for kind in ("hash", "lru_hash", "queue", "ringbuf", "hash_of_maps"):
            answer = self.ask(daemon, f"/maps?contents&raw&type={kind}")
            for found in answer["maps"] if answer else []:
                self.check(found, answer["snapshot"]["consistent"])

    def ask_in_pages(self, daemon, name):
        """Whatever happens to the entries, the pages end."""
        entries, path, problems = [], f"/maps/{name}?raw&limit=100", False
        for _ in range(400):
            answer = self.ask(daemon, path)
            if not answer:
                return
            self.check_entries_of_a_page(name, answer)
            entries += answer["entries"]
            problems = problems or "problems" in answer
            if not answer.get("truncated"):
                break
            path = f"/maps/{name}?raw&limit=100&cursor={answer['next']}"
        else:
            self.fail(f"the pages of {name} do not end")
        if name == "c_static":
            self.check_static({"entries": entries})
        elif name in ("c_hash", "c_hash_np") and not problems:
            keys = collections.Counter(key_of(name, entry["key_hex"]) for entry in entries)
            self.assertEqual({key: keys[key] for key in range(RESIDENT) if keys[key] != 1}, {}, name)

    def check_entries_of_a_page(self, name, answer):
        for entry in answer["entries"]:
            key = key_of(name, entry["key_hex"])
            limit = STATIC if name == "c_static" else RESIDENT + self.tables[name][1]
            self.check_value(name, key, entry["value_hex"], answer["snapshot"]["consistent"], limit)

    def ask_key(self, daemon, name, key):
        """One that stays is always there."""
        text = (24 + key % 9).to_bytes(4, "little").hex() + bytes((10, key >> 8, key & 255, 0)).hex() if name == "c_lpm" else le(key, 4)
        answer = self.ask(daemon, f"/maps/{name}?raw&key_hex={text}")
        stays = key < RESIDENT and name != "c_lru"
        if answer is None:
            self.missing[name] += stays
            return
        # What could not be followed to its end is no proof that nothing is there.
        self.assertTrue(len(answer["entries"]) == 1 or not answer["entries"] and answer["problems"], answer)
        self.check_table(name, answer, False)
        if stays and answer["entries"]:
            entry, = answer["entries"]
            for value in [cell["value_hex"] for cell in entry["values"]] if "values" in entry else [entry["value_hex"]]:
                self.assertTrue(is_whole(key, value), (name, key, words(value)[:8]))

    def for_a_while(self, daemon):
        """Questions of every kind, one after the other."""
        self.statuses, self.missing, consistent = collections.Counter(), collections.Counter(), collections.Counter()
        begun, rounds = time.monotonic(), 0
        while time.monotonic() < begun + SECONDS:
            for name in [*self.tables, *OTHERS]:
                answer = self.ask_map(daemon, name)
                consistent[bool(answer and answer["snapshot"]["consistent"])] += 1
            for name in self.tables:
                for key in (rounds * 7 % RESIDENT, RESIDENT + rounds * 13 % 64):
                    self.ask_key(daemon, name, key)
            for name in ("c_static", "c_hash", "c_hash_np"):
                self.ask_in_pages(daemon, name)
            self.ask_all(daemon)
            rounds += 1
        print(f"\n  rounds {rounds}, statuses {dict(self.statuses)}, consistent {dict(consistent)}, torn {dict(self.torn)}, "
              f"foreign {dict(self.foreign)}, values {sum(self.values.values())}, missing {dict(self.missing)}", flush=True)
        return consistent

    def run_with(self, *options):
        before = self.turns()
        with Daemon(shared.guest, *options) as daemon:
            daemon.wait_ready()
            consistent = self.for_a_while(daemon)
            self.assertEqual(daemon.get("/status")["guest"]["boots"], 1)
            self.assertNotIn("Sanitizer", daemon.stderr())
        self.assertTrue(all(now > then for then, now in zip(before, self.turns())), before)
        # Keys that come and go are often not there; other errors are rare.
        self.assertGreater(self.statuses[200] + self.statuses[404], sum(self.statuses.values()) * 0.9, self.statuses)
        return consistent

    def test_answers_of_several_instants_are_whole_json_of_what_was_written(self):
        consistent = self.run_with("--max-pause", "1")
        self.assertGreater(consistent[False], 0)

    def test_answers_of_one_instant_are_right(self):
        # Time enough for each.
        consistent = self.run_with("--max-pause", "10000")
        self.assertEqual(consistent[False], 0)
        self.assertEqual((self.torn, self.missing), (collections.Counter(), collections.Counter()))


if __name__ == "__main__":
    unittest.main()
