// What the scheduler of sched_ext.bpf.c does; test_sched_ext.py has the same numbers.
#ifndef GUEST_SCHED_EXT_H
#define GUEST_SCHED_EXT_H

#define QUEUE_FIFO 0x55ULL
#define QUEUE_VTIME 0x77ULL
#define QUEUE_NEVER 0xdead0000beefULL
#define QUEUE_SLICE 7000000ULL
#define QUEUE_VTIME_STEP 1000000000000ULL  // scx-vtime-3 has three of them
#define QUEUE_TIMEOUT_MS 5000
#define WRONG_CPU 1

#endif
