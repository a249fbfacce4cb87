// `guest scx hold`, `guest scx starve` and `guest scx waste`: loads the scheduler of sched_ext.bpf.c and gives it tasks, says "ready", and stays. When
// it is killed, the scheduler goes and so do the tasks.
//
// hold: every CPU has a task that never gives it up ("scx-hog-CPU"); behind it on CPU 0 waits "scx-local", and other queues are
// filled in the order of kWaiting, as far as the kernel lets a scheduler make queues. starve: "scx-starved" alone, in a queue from
// which nobody takes it, or "scx-kept", which is put into none. waste: "scx-alone" runs on CPU 0 from slice to slice, since there is
// nobody else; "scx-wrong" wakes up time and again, and the scheduler sends it to CPU 1, which must be offline. A line for each task goes to /run/scx: its pid and name.
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest.h"

#include "sched_ext.h"

#include "sched_ext.skel.h"
#include "sched_ext_plain.skel.h"

// Newer than the headers.
enum { kPolicyExt = 7, kStructOpsByLink = 1 << 13, kAttachStructOps = 44, kSleepable = 1 << 4 };

static const char *const kWaiting[] = {"scx-local", "scx-global-1", "scx-global-2", "scx-kept",    "scx-fifo-2",
                                       "scx-fifo-1", "scx-fifo-3",  "scx-vtime-3",  "scx-vtime-1", "scx-vtime-2"};
enum { kWithoutQueues = 4 };  // so many of them go nowhere else

static int scheduler_link;  // while it is open, the scheduler is there

static struct bpf_object *try_object(const void *bytes, size_t size, const char *name) {
  struct bpf_object *object = bpf_object__open_mem(bytes, size, NULL);
  if (!object) fail("open of the scheduler");
  bpf_program__set_flags(bpf_object__find_program_by_name(object, "queues_init"), kSleepable);
  struct bpf_map *map;
  bpf_object__for_each_map(map, object) {
    if (bpf_map__type(map) != BPF_MAP_TYPE_STRUCT_OPS) continue;
    bpf_map__set_map_flags(map, kStructOpsByLink);
    if (strcmp(bpf_map__name(map), name) != 0) bpf_map__set_autocreate(map, false);
  }
  if (bpf_object__load(object) == 0) return object;
  bpf_object__close(object);
  return NULL;
}

// False: the kernel does not let it make queues.
static bool load_scheduler(const char *name) {
  size_t size;
  libbpf_print_fn_t print = libbpf_set_print(NULL);
  const void *bytes = sched_ext_bpf__elf_bytes(&size);
  struct bpf_object *object = try_object(bytes, size, name);
  libbpf_set_print(print);
  bytes = sched_ext_plain_bpf__elf_bytes(&size);
  bool queues = object;
  if (!object) object = try_object(bytes, size, name);
  if (!object) fail("load of the scheduler");
  struct bpf_map *map = bpf_object__find_map_by_name(object, name);
  if (!bpf_map__attach_struct_ops(map)) fail("registration of the scheduler");
  union bpf_attr link;
  memset(&link, 0, sizeof(link));
  link.link_create.prog_fd = (u32)bpf_map__fd(map);
  link.link_create.attach_type = kAttachStructOps;
  scheduler_link = (int)syscall(SYS_bpf, BPF_LINK_CREATE, &link, sizeof(link));
  if (scheduler_link < 0) fail("link of the scheduler");
  return queues;
}

enum { kAnyCpu = -1 };

// A task of the scheduler's, woken only once it is one. One that may run on any CPU sleeps most of the time.
static void start(const char *name, int cpu, FILE *list) {
  int ends[2];
  if (pipe(ends)) fail("pipe");
  pid_t pid = fork();
  if (pid < 0) fail("fork of %s", name);
  if (pid == 0) {
    char byte;
    close(scheduler_link);  // or else the scheduler would stay for as long as it does not let this task end
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, name);
    if (cpu != kAnyCpu) on_cpu(cpu);
    close(ends[1]);
    if (read(ends[0], &byte, 1) != 1) _exit(1);
    for (volatile unsigned long turns = 0;; turns++)
      if (cpu == kAnyCpu) usleep(30000);
  }
  close(ends[0]);
  usleep(200000);  // it has its name, its CPU, and waits
  struct sched_param none = {0};
  if (sched_setscheduler(pid, kPolicyExt, &none)) fail("policy of %s", name);
  if (write(ends[1], "x", 1) != 1) fail("start of %s", name);
  fprintf(list, "%d %s\n", pid, name);
  fflush(list);
  usleep(200000);
}

int run_scheduler(const char *how) {
  bool hold = strcmp(how, "hold") == 0, waste = strcmp(how, "waste") == 0;
  bool queues = load_scheduler(hold || waste ? "queues" : "starving");
  FILE *list = fopen("/run/scx", "w");
  if (!list) fail("/run/scx");
  if (hold) {
    char name[32];
    for (int cpu = 0; cpu < sysconf(_SC_NPROCESSORS_ONLN); cpu++) {
      snprintf(name, sizeof(name), "scx-hog-%d", cpu);
      start(name, cpu, list);
    }
    for (size_t i = 0; i < (queues ? COUNT(kWaiting) : kWithoutQueues); i++) start(kWaiting[i], 0, list);
  } else if (waste) {
    start("scx-alone", 0, list);
    start("scx-wrong", kAnyCpu, list);
  } else {
    start(queues ? "scx-starved" : "scx-kept", 0, list);
  }
  printf("ready\n");
  fflush(stdout);
  for (;;) pause();
}
