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


def cpu_list(text):
    """The numbers of a list as the kernel prints sets of CPUs: "0-3,7"."""
    ranges = [[int(end) for end in part.split("-")] for part in text.strip().split(",") if part]
    return [cpu for ends in ranges for cpu in range(ends[0], ends[-1] + 1)]


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
    possible = cpu_list(facts[2])
    test.assertEqual(kernel["possible_cpus"], len(possible))
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
    test.assertEqual([queue["cpu"] for queue in queues], possible)
    for queue in queues:
        if queue["online"]:
            # Each online CPU has its busy task, whatever else runs there.
            test.assertGreaterEqual(queue["nr_running"], 1)
            test.assertGreater(queue["nr_switches"], 0)


def offline_cpus_are_only_named(test, guest, daemon):
    """Every answer about CPUs has all possible ones; of those that are offline it says so, and no more."""
    possible, online = (cpu_list(guest.run(f"cat /sys/devices/system/cpu/{name}")) for name in ("possible", "online"))
    answers = {path: daemon.get(path) for path in ("/runqueues", "/stats", "/topology", "/scx", "/tasks", "/progs", "/maps/b_pcpu_hash?limit=1")}
    for path, answer in answers.items():
        test.assertNotIn("problems", answer, path)
        test.assertIs(answer["snapshot"]["consistent"], True, path)
    queues, cpus = answers["/runqueues"]["runqueues"], answers["/stats"]["cpus"]
    for entries in (queues, cpus):
        test.assertEqual([entry["cpu"] for entry in entries], possible)
        test.assertEqual([entry["cpu"] for entry in entries if entry["online"]], online)
    for entry in queues:
        test.assertEqual(set(entry) == {"cpu", "online", "address"}, not entry["online"], entry)
    for entry in cpus:
        test.assertEqual(set(entry) == {"cpu", "online"}, not entry["online"], entry)
    test.assertEqual(len({queue["address"] for queue in queues}), len(possible))
    topology = answers["/topology"]
    for name in ("possible", "online"):
        test.assertEqual(cpu_list(topology["cpus"][name]), {"possible": possible, "online": online}[name])
    test.assertEqual([cpu["cpu"] for cpu in topology["domains"] if cpu["domains"]], online if len(online) > 1 else [])
    test.assertEqual([task["cpu"] for task in answers["/tasks"]["tasks"] if task["pid"] == 0], online)
    if answers["/scx"]["supported"]:
        test.assertEqual([cpu["cpu"] for cpu in answers["/scx"]["cpus"]], possible)
    (entry,) = answers["/maps/b_pcpu_hash?limit=1"]["entries"]
    test.assertEqual([value["cpu"] for value in entry["values"]], possible)
