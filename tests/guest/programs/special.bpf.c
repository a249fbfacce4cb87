// Values in which the kernel itself keeps something: locks, timers, its own objects, lists and trees. A kernel that does not know
// one of these takes it for a plain structure. Reading an element by system call gives zeros for what the kernel keeps.
#include <linux/bpf.h>
#include <linux/version.h>

#include <bpf/bpf_helpers.h>

#include "types.h"

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
struct bpf_list_head {
  u64 opaque[2];
} __attribute__((aligned(8)));
struct bpf_list_node {
  u64 opaque[3];
} __attribute__((aligned(8)));
#endif
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
struct bpf_rb_root {
  u64 opaque[2];
} __attribute__((aligned(8)));
struct bpf_rb_node {
  u64 opaque[4];
} __attribute__((aligned(8)));
#endif
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 10, 0)
struct bpf_wq {
  u64 opaque[2];
} __attribute__((aligned(8)));
#endif

#define KEPT(type) type __attribute__((btf_type_tag("kptr"))) *
#define CONTAINS(node) __attribute__((btf_decl_tag("contains:" node)))
#define SPECIAL(name_, type_, value_)   \
  struct {                              \
    __uint(type, BPF_MAP_TYPE_##type_); \
    __uint(max_entries, 4);             \
    __type(key, u32);                   \
    __type(value, value_);              \
  } name_ SEC(".maps")

struct locked {
  u64 before;
  struct bpf_spin_lock lock;
  u32 after;
};

struct timed {
  u32 before;
  struct bpf_timer timer;
  u16 after;
};

struct worked {
  u32 before;
  struct bpf_wq work;
  u32 after;
};

// As far as it is used.
struct task_struct {
  int pid;
} __attribute__((preserve_access_index));

struct keeping {
  u64 before;
  KEPT(struct task_struct) task;
  u64 after;
};

struct listed {
  u64 number;
  struct bpf_list_node node;
};

struct list {
  u32 before;
  struct bpf_spin_lock lock;
  struct bpf_list_head head CONTAINS("listed:node");
  u32 after;
};

struct treed {
  u64 number;
  struct bpf_rb_node node;
};

struct tree {
  struct bpf_rb_root root CONTAINS("treed:node");
  struct bpf_spin_lock lock;
  u32 after;
};

SPECIAL(z_lock, HASH, struct locked);
SPECIAL(z_lock_array, ARRAY, struct locked);
SPECIAL(z_timer, ARRAY, struct timed);
SPECIAL(z_timer_hash, HASH, struct timed);
SPECIAL(z_work, ARRAY, struct worked);
SPECIAL(z_kept, HASH, struct keeping);
SPECIAL(z_list, ARRAY, struct list);
SPECIAL(z_tree, ARRAY, struct tree);

extern struct task_struct *bpf_task_from_pid(int pid) __ksym __weak;
extern void bpf_task_release(struct task_struct *task) __ksym __weak;
extern void *bpf_obj_new_impl(u64 type, void *unused) __ksym __weak;
extern int bpf_list_push_front_impl(struct bpf_list_head *head, struct bpf_list_node *node, void *unused, u64 offset) __ksym __weak;
extern int bpf_rbtree_add_impl(struct bpf_rb_root *root, struct bpf_rb_node *node,
                               _Bool(less)(struct bpf_rb_node *, const struct bpf_rb_node *), void *unused, u64 offset) __ksym __weak;
extern int bpf_wq_init(struct bpf_wq *work, void *map, unsigned int flags) __ksym __weak;

#define TYPE_OF(type) __builtin_btf_type_id(*(type *)0, 0)

static int at_last(void *map, u32 *key, struct timed *value) {
  (void)map, (void)key;
  value->after++;
  return 0;
}

// Armed for a time that does not come.
SEC("tc")
int start_timer(void *context) {
  (void)context;
  u32 key = 1;
  struct timed *value = bpf_map_lookup_elem(&z_timer, &key);
  if (!value || bpf_timer_init(&value->timer, &z_timer, 7 /* CLOCK_BOOTTIME */) || bpf_timer_set_callback(&value->timer, at_last)) return 1;
  return bpf_timer_start(&value->timer, 1ULL << 60, 0) != 0;
}

SEC("tc")
int start_work(void *context) {
  (void)context;
  u32 key = 1;
  struct worked *value = bpf_map_lookup_elem(&z_work, &key);
  return !value || bpf_wq_init(&value->work, &z_work, 0);
}

// Keeps the first task of all.
SEC("tc")
int keep_task(void *context) {
  (void)context;
  u32 key = 1;
  struct keeping *value = bpf_map_lookup_elem(&z_kept, &key);
  struct task_struct *task = value ? bpf_task_from_pid(1) : 0;
  if (!task) return 1;
  task = bpf_kptr_xchg(&value->task, task);
  if (task) bpf_task_release(task);
  return 0;
}

// The same where such a pointer was one that holds nothing (Linux 5.19 to 6.1): what it points to need not live.
SEC("tc")
int keep_current(void *context) {
  (void)context;
  u32 key = 1;
  struct keeping *value = bpf_map_lookup_elem(&z_kept, &key);
  if (!value) return 1;
  value->task = bpf_get_current_task_btf();
  return 0;
}

SEC("tc")
int fill_list(void *context) {
  (void)context;
  u32 key = 1;
  struct list *value = bpf_map_lookup_elem(&z_list, &key);
  struct listed *added = value ? bpf_obj_new_impl(TYPE_OF(struct listed), 0) : 0;
  if (!added) return 1;
  added->number = 4711;
  bpf_spin_lock(&value->lock);
  bpf_list_push_front_impl(&value->head, &added->node, 0, 0);
  bpf_spin_unlock(&value->lock);
  return 0;
}

static _Bool less(struct bpf_rb_node *one, const struct bpf_rb_node *other) {
  const struct treed *left = (const void *)((const char *)one - __builtin_offsetof(struct treed, node));
  const struct treed *right = (const void *)((const char *)other - __builtin_offsetof(struct treed, node));
  return left->number < right->number;
}

SEC("tc")
int fill_tree(void *context) {
  (void)context;
  u32 key = 1;
  struct tree *value = bpf_map_lookup_elem(&z_tree, &key);
  struct treed *added = value ? bpf_obj_new_impl(TYPE_OF(struct treed), 0) : 0;
  if (!added) return 1;
  added->number = 4712;
  bpf_spin_lock(&value->lock);
  bpf_rbtree_add_impl(&value->root, &added->node, less, 0, 0);
  bpf_spin_unlock(&value->lock);
  return 0;
}

char LICENSE[] SEC("license") = "GPL";
