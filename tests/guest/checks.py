"""A quick look at whether the daemon's answers are the guest's: for tests whose subject is something else."""

import re

import guest as guests


def build_id(path):
    """The GNU build id of an ELF file."""
    notes = guests.subprocess.run(["readelf", "-n", path], capture_output=True, text=True, check=False).stdout
    return re.search(r"Build ID: ([0-9a-f]+)", notes)[1]


def answers_are_right(test, guest, daemon):
    """Compares identity, maps, programs and run queues with the guest's own view. The guest must run and be ready."""
    status = daemon.get("/status")
    kernel = status["kernel"]
    facts = guest.run("uname -r; grep -w _text /proc/kallsyms; cat /sys/devices/system/cpu/possible; nproc").split("\n")
    text_base = int(facts[1].split()[0], 16)
    test.assertEqual(kernel["release"], facts[0])
    test.assertEqual(kernel["arch"], "x86_64")
    test.assertEqual(kernel["build_id"], build_id(guest.kernel.vmlinux))
    test.assertEqual(int(kernel["text_base"], 16), text_base)
    test.assertEqual(int(kernel["kaslr_slide"], 16), text_base - 0xFFFFFFFF81000000)
    test.assertEqual(kernel["possible_cpus"], guest.cpus)
    test.assertEqual(kernel["online_cpus"], int(facts[3]))
    test.assertEqual(kernel["boot_stage"], "running")
    code = re.search(r"^\s*([0-9a-f]+)-[0-9a-f]+ : Kernel code", guest.run("cat /proc/iomem"), re.M)
    # The kernel's own phys_base is what has to be added to (address - __START_KERNEL_map).
    test.assertEqual((int(kernel["phys_base"], 16) + text_base - 0xFFFFFFFF80000000) % (1 << 64), int(code[1], 16))
    test.assertEqual([(m["id"], m["name"]) for m in daemon.get("/maps")["maps"]],
                     [(m["id"], m.get("name", "")) for m in guest.json("bpftool -j map show")])
    test.assertEqual([entry["value"] for entry in daemon.get("/maps/t_scalar")["entries"]], [-1, 0, 1, 2147483647])
    test.assertEqual(sum(entry["value"] for entry in daemon.get("/maps/s_full")["entries"]), 4950)
    big = daemon.get("/maps/p_array_big")["entries"]
    for index in (0, 1, 1249, 2499):
        test.assertEqual(big[index]["value"], bytes(((index + 3) * 31 + i * 7) % 251 for i in range(1000)).hex())
    test.assertEqual([(p["id"], p["tag"]) for p in daemon.get("/progs")["progs"]],
                     [(p["id"], p["tag"]) for p in guest.json("bpftool -j prog show")])
    queues = daemon.get("/runqueues")["runqueues"]
    test.assertEqual([queue["cpu"] for queue in queues], list(range(guest.cpus)))
    for queue in queues:
        if queue["online"]:
            # Each online CPU has its busy task, whatever else runs there.
            test.assertGreaterEqual(queue["nr_running"], 1)
            test.assertGreater(queue["nr_switches"], 0)
