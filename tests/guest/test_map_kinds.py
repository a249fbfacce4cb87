"""Maps of every type: against bpftool where it can read them, else against what programs/*.c wrote and noted."""

import unittest

import oracle
from harness import LiveTest, shared
from known import MAPS, MAPS_SINCE, RAN_SINCE, expected, facts, has, le, map_ids, number, pattern, prog_ids


def needs(name):
    """For the test of a map that not every kernel has. The first test checks that a kernel has what it should have."""
    def decorate(test):
        def wrapped(self):
            if has(name):
                test(self)
        wrapped.__name__ = test.__name__
        return wrapped
    return decorate


class MapKinds(LiveTest):
    def answer(self, name, options="?raw"):
        """A map's object, without problems."""
        answer = shared.daemon.get(f"/maps/{name}{options}")
        self.assertNotIn("problems", answer)
        return answer

    def entries(self, name, options="?raw"):
        return self.answer(name, options)["entries"]

    def same_as_bpftool(self, name, sort=False):
        """Every entry, in the kernel's order unless it has none that lasts."""
        ours, theirs = self.entries(name), shared.dump(map_ids()[name])
        self.assertIsNotNone(theirs, "bpftool printed no JSON")
        # Linux 5.10 lists, after the last storage of a group, the head of its own list, of which a look-up finds nothing.
        theirs = [entry for entry in theirs if not (isinstance(entry.get("value"), oracle.Pairs) and entry.get("value").get("error"))]
        self.assertEqual(len(ours), len(theirs))
        if sort:
            ours = sorted(ours, key=lambda entry: entry["key_hex"])
            theirs = sorted(theirs, key=lambda entry: oracle.hex_bytes(entry.get("key")))
        found = []
        for i, (mine, other) in enumerate(zip(ours, theirs)):
            found += oracle.entry_differences(mine, other, f"{name}[{i}]")
        self.assertEqual(found[:10], [], f"{len(found)} differences")
        return ours

    def test_the_guest_has_every_type_of_map_that_its_kernel_has(self):
        made = {line.split()[1] for line in shared.made if line.startswith("map ")}
        self.assertEqual((set(MAPS) | set(MAPS_SINCE)) & made, set(MAPS) | expected(MAPS_SINCE))
        self.assertEqual({line[4:] for line in shared.made if line.startswith("ran ")}, expected(RAN_SINCE))

    def test_a_queue_lists_what_would_be_popped_first(self):
        self.assertEqual([entry["value"] for entry in self.entries("k_queue")], [le(i * 100, 8) for i in (4, 5, 6, 7, 8)])
        self.assertEqual(self.entries("k_queue_empty"), [])

    def test_a_stack_lists_what_would_be_popped_first(self):
        self.assertEqual([entry["value"] for entry in self.entries("k_stack")], [le(i, 8) for i in (77, 55, 44, 33)])
        self.assertEqual([entry["value"] for entry in self.entries("k_stack_odd")], [pattern(5, 1).hex(), pattern(5, 0).hex()])

    @needs("k_bloom")
    def test_a_bloom_filter_tells_how_full_it_is(self):
        answer = self.answer("k_bloom")
        self.assertEqual(answer["hash_count"], 3)
        self.assertEqual(answer["entries"], [])
        # 40 values, 3 bits each, some of them shared.
        self.assertGreater(answer["bits_set"], 40)
        self.assertLessEqual(answer["bits_set"], 120)

    def test_a_ring_buffer_has_the_records_that_wait(self):
        answer, first, size, step = self.answer("k_ring"), facts()["k_ring_first"], facts()["k_ring_size"], 112
        positions = {"consumer_pos": first * step, "producer_pos": (first + 12) * step, "pending_bytes": 12 * step}
        self.assertEqual({name: answer[name] for name in positions}, positions)
        for i, entry in enumerate(answer["entries"], first):
            self.assertEqual((entry["offset"], entry["size"], entry["busy"], entry["discarded"]), (i * step % size, 100, False, i % 5 == 4))
            self.assertEqual(entry["value"], le(i, 4) + bytes((i + n) % 256 for n in range(96)).hex())
        self.assertEqual(len(answer["entries"]), 12)
        # One of them goes on at the beginning of the buffer.
        self.assertTrue(any(entry["offset"] + 8 + 100 > size for entry in answer["entries"]))

    @needs("k_user_ring")
    def test_a_ring_buffer_that_user_space_fills_has_the_records_that_wait(self):
        entries, drained = self.entries("k_user_ring"), facts()["k_user_ring_drained"]
        self.assertEqual(drained, 2)
        self.assertEqual([(entry["size"], entry["discarded"], entry["busy"]) for entry in entries],
                         [(20 + i, i in (2, 4), False) for i in range(drained, 7)] + [(48, False, True)])
        for i, entry in enumerate(entries[:-1], drained):
            self.assertEqual(entry["value"], pattern(20 + i, i).hex())

    def test_prefixes_equal_bpftools_in_order(self):
        for name, count in {"k_lpm4": 11, "k_lpm6": 6, "k_lpm_odd": 3, "k_lpm_empty": 0}.items():
            with self.subTest(map=name):
                self.assertEqual(len(self.same_as_bpftool(name)), count)
        self.assertEqual({entry["prefix"] for entry in self.entries("k_lpm4")},
                         {"0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "192.168.0.0/24", "192.168.1.0/24", "255.255.255.255/32", "10.1.2.3/32",
                          "10.2.128.0/17", "128.0.0.0/1", "172.16.0.0/12", "10.1.2.4/30"})
        self.assertEqual({entry["prefix"] for entry in self.entries("k_lpm6")},
                         {"::1/128", "fe80::/10", "2001:db8::/32", "2001:db8:1::/48", "2001:db8:2::/48", "2001:db8:2::fe/127"})

    @needs("k_rhash")
    def test_a_resizable_hash_equals_bpftools(self):
        self.assertEqual(len(self.same_as_bpftool("k_rhash", sort=True)), 225)

    @needs("k_rhash")
    def test_a_key_of_a_resizable_hash_is_found(self):
        for key in (1, 2, 3, 151, 298, 299):
            entry, = self.entries("k_rhash", f"?raw&key={key}")
            self.assertEqual((entry["key"], entry["value"]), (key, {"hop": key * key, "name": f"n{key}"}))
        # Deleted; and never there.
        for key in (0, 4, 296, 300, 1 << 31):
            self.assert_problem(shared.daemon.request(f"/maps/k_rhash?key={key}"), 404, "not_found")

    def test_maps_of_maps_name_their_maps(self):
        ids = map_ids()
        hash_a, hash_b, array_a, array_b = (ids[f"k_inner_{name}"] for name in ("hash_a", "hash_b", "arr_a", "arr_b"))
        self.assertEqual([(entry["key"], entry["map_id"]) for entry in self.entries("k_outer_arr")], [(1, hash_a), (3, hash_b), (5, hash_a)])
        self.assertEqual({entry["key_hex"]: entry["map_id"] for entry in self.entries("k_outer_hash")},
                         {le(i << 33, 8): array_b if i == 1 else array_a for i in range(3)})
        self.assertEqual({entry["key_hex"]: entry["map_id"] for entry in self.entries("k_outer_np")},
                         {pattern(5, i).hex(): hash_a if i == 1 else hash_b for i in range(3)})

    def test_a_table_of_programs_names_them(self):
        self.assertEqual([(entry["key"], entry["prog_id"]) for entry in self.entries("k_progs")],
                         [(i, prog_ids()[f"tail_{i}"]) for i in (0, 123, 246)])

    def test_perf_events_and_groups_are_described(self):
        event, = self.entries("k_perf")
        self.assertEqual((event["key"], event["type"], event["event"], event["cpu"]), (0, "software", "bpf_output", 0))
        self.assertEqual((event["owner"]["pid"], event["owner"]["comm"]), (int(shared.guest.run("cat /run/guest.pid")), "guest"))
        self.assertEqual([(entry["key"], entry["cgroup_id"], entry["path"]) for entry in self.entries("k_cgroups")],
                         [(0, facts()["cgroup_0"], "/"), (2, facts()["cgroup_2"], "/known/inner")])

    def test_stacks_are_symbolised(self):
        """That of a program at a tracepoint inside prctl()."""
        entry, = self.entries("k_stacks")
        self.assertEqual(entry["key"], facts()["kernel_stack"])
        names = self.check_symbols("k_stacks", entry)
        self.assertIn("__set_task_comm", names)
        self.assertTrue(any("sys_prctl" in name for name in names), names)

    @needs("k_stacks_mod")
    def test_code_of_modules_is_symbolised(self):
        """The stack of a packet that the module veth hands from one of its devices to the other."""
        entry, = self.entries("k_stacks_mod")
        self.assertEqual(entry["key"], facts()["module_stack"])
        self.assertIn("veth_xmit", self.check_symbols("k_stacks_mod", entry))
        frame = next(frame for frame in entry["frames"] if frame["symbol"].startswith("veth_xmit+"))
        self.assertRegex(frame["symbol"], r"^veth_xmit\+0x[0-9a-f]+ \[veth\]$")

    def test_a_stack_is_found_by_its_id(self):
        for name, fact in (("k_stacks", "kernel_stack"), ("k_stacks_id", "user_stack")):
            with self.subTest(map=name):
                known = facts()[fact]
                self.assertEqual(self.entries(name, f"?raw&key={known}"), self.entries(name))
                for other in (known ^ 1, known ^ 8, 16, 1 << 31):
                    self.assert_problem(shared.daemon.request(f"/maps/{name}?key={other}"), 404, "not_found")

    def check_symbols(self, map_name, entry):
        """Compares a stack's addresses with bpftool's, their names with the kernel's; gives the names."""
        words = bytes.fromhex(oracle.hex_bytes(shared.dump(map_ids()[map_name])[0].get("value")))
        addresses = [int.from_bytes(words[i:i + 8], "little") for i in range(0, len(words), 8)]
        self.assertEqual([int(frame["address"], 16) for frame in entry["frames"]], [address for address in addresses if address])
        # "NAME+0x1a", "NAME+0x1a [bpf]"
        symbols = [frame["symbol"].partition(" ")[0].partition("+") for frame in entry["frames"]]
        names = [name for name, _, _ in symbols]
        places = {}
        for line in shared.guest.run(f"grep -wF{''.join(f' -e {name}' for name in names)} /proc/kallsyms").splitlines():
            places.setdefault(line.split()[2], set()).add(int(line.split()[0], 16))
        for frame, (name, _, offset) in zip(entry["frames"], symbols):
            self.assertIn(int(frame["address"], 16) - int(offset, 16), places.get(name, set()), frame)
        return names

    def test_stacks_of_user_space_have_build_ids(self):
        entry, = self.entries("k_stacks_id")
        self.assertEqual(entry["key"], facts()["user_stack"])
        self.assertEqual(entry["frames"][0]["build_id"], facts()["build_id"])
        value = oracle.hex_bytes(shared.dump(map_ids()["k_stacks_id"])[0].get("value"))
        self.assertEqual(entry["frames"][0]["offset"], number(value[48:64]))

    def test_devices_and_cpus_are_named(self):
        at_device, at_cpu = facts()["prog_at_device"], facts()["prog_at_cpu"]
        for name, keys in {"k_devmap4": (0, 2), "k_devmap8": (0, 2), "k_devhash4": (2, 77), "k_devhash8": (2, 77)}.items():
            program = at_device if name.endswith("8") else None
            with self.subTest(map=name):
                self.assertEqual(sorted((number(entry["key_hex"]), entry["ifindex"], entry["ifname"], entry.get("prog_id"))
                                        for entry in self.entries(name)),
                                 [(keys[0], 1, "lo", None), (keys[1], facts()["second_device"], "far0", program)])
        self.assertEqual([(entry["key"], entry["qsize"], entry.get("prog_id")) for entry in self.entries("k_cpumap4")], [(0, 192, None)])
        self.assertEqual([(entry["key"], entry["qsize"], entry.get("prog_id")) for entry in self.entries("k_cpumap8")], [(0, 256, at_cpu)])
        entry, = self.entries("k_xsk")
        self.assertEqual((entry["key"], entry["ifname"], entry["queue_id"], entry["socket"]["family"]), (2, "lo", 0, "xdp"))

    def assert_socket(self, socket, name, family, state="established"):
        self.assertEqual((socket["family"], socket["source_port"], socket["cookie"], socket["state"]),
                         (family, facts()[f"port_{name}"], facts()[f"cookie_{name}"], state))
        self.assertEqual(socket["source_address"], "127.0.0.1" if family == "inet" else "::1")

    def test_sockets_are_described(self):
        pairs = [("client4", "inet"), ("server4", "inet"), ("client6", "inet6"), ("server6", "inet6")]
        for size in (4, 8):
            entries = self.entries(f"k_sockmap{size}")
            self.assertEqual([entry["key"] for entry in entries], [0, 2, 4, 6])
            by_key = {entry["key_hex"]: entry for entry in self.entries(f"k_sockhash{size}")}
            self.assertEqual(len(by_key), 4)
            for i, (name, family) in enumerate(pairs):
                self.assert_socket(entries[i], name, family)
                self.assertEqual(entries[i]["destination_port"], facts()[f"port_{pairs[i ^ 1][0]}"])
                self.assert_socket(by_key[pattern(6, i).hex()], name, family)
        first, second = self.entries("k_reuse8")
        third, = self.entries("k_reuse4")
        self.assertEqual([entry["key"] for entry in (first, second, third)], [0, 3, 1])
        for entry, name, family in ((first, "reuse_first", "inet"), (second, "reuse_second", "inet"), (third, "reuse_third", "inet6")):
            self.assert_socket(entry, name, family, "close")

    def owned(self, name, how):
        """The values of a storage by what `how` says of the owner."""
        return {how(entry["owner"]): (entry["value"]["number"], entry["value"]["text"]) for entry in self.entries(name)}

    def test_storage_names_its_owners(self):
        known = facts()
        numbers = range(7, 10)
        with self.subTest("sockets"):
            self.assertEqual(self.owned("k_sk_store", lambda owner: (owner["socket"]["family"], owner["socket"]["cookie"])),
                             {(family, known[f"k_sk_store_{i}_cookie"]): (i, "socket") for i, family in enumerate(("inet", "inet6", "unix"), 1)})
        with self.subTest("files"):
            self.assertEqual(self.owned("k_inode_store", lambda owner: owner["inode"]),
                             {known[f"k_inode_store_{i}_inode"]: (i, "file") for i in range(100, 103)})
        if has("k_task_store"):
            with self.subTest("tasks"):
                self.assertEqual(self.owned("k_task_store", lambda owner: (owner["pid"], owner["comm"])),
                                 {(known[f"k_task_store_{i}_pid"], comm): (i, "task") for i, comm in ((10, "owner-one"), (20, "owner-two"))})
        if has("k_cgrp_store"):
            with self.subTest("groups"):
                self.assertEqual(self.owned("k_cgrp_store", lambda owner: owner["cgroup_id"]),
                                 {known[f"k_cgrp_store_{i}_inode"]: (i, "group") for i in numbers})

    def test_storage_for_each_group_and_attachment(self):
        """Three packets of 100 bytes left the inner group, and so the outer one, on CPU 0, and came back."""
        groups = {facts()["cgroup_known"], facts()["cgroup_inner"]}
        entries = self.entries("k_cg_store")
        self.assertEqual({entry["key"]["cgroup_inode_id"] for entry in entries}, groups)
        self.assertEqual([entry["value"] for entry in entries], [{"number": 3, "text": "egress"}] * 2)
        self.assertEqual({(entry["attach_type"], entry["path"]) for entry in entries},
                         {("cgroup_inet_egress", "/known"), ("cgroup_inet_egress", "/known/inner")})
        entries = self.entries("k_cg_pcpu")
        self.assertEqual({entry["key"]["cgroup_inode_id"] for entry in entries}, groups)
        for entry in entries:
            self.assertEqual([value["value"]["number"] for value in entry["values"]], [300] + [0] * (shared.guest.cpus - 1))
        entry, = self.entries("k_cg_store_id")
        self.assertEqual((entry["key"], entry["value"]), (facts()["cgroup_inner"], 300))
        for name in ("k_cg_store", "k_cg_pcpu", "k_cg_store_id"):
            self.same_as_bpftool(name)

    def test_a_table_of_functions_names_its_programs(self):
        entry, = self.entries("k_struct_ops")
        if "lacks registration of k_struct_ops: Unknown error 524" in shared.made:
            self.assertEqual(entry["state"], "init")
            return
        self.assertIn(entry["state"], ("inuse", "ready"))
        self.assertEqual({name: operation["prog_id"] for name, operation in entry["operations"].items()},
                         {name: prog_ids()[f"ops_{short}"] for name, short in (("ssthresh", "ssthresh"), ("cong_avoid", "avoid"), ("undo_cwnd", "undo"))})
        self.assertEqual(entry["value"]["data"]["name"], "known")

    @needs("k_insns")
    def test_instructions_equal_bpftools(self):
        entries, theirs = self.entries("k_insns"), shared.dump(map_ids()["k_insns"])
        self.assertEqual([entry["value_hex"] for entry in entries], [oracle.hex_bytes(entry.get("value")) for entry in theirs])
        self.assertEqual([entry["value"]["orig_off"] for entry in entries], [0, 2, 3])

    @needs("k_arena")
    def test_an_arena_has_the_pages_that_were_touched(self):
        page = facts()["page_size"]
        expected = [bytearray(pattern(page, i)) for i in (0, 1, 37)]
        expected[2][100:106] = b"arena\0"
        entries = self.entries("k_arena")
        self.assertEqual([entry["value"] for entry in entries], [content.hex() for content in expected])
        self.assertEqual([(entry["offset"], int(entry["address"], 16), entry["size"]) for entry in entries],
                         [(i * page, facts()["k_arena_start"] + i * page, page) for i in (0, 1, 37)])

    def test_large_maps_are_whole(self):
        for name in ("big_hash", "big_hash_np", "big_lru"):
            entries = self.entries(name, "")
            self.assertEqual({entry["key"]: entry["value"] for entry in entries}, {i * 0x100000007: i * 0x100000007 * 3 + 1 for i in range(20000)})
            self.assertEqual(len(entries), 20000)


if __name__ == "__main__":
    unittest.main()
