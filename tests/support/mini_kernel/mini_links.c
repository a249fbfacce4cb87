/* The kernel in miniature with links. Other parts' structures of the same names give way. */
#define BPF_CGROUP_INET_INGRESS other_BPF_CGROUP_INET_INGRESS
#define PERF_COUNT_SW_CPU_CLOCK other_PERF_COUNT_SW_CPU_CLOCK
#define PERF_TYPE_HARDWARE other_PERF_TYPE_HARDWARE
#define PERF_TYPE_SOFTWARE other_PERF_TYPE_SOFTWARE
#define bpf_attach_type other_bpf_attach_type
#define bpf_link other_bpf_link
#define list_head other_list_head
#define net_device other_net_device
#define perf_event other_perf_event
#define perf_sw_ids other_perf_sw_ids
#define perf_type_id other_perf_type_id
#include "mini_kernel.c"
#undef BPF_CGROUP_INET_INGRESS
#undef PERF_COUNT_SW_CPU_CLOCK
#undef PERF_TYPE_HARDWARE
#undef PERF_TYPE_SOFTWARE
#undef bpf_attach_type
#undef bpf_link
#undef list_head
#undef net_device
#undef perf_event
#undef perf_sw_ids
#undef perf_type_id
#include "links.h"

struct idr link_idr = {{1}};
struct idr btf_idr = {{1}};
struct bpf_tracing_link use_tracing_link;
struct bpf_raw_tp_link use_raw_tp_link;
struct bpf_xdp_link use_xdp_link;
struct bpf_kprobe_multi_link use_kprobe_multi_link;
struct bpf_perf_link use_perf_link;
struct perf_event use_perf_event;
struct trace_probe_event use_probe_event;
struct trace_kprobe use_kprobe;
struct bpf_uprobe_multi_link use_uprobe_multi_link;
struct mount use_mount;
struct dentry use_dentry;
struct bpf_uprobe use_uprobe;
struct bpf_trampoline use_trampoline;
struct tracepoint use_tracepoint;
struct bpf_raw_event_map use_raw_event;
struct net_device use_device;
struct file use_file;
enum bpf_link_type use_link_type;
enum bpf_attach_type use_attach_type;
enum mini_event_flags use_event_flags;
enum perf_type_id use_perf_type;
enum perf_sw_ids use_perf_sw;
