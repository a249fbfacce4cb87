"""For drgn: every BPF map, one a line. How long drgn itself took to be ready is what its caller measures."""

from drgn.helpers.linux.bpf import bpf_map_for_each

for bpf_map in bpf_map_for_each(prog):  # noqa: F821 (drgn gives it)
    print("MAP", int(bpf_map.id), bpf_map.name.string_().decode(), int(bpf_map.key_size), int(bpf_map.value_size), int(bpf_map.max_entries))
