/* Maps that refer to other things of the kernel, and those things. Part of mini_kernel.h, which
 * says more. */

#ifdef __cplusplus
#define MINI_FUNCTION(name) ptr name
#define MINI_FLEXIBLE(type, name) u64 name##_start
#else
#define MINI_FUNCTION(name) void (*name)(void)
#define MINI_FLEXIBLE(type, name) \
  union {                         \
    u64 name##_start;             \
    type name[0];                 \
  }
#endif

struct hlist_node {
  MINI_PTR(struct hlist_node) next;
  MINI_PTR(void) pprev;
};
struct hlist_head {
  MINI_PTR(struct hlist_node) first;
};

/* --- owners --- */

struct super_block {
  u64 s_flags;
  u32 s_dev;
};
struct inode {
  u16 i_mode;
  MINI_PTR(struct super_block) i_sb;
  u64 i_ino;
};
struct kernfs_node {
  u32 count;
  MINI_PTR(struct kernfs_node) parent;
  MINI_PTR(const char) name;
  u64 id;
};
struct cgroup {
  u64 self;
  MINI_PTR(struct kernfs_node) kn;
  struct {
    u64 effective[4];
    struct list_head storages;
  } bpf;
};

/* --- sockets --- */

struct net {
  u64 user_ns;
  struct {
    u32 inum;
  } ns;
};
struct in6_addr {
  u8 bytes[16];
};
struct sock_common {
  u32 skc_daddr;
  u32 skc_rcv_saddr;
  u16 skc_dport;
  u16 skc_num;
  u16 skc_family;
  u8 skc_state;
  u32 skc_bound_dev_if;
  struct {
    MINI_PTR(struct net) net;
  } skc_net;
  struct in6_addr skc_v6_daddr;
  struct in6_addr skc_v6_rcv_saddr;
  struct mini_atomic skc_cookie;
};
struct sock {
  struct sock_common __sk_common;
  u16 sk_type;
  u16 sk_protocol;
  MINI_PTR(struct socket) sk_socket;
};
struct socket {
  u32 state;
  MINI_PTR(struct sock) sk;
};
struct socket_alloc {
  u64 before;
  struct socket socket;
  struct inode vfs_inode;
};
struct unix_address {
  u32 refcnt;
  s32 len;
  MINI_FLEXIBLE(u8, name);
};
struct unix_sock {
  struct sock sk;
  MINI_PTR(struct unix_address) addr;
};
struct bpf_stab {
  struct bpf_map map;
  MINI_PTR(MINI_PTR(struct sock)) sks;
};
struct bpf_shtab_bucket {
  u32 lock;
  struct hlist_head head;
};
struct bpf_shtab_elem {
  u64 rcu;
  MINI_PTR(struct sock) sk;
  struct hlist_node node;
  MINI_FLEXIBLE(u8, key);
};
struct bpf_shtab {
  struct bpf_map map;
  MINI_PTR(struct bpf_shtab_bucket) buckets;
  u32 buckets_num;
};
struct reuseport_array {
  struct bpf_map map;
  MINI_FLEXIBLE(struct sock*, ptrs);
};

/* --- devices, CPUs --- */

struct net_device {
  u64 flags;
  u32 ifindex;
  char name[16];
};
struct bpf_devmap_val {
  u32 ifindex;
  struct {
    u32 id;
  } bpf_prog;
};
struct bpf_dtab_netdev {
  MINI_PTR(struct net_device) dev;
  struct hlist_node index_hlist;
  u32 idx;
  struct bpf_devmap_val val;
};
struct bpf_dtab {
  struct bpf_map map;
  MINI_PTR(MINI_PTR(struct bpf_dtab_netdev)) netdev_map;
  MINI_PTR(struct hlist_head) dev_index_head;
  u32 items;
  u32 n_buckets;
};
struct bpf_cpumap_val {
  u32 qsize;
  struct {
    u32 id;
  } bpf_prog;
};
struct bpf_cpu_map_entry {
  u32 cpu;
  struct bpf_cpumap_val value;
};
struct bpf_cpu_map {
  struct bpf_map map;
  MINI_PTR(MINI_PTR(struct bpf_cpu_map_entry)) cpu_map;
};
struct xdp_sock {
  struct sock sk;
  MINI_PTR(struct net_device) dev;
  u16 queue_id;
  u8 zc;
};
struct xsk_map {
  struct bpf_map map;
  u32 lock;
  MINI_FLEXIBLE(struct xdp_sock*, xsk_map);
};

