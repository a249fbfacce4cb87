/* Maps that keep plain values in structures of their own. Part of mini_kernel.h, which says more. */

struct lpm_trie_node {
  u64 rcu;
  MINI_PTR(struct lpm_trie_node) child[2];
  u32 prefixlen;
  u32 flags;
  MINI_FLEXIBLE(u8, data);
};
struct lpm_trie {
  struct bpf_map map;
  MINI_PTR(struct lpm_trie_node) root;
  u64 n_entries;
  u64 max_prefixlen;
  u64 data_size;
};
struct bpf_queue_stack {
  struct bpf_map map;
  u32 lock;
  u32 head;
  u32 tail;
  u32 size;
  MINI_FLEXIBLE(char, elements);
};
struct bpf_bloom_filter {
  struct bpf_map map;
  u32 bitset_mask;
  u32 hash_seed;
  u32 nr_hash_funcs;
  MINI_FLEXIBLE(u64, bitset);
};
struct bpf_ringbuf {
  u64 mask;
  u8 overwrite_mode;
  u64 consumer_pos;
  u64 producer_pos;
  u64 pending_pos;
  u64 overwrite_pos;
  MINI_FLEXIBLE(char, data);
};
struct bpf_ringbuf_map {
  struct bpf_map map;
  MINI_PTR(struct bpf_ringbuf) rb;
};
struct stack_map_bucket {
  u64 fnode;
  u32 hash;
  u32 nr;
  MINI_FLEXIBLE(u64, data);
};
struct bpf_stack_map {
  struct bpf_map map;
  u32 n_buckets;
  MINI_FLEXIBLE(struct stack_map_bucket*, buckets);
};
struct vm_struct {
  MINI_PTR(void) addr;
  u64 size;
};
struct range_node {
  u64 something;
  struct rb_node rn_rbnode;
  u32 rn_start;
  u32 rn_last;
};
struct bpf_arena {
  struct bpf_map map;
  u64 user_vm_start;
  u64 user_vm_end;
  MINI_PTR(struct vm_struct) kern_vm;
  struct {
    struct {
      struct rb_root rb_root;
      MINI_PTR(struct rb_node) rb_leftmost;
    } it_root;
  } rt;
};
struct bucket_table {
  u32 size;
  u32 nest;
  u32 hash_rnd;
  MINI_PTR(struct bucket_table) future_tbl;
  MINI_FLEXIBLE(void*, buckets);
};
struct rhtab_elem {
  struct {
    MINI_PTR(void) next;
  } node;
  MINI_FLEXIBLE(u8, data);
};
struct bpf_rhtab {
  struct bpf_map map;
  struct {
    MINI_PTR(struct bucket_table) tbl;
    struct {
      u16 key_len;
      MINI_FUNCTION(hashfn);
    } p;
  } ht;
};
struct bpf_ksym {
  u64 start;
  u64 end;
  char name[128];
  struct {
    struct rb_node node[2];
  } tnode;
};
struct mod_kallsyms {
  MINI_PTR(void) symtab;
  u32 num_symtab;
  MINI_PTR(char) strtab;
};
struct module {
  char name[56];
  MINI_PTR(struct mod_kallsyms) kallsyms;
};
struct module_memory {
  u64 base;
  u32 size;
  struct {
    MINI_PTR(struct module) mod;
    struct {
      struct rb_node node[2];
    } node;
  } mtn;
};
struct latch_tree_root {
  struct {
    struct {
      u32 sequence;
    } seqcount;
  } seq;
  struct rb_root tree[2];
};

/* What the kernel keeps in values: until 6.1 (pointers only), and since. */
struct bpf_map_value_off_desc {
  u32 type;
  u32 offset;
  MINI_PTR(void) kptr_btf;
};
struct bpf_map_value_off {
  u32 nr_off;
  MINI_FLEXIBLE(struct bpf_map_value_off_desc, off);
};
struct btf_field {
  u32 type;
  u32 size;
  u32 offset;
  u32 flags;
};
struct btf_record {
  s32 refcount_off;
  u32 cnt;
  MINI_FLEXIBLE(struct btf_field, fields);
};

#ifndef __cplusplus
struct plain_maps_uses {
  struct bpf_map_value_off pointers;
  struct btf_record record;
  struct lpm_trie_node node;
  struct bpf_ringbuf records;
  struct stack_map_bucket stack;
  struct lpm_trie trie;
  struct bpf_queue_stack queue;
  struct bpf_bloom_filter bloom;
  struct bpf_ringbuf_map ring;
  struct bpf_stack_map stacks;
  struct range_node range;
  struct bpf_arena arena;
  struct bpf_rhtab rhash;
  struct bucket_table buckets;
  struct rhtab_elem element;
  struct bpf_ksym ksym;
  struct latch_tree_root ksyms;
  struct vm_struct area;
  struct module_memory module_memory;
  struct module module;
  struct mod_kallsyms module_symbols;
};
#endif
