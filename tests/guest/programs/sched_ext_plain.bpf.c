// Without queues of its own, for kernels whose verifier knows no way to make one: Debian's 7.2 has no scx_bpf_create_dsq_impl in
// its types.
#define WITHOUT_QUEUES
#include "sched_ext.bpf.c"