/* --- perf events --- */

#ifndef __cplusplus
enum perf_type_id { PERF_TYPE_HARDWARE, PERF_TYPE_SOFTWARE, PERF_TYPE_TRACEPOINT };
enum perf_sw_ids { PERF_COUNT_SW_CPU_CLOCK, PERF_COUNT_SW_BPF_OUTPUT = 10 };
enum bpf_attach_type { BPF_CGROUP_INET_INGRESS, BPF_CGROUP_INET_EGRESS };
enum bpf_struct_ops_state { BPF_STRUCT_OPS_STATE_INIT, BPF_STRUCT_OPS_STATE_INUSE };
#endif
struct perf_event {
  s32 cpu;
  struct {
    u32 type;
    u64 config;
  } attr;
  struct {
    MINI_PTR(struct task_struct) target;
  } hw;
  MINI_PTR(struct task_struct) owner;
};
struct bpf_event_entry {
  u64 file;
  MINI_PTR(struct perf_event) event;
};

/* --- storage --- */

struct bpf_local_storage_map_bucket {
  u32 lock;
  struct hlist_head list;
};
struct bpf_local_storage_map {
  struct bpf_map map;
  MINI_PTR(struct bpf_local_storage_map_bucket) buckets;
  u32 bucket_log;
};
struct bpf_local_storage {
  u64 cache[4];
  MINI_PTR(void) owner;
};
struct bpf_local_storage_elem {
  struct hlist_node snode;
  struct hlist_node map_node;
  MINI_PTR(struct bpf_local_storage) local_storage;
  u64 alignment[3];
  struct {
    MINI_PTR(struct bpf_local_storage_map) smap;
    MINI_FLEXIBLE(u8, data);
  } sdata;
};
struct bpf_storage_buffer {
  u64 rcu[2];
  MINI_FLEXIBLE(char, data);
};
struct bpf_cgroup_storage_key {
  u64 cgroup_inode_id;
  u32 attach_type;
};
struct bpf_cgroup_storage {
  MINI_PTR(struct bpf_storage_buffer) buf;
  struct bpf_cgroup_storage_key key;
  struct list_head list_map;
  struct list_head list_cg;
  struct rb_node node;
};
struct bpf_cgroup_storage_map {
  struct bpf_map map;
  struct rb_root root;
  struct list_head list;
};

/* --- tables of functions --- */

struct bpf_link {
  u64 refcnt;
  MINI_PTR(struct bpf_prog) prog;
};
struct bpf_struct_ops_mini_ops {
  struct {
    u32 refcnt;
    u32 state;
  } common;
  struct {
    u64 before;
    MINI_FUNCTION(first);
    u64 number;
    MINI_FUNCTION(second);
    MINI_FUNCTION(third);
  } data;
};

/* What is only pointed to is not in BTF. */
struct refs_maps_uses {
  struct super_block super_block;
  struct kernfs_node node;
  struct bpf_shtab_bucket shtab_bucket;
  struct xdp_sock xdp_sock;
  struct net_device device;
  struct bpf_dtab_netdev dtab_netdev;
  struct bpf_cpu_map_entry cpu_map_entry;
  struct perf_event perf_event;
  struct bpf_local_storage_map_bucket storage_bucket;
  struct bpf_local_storage local_storage;
  struct bpf_storage_buffer storage_buffer;
  struct bpf_link link;
  struct cgroup cgroup;
  struct net net;
  struct sock sock;
  struct socket_alloc socket_alloc;
  struct unix_address unix_address;
  struct unix_sock unix_sock;
  struct bpf_stab stab;
  struct bpf_shtab shtab;
  struct bpf_shtab_elem shtab_elem;
  struct reuseport_array reuseport;
  struct bpf_dtab dtab;
  struct bpf_cpu_map cpu_map;
  struct xsk_map xsk;
  struct bpf_event_entry event;
  struct bpf_local_storage_map storage;
  struct bpf_local_storage_elem storage_elem;
  struct bpf_cgroup_storage cgroup_storage;
  struct bpf_cgroup_storage_map cgroup_storage_map;
  struct bpf_struct_ops_mini_ops ops;
#ifndef __cplusplus
  enum perf_type_id perf_type;
  enum perf_sw_ids perf_software;
  enum bpf_attach_type attach_type;
  enum bpf_struct_ops_state state;
#endif
};
