"""For drgn: the run queue of every CPU, one a line."""

from drgn.helpers.linux.cpumask import for_each_possible_cpu
from drgn.helpers.linux.percpu import per_cpu

for cpu in for_each_possible_cpu(prog):  # noqa: F821 (drgn gives it)
    queue = per_cpu(prog["runqueues"], cpu)  # noqa: F821
    current = queue.curr
    print("RQ", cpu, int(queue.nr_running), int(queue.nr_switches), int(queue.clock), int(current.pid), current.comm.string_().decode())
