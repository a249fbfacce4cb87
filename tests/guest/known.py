"""What programs/*.c put into the guest's maps, and which kernels have what: read from the sources, not from bpftool."""

import functools
import re

from harness import SERIES, shared

# Since when Linux has it; x86-64 and arm64 alike unless "arm64" says otherwise. Maps that are not here every kernel has.
MAPS_SINCE = {
    "k_task_store": (5, 11), "k_bloom": (5, 16), "k_user_ring": (6, 1), "k_cgrp_store": (6, 2), "k_arena": (6, 9), "k_insns": (6, 19),
    "k_rhash": (7, 1),
}
MAPS = [
    "k_queue", "k_stack", "k_ring", "k_lpm4", "k_lpm6", "k_lpm_odd", "k_outer_arr", "k_outer_hash", "k_outer_np", "k_perf", "k_cgroups",
    "k_progs", "k_stacks", "k_stacks_id", "k_devmap4", "k_devmap8", "k_devhash4", "k_devhash8", "k_cpumap4", "k_cpumap8", "k_sockmap4",
    "k_sockmap8", "k_sockhash4", "k_sockhash8", "k_reuse4", "k_reuse8", "k_xsk", "k_cg_store", "k_cg_store_id", "k_cg_pcpu", "k_sk_store",
    "k_inode_store", "k_struct_ops", "big_hash", "big_hash_np", "big_lru", "y_bits", "z_lock", "z_timer",
]
# Programs of programs/special.bpf.c that ran, and links. Programs that the kernel calls through a trampoline came to arm64 in 6.4.
RAN_SINCE = {"start_timer": (5, 15), "keep_task": (6, 3), "keep_current": (5, 19), "fill_list": (6, 3), "fill_tree": (6, 5),
             "start_work": (6, 10)}
LINKS_SINCE = {
    "at_raw_tp": (5, 8), "at_tp_btf": (5, 8), "at_iter_task": (5, 8), "at_iter_map": (5, 9), "at_cgroup_skb": (5, 7), "at_connect4": (5, 7),
    "at_flow": (5, 8), "at_sk_lookup": (5, 9), "at_xdp": (5, 9), "at_kprobe": (5, 15), "at_kretprobe": (5, 15), "at_uprobe": (5, 15),
    "at_tracepoint": (5, 15), "at_perf_event": (5, 15), "k_struct_ops": (6, 4), "at_netfilter": (6, 4), "at_tcx": (6, 6),
    "at_fentry": (5, 8), "at_fexit": (5, 8), "at_fmod_ret": (5, 8), "at_lsm": (5, 8), "at_freplace": (5, 10),
}
# Those that a configuration may leave out, and the function of the kernel that is there with them.
LINKS_WITH = {
    "at_kprobe_multi": "register_fprobe_ips", "at_kret_multi": "register_fprobe_ips", "at_uprobe_multi": "bpf_uprobe_multi_link_attach",
    "at_netkit": "netkit_link_attach", "at_sockmap": "sock_map_link_create", "at_trace_multi": "bpf_tracing_multi_attach",
}
ARM64_SINCE = {"at_fentry": (6, 4), "at_fexit": (6, 4), "at_fmod_ret": (6, 4), "at_lsm": (6, 4), "at_freplace": (6, 0),
               "k_struct_ops": (6, 4)}
# Since when no more: a pointer that holds nothing has got another tag.
UNTIL = {"keep_current": (6, 3)}
# With PREEMPT_RT the verifier refuses timers.
RT_LACKS = {"start_timer"}


@functools.lru_cache(maxsize=None)
def version():
    return tuple(int(word) for word in re.match(r"(\d+)\.(\d+)", shared.guest.run("uname -r")).groups())


def expected(since):
    """Those of a table that this guest's kernel must have."""
    arm64 = ARM64_SINCE if SERIES.startswith("arm64/") else {}
    lacking = RT_LACKS if SERIES.endswith("-rt") else set()
    return {name for name, first in since.items()
            if max(first, arm64.get(name, first)) <= version() < UNTIL.get(name, (1000,))} - lacking


@functools.lru_cache(maxsize=None)
def expected_links():
    """Those that this guest's kernel must have."""
    functions = set(shared.guest.run(f"grep -owE '{'|'.join(sorted(set(LINKS_WITH.values())))}' /proc/kallsyms || true").split())
    return expected(LINKS_SINCE) | {name for name, function in LINKS_WITH.items() if function in functions}


@functools.lru_cache(maxsize=None)
def facts():
    """The lines "fact NAME VALUE" of /run/guest/made; numbers as numbers."""
    lines = (line.split(" ", 2) for line in shared.made if line.startswith("fact "))
    return {name: int(value) if value.lstrip("-").isdigit() else value for _, name, value in lines}


def has(name):
    return f"map {name}" in shared.made


@functools.lru_cache(maxsize=None)
def map_ids():
    return {entry.get("name"): entry["id"] for entry in shared.map_list}


@functools.lru_cache(maxsize=None)
def prog_ids():
    return {entry.get("name"): entry["id"] for entry in shared.guest.json("bpftool -j prog show")}


def pattern(size, seed):
    """pattern() of programs/support.c."""
    return bytes((seed * 31 + i * 7) % 251 for i in range(size))


def le(number, size):
    """The bytes of a number in memory, as hex."""
    return number.to_bytes(size, "little").hex()


def number(text):
    """The number that bytes in hex are in memory."""
    return int.from_bytes(bytes.fromhex(text), "little")
