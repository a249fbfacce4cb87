/* Lists, trees, and what the scheduler keeps in them. Included by mini_kernel.h, whose rules hold here as well. */
#pragma once

struct list_head {
  MINI_PTR(struct list_head) next;
  MINI_PTR(struct list_head) prev;
};
struct rb_node {
  u64 __rb_parent_color;
  MINI_PTR(struct rb_node) rb_right;
  MINI_PTR(struct rb_node) rb_left;
};
struct rb_root {
  MINI_PTR(struct rb_node) rb_node;
};
struct rb_root_cached {
  struct rb_root rb_root;
  MINI_PTR(struct rb_node) rb_leftmost;
};

struct load_weight {
  u64 weight;
  u32 inv_weight;
};
struct sched_entity {
  struct load_weight load;
  struct rb_node run_node;
  u64 deadline;
  u8 on_rq;
  u8 sched_delayed;
  u64 vruntime;
  u64 vlag;
  u64 slice;
  u32 depth;
  MINI_PTR(struct cfs_rq) cfs_rq;
  MINI_PTR(struct cfs_rq) my_q;
};
struct cfs_rq {
  struct load_weight load;
  u32 nr_running;
  u32 h_nr_running;
  u64 avg_vruntime;
  u64 avg_load;
  u64 min_vruntime;
  struct rb_root_cached tasks_timeline;
  MINI_PTR(struct sched_entity) curr;
  struct {
    u64 load_avg;
    u64 runnable_avg;
    u64 util_avg;
  } avg;
  MINI_PTR(struct task_group) tg;
};
struct autogroup {
  u32 kref;
  u64 id;
};
struct task_group {
  struct {
    MINI_PTR(struct cgroup) cgroup;
  } css;
  u64 shares;
  MINI_PTR(struct autogroup) autogroup;
};

struct sched_rt_entity {
  struct list_head run_list;
  u32 time_slice;
  MINI_PTR(struct rt_rq) my_q;
};
struct rt_rq {
  u32 rt_nr_running;
  struct {
    u64 bitmap[2];
    struct list_head queue[100];
  } active;
  u64 rt_time;
  MINI_PTR(struct task_group) tg;
};

struct sched_dl_entity {
  struct rb_node rb_node;
  u64 dl_runtime;
  u64 dl_deadline;
  u64 dl_period;
  u64 runtime;
  u64 deadline;
  u32 flags;
  u32 dl_throttled : 1;
  u32 dl_yielded : 1;
  u32 dl_server : 1;
};
struct dl_rq {
  struct rb_root_cached root;
  u64 running_bw;
};

struct cpuidle_state {
  char name[16];
  u32 flags;
};
struct sched_uses {
  struct autogroup autogroup;
  struct task_group group;
  struct cpuidle_state idle_state;
};
