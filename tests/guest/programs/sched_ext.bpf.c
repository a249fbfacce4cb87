// A scheduler that leaves tasks where the tests can find them: it goes by the fifth letter of a task's name and takes nothing
// out of the queues that it has made, unless it is told to. See sched_ext.c.
#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "types.h"

#include "sched_ext.h"

// As far as they are used; members are found by their names.
struct task_struct {
  int pid;
  char comm[16];
} __attribute__((preserve_access_index));
struct sched_ext_ops {
  s32 (*select_cpu)(struct task_struct *task, s32 previous, u64 flags);
  void (*enqueue)(struct task_struct *task, u64 flags);
  void (*dispatch)(s32 cpu, struct task_struct *previous);
  s32 (*init)(void);
  u64 flags;
  u32 timeout_ms;
  char name[128];
};

// Numbers of include/linux/sched/ext.h, which are part of what schedulers are built against.
#define DSQ_GLOBAL 0x8000000000000001ULL
#define DSQ_LOCAL 0x8000000000000002ULL
#define SLICE_INFINITE (~0ULL)
#define SWITCH_PARTIAL 8

void scx_bpf_dsq_insert(struct task_struct *task, u64 queue, u64 slice, u64 flags) __ksym;
void scx_bpf_dsq_insert_vtime(struct task_struct *task, u64 queue, u64 slice, u64 vtime, u64 flags) __ksym;
bool scx_bpf_dsq_move_to_local(u64 queue) __ksym;
#ifndef WITHOUT_QUEUES
s32 scx_bpf_create_dsq(u64 queue, s32 node) __ksym;
#endif

bool release;  // take tasks out of the queues

// Where the task was: none is moved, and none goes past enqueue() because a CPU is idle. But "scx-wrong" is sent to a CPU that is
// offline.
SEC("struct_ops")
s32 queues_select_cpu(u64 *context) {
  struct task_struct *task = (void *)context[0];
  return task->comm[4] == 'w' ? WRONG_CPU : (s32)context[1];
}

SEC("struct_ops")
void queues_enqueue(u64 *context) {
  struct task_struct *task = (void *)context[0];
  u64 flags = context[1];
  switch (task->comm[4]) {
#ifndef WITHOUT_QUEUES
    case 'f': scx_bpf_dsq_insert(task, QUEUE_FIFO, QUEUE_SLICE, flags); break;
    case 'v': scx_bpf_dsq_insert_vtime(task, QUEUE_VTIME, QUEUE_SLICE, (u64)(task->comm[10] - '0') * QUEUE_VTIME_STEP, flags); break;
    case 's': scx_bpf_dsq_insert(task, QUEUE_NEVER, QUEUE_SLICE, flags); break;
#endif
    case 'g': scx_bpf_dsq_insert(task, DSQ_GLOBAL, QUEUE_SLICE, flags); break;
    case 'k': break;  // kept: the kernel waits for the scheduler to say where it goes
    case 'h': scx_bpf_dsq_insert(task, DSQ_LOCAL, SLICE_INFINITE, flags); break;
    default: scx_bpf_dsq_insert(task, DSQ_LOCAL, QUEUE_SLICE, flags);
  }
}

SEC("struct_ops")
void queues_dispatch(u64 *context) {
  (void)context;
#ifndef WITHOUT_QUEUES
  if (release && !scx_bpf_dsq_move_to_local(QUEUE_FIFO)) scx_bpf_dsq_move_to_local(QUEUE_VTIME);
#endif
}

SEC("struct_ops")
s32 queues_init(u64 *context) {
  (void)context;
  s32 error = 0;
#ifndef WITHOUT_QUEUES
  error = scx_bpf_create_dsq(QUEUE_FIFO, -1);
  if (!error) error = scx_bpf_create_dsq(QUEUE_VTIME, -1);
  if (!error) error = scx_bpf_create_dsq(QUEUE_NEVER, -1);
#endif
  return error;
}

SEC(".struct_ops")
struct sched_ext_ops queues = {
    .select_cpu = (void *)queues_select_cpu,
    .enqueue = (void *)queues_enqueue,
    .dispatch = (void *)queues_dispatch,
    .init = (void *)queues_init,
    .flags = SWITCH_PARTIAL,
    .timeout_ms = 30000,
    .name = "queues",
};

// The same that ends soon after it has left a task alone.
SEC(".struct_ops")
struct sched_ext_ops starving = {
    .select_cpu = (void *)queues_select_cpu,
    .enqueue = (void *)queues_enqueue,
    .dispatch = (void *)queues_dispatch,
    .init = (void *)queues_init,
    .flags = SWITCH_PARTIAL,
    .timeout_ms = QUEUE_TIMEOUT_MS,
    .name = "starving",
};

char LICENSE[] SEC("license") = "GPL";
