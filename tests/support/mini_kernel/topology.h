/* What the kernel knows of its CPUs and counts on them: scheduling domains, CPU times, pressure. Part of mini_kernel.h. */

#ifndef __cplusplus
enum mini_domain_flags { SD_BALANCE_NEWIDLE = 1, SD_BALANCE_EXEC = 2, SD_SHARE_LLC = 512 };
enum cpu_idle_type { __CPU_NOT_IDLE, CPU_IDLE, CPU_NEWLY_IDLE, CPU_MAX_IDLE_TYPES };
enum hk_type { HK_TYPE_DOMAIN_BOOT, HK_TYPE_DOMAIN, HK_TYPE_MANAGED_IRQ, HK_TYPE_KERNEL_NOISE, HK_TYPE_MAX, HK_TYPE_TICK = 3 };
enum cpu_usage_stat {
  CPUTIME_USER,
  CPUTIME_NICE,
  CPUTIME_SYSTEM,
  CPUTIME_SOFTIRQ,
  CPUTIME_IRQ,
  CPUTIME_IDLE,
  CPUTIME_IOWAIT,
  NR_STATS
};
enum psi_states { PSI_IO_SOME, PSI_IO_FULL, PSI_CPU_SOME, PSI_CPU_FULL, PSI_NONIDLE, NR_PSI_STATES };
#endif

struct sched_group_capacity {
  s32 ref;
  u64 capacity;
};
struct sched_group {
  MINI_PTR(struct sched_group) next;
  u32 group_weight;
  MINI_PTR(struct sched_group_capacity) sgc;
  union {
    u64 span_start; /* stands for cpumask[0] */
#ifndef __cplusplus
    u64 cpumask[0];
#endif
  };
};
struct sched_domain {
  MINI_PTR(struct sched_domain) parent;
  MINI_PTR(struct sched_group) groups;
  u64 min_interval;
  u32 flags;
  s32 level;
  u32 lb_count[3];
  u32 alb_count;
  MINI_PTR(char) name;
  u64 unused;
  /* The span follows, undeclared. */
};
struct mini_sched_domain {
  struct sched_domain domain;
  u64 span;
};
struct root_domain {
  s32 refcount;
  MINI_PTR(struct cpumask) span;
  MINI_PTR(struct cpumask) online;
  s32 overload;
};
struct housekeeping {
  MINI_PTR(struct cpumask) cpumasks[4];
  u64 flags;
};

struct kernel_stat {
  u64 irqs_sum;
  u32 softirqs[2];
};
struct kernel_cpustat {
  u64 cpustat[7];
};
struct tick_sched {
  u64 idle_entrytime;
  u64 idle_waketime;
  u64 idle_sleeptime;
  u64 iowait_sleeptime;
  u64 flags;
};
struct psi_group {
  u64 avg_last_update;
  u64 total[2][4];
  u64 avg[4][3];
};
struct static_key {
  struct mini_atomic32 enabled;
};

#ifndef __cplusplus
struct topology_uses {
  struct sched_domain domain;
  struct sched_group group;
  struct sched_group_capacity capacity;
  struct root_domain root;
  struct housekeeping housekeeping;
  struct kernel_stat stat;
  struct kernel_cpustat times;
  struct tick_sched tick;
  struct psi_group pressure;
  struct static_key key;
  enum cpu_idle_type idle;
  enum hk_type kind;
  enum cpu_usage_stat time;
  enum psi_states state;
  enum mini_domain_flags flag;
};
#endif
