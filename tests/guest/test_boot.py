"""The guest alone: what it must be before anybody may compare with it. For kernels that the daemon cannot look into."""

from harness import LiveTest, shared


class Boot(LiveTest):
    def test_the_guest_is_of_its_kernel_and_has_its_cpus(self):
        facts = shared.guest.run("uname -r; nproc").split()
        self.assertEqual(facts, [shared.guest.kernel.release, str(shared.guest.cpus)])

    def test_the_programs_ran_as_often_as_the_guest_program_says(self):
        progs = {prog.get("name"): prog.get("run_cnt", 0) for prog in shared.guest.json("bpftool -j prog show")}
        cpus = shared.guest.cpus
        exact = {"with_functions": 50, "never_run": 0, "write_records": 3, "run_exactly": 100 * cpus * (cpus + 1) // 2}
        for name, runs in {"on_sethostname": 7, "on_setdomain": 5}.items():
            exact[name] = runs if f"attached {name}" in shared.made else 0
        self.assertEqual({name: progs.get(name, 0) for name in exact}, exact)

    def test_the_maps_have_what_the_guest_program_wrote(self):
        scalars = shared.guest.json("bpftool -j map dump name t_scalar")
        self.assertEqual([entry["formatted"]["value"] for entry in scalars], [-1, 0, 1, 2147483647])
        bits = shared.guest.json("bpftool -j map dump name t_bits")[0]["formatted"]["value"]
        # As the compiler of the BPF object laid them out, which is not the guest's: bpftool prints the unsigned bits.
        self.assertEqual({name: int(str(bits[name]), 0) for name in ("one", "three", "crossing", "minus", "plus", "forty", "low", "tail")},
                         {"one": 1, "three": 5, "crossing": 0x1ABC, "minus": 32 - 9, "plus": 63, "forty": 0xA987654321,
                          "low": (1 << 20) - 300000, "tail": 2})

