"""A quick look at whether the daemon's answers are the guest's: for tests whose subject is something else."""

import re
import struct


def build_id(guest):
    """The GNU build id that the guest's kernel says it has."""
    notes = bytes.fromhex(guest.run("od -An -v -tx1 /sys/kernel/notes").replace("\n", "").replace(" ", ""))
    while notes:
        name_size, size, kind = struct.unpack_from("<III", notes)
        name_end = 12 + (name_size + 3 & ~3)
        if kind == 3 and notes[12:12 + name_size] == b"GNU\0":
            return notes[name_end:name_end + size].hex()
        notes = notes[name_end + (size + 3 & ~3):]
    raise AssertionError("the kernel's notes have no build id")


def addresses_are_right(test, guest, kernel, text_base):
    """Where the kernel is, as far as the architecture's own view of it can tell."""
    test.assertEqual(int(kernel["text_base"], 16), text_base)
    if guest.kernel.arch != "amd64":
        return
    test.assertEqual(int(kernel["kaslr_slide"], 16), text_base - 0xFFFFFFFF81000000)
    code = re.search(r"^\s*([0-9a-f]+)-[0-9a-f]+ : Kernel code", guest.run("cat /proc/iomem"), re.M)
    # The kernel's own phys_base is what has to be added to (address - __START_KERNEL_map).
    test.assertEqual((int(kernel["phys_base"], 16) + text_base - 0xFFFFFFFF80000000) % (1 << 64), int(code[1], 16))


def answers_are_right(test, guest, daemon):
    """Compares identity, maps, programs and run queues with the guest's own view. The guest must run and be ready."""
    status = daemon.get("/status")
    kernel = status["kernel"]
    facts = guest.run("uname -r; grep -w _text /proc/kallsyms; cat /sys/devices/system/cpu/possible; nproc").split("\n")
    text_base = int(facts[1].split()[0], 16)
    test.assertEqual(kernel["release"], facts[0])
    test.assertEqual(kernel["arch"], guest.run("uname -m").strip())
    test.assertEqual(kernel["build_id"], build_id(guest))
    addresses_are_right(test, guest, kernel, text_base)
    test.assertEqual(kernel["possible_cpus"], guest.cpus)
    test.assertEqual(kernel["online_cpus"], int(facts[3]))
    test.assertEqual(kernel["boot_stage"], "running")
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
