// Links to network devices, namespaces, hooks, cgroups and maps: bpf_cgroup_link
// (kernel/bpf/cgroup.c), bpf_netns_link (net_namespace.c), bpf_xdp_link (net/core/dev.c), tcx_link
// (kernel/bpf/tcx.c), netkit_link (drivers/net/netkit.c), bpf_nf_link (net/netfilter/
// nf_bpf_link.c), sockmap_link (net/core/sock_map.c), bpf_struct_ops_link (bpf_struct_ops.c).
#include "introspect/link_readers.h"
#include "introspect/owners.h"

namespace guestscope {

namespace {

// What each structure has first, in this order.
enum Common : std::size_t { kLink, kPointer, kAttach, kExtra };

constexpr FieldNeed kCgroupFields[] = {{"link"}, {"cgroup"}, {"type|link.attach_type", kOptional}};
constexpr StructNeed kCgroup = {"bpf_cgroup_link", kCgroupFields};

void read_cgroup(LinkGroup& group) {
  std::vector<GuestVirt> cgroups(group.size());
  group.containers(kCgroup, [&](std::size_t i, const StructView& link) {
    cgroups[i] = link.pointer(kPointer);
    if (link.has(kAttach)) group.add_attach_type(i, link.u64(kAttach));
    // The cgroup has gone, and the link does nothing any more.
    if (cgroups[i].is_null()) group.add(i, "cgroup_id", std::uint64_t{0});
  });
  ProgReadContext& context = group.context();
  group.describe(cgroups,
                 describe_cgroups(context.memory, context.layouts, cgroups, group.problems()),
                 "cgroup_id");
}

constexpr FieldNeed kNetnsFields[] = {{"link"}, {"net"}, {"type|link.attach_type", kOptional}};
constexpr StructNeed kNetns = {"bpf_netns_link", kNetnsFields};
constexpr FieldNeed kNetFields[] = {{"ns.inum"}};
constexpr StructNeed kNet = {"net", kNetFields};

void read_netns(LinkGroup& group) {
  std::vector<GuestVirt> namespaces(group.size());
  group.containers(kNetns, [&](std::size_t i, const StructView& link) {
    namespaces[i] = link.pointer(kPointer);
    if (link.has(kAttach)) group.add_attach_type(i, link.u64(kAttach));
    if (namespaces[i].is_null()) group.add(i, "netns_ino", std::uint64_t{0});
  });
  group.follow(kNet, namespaces, "netns_ino", [&](std::size_t i, const StructView& net) {
    group.add(i, "netns_ino", net.u64(0));
  });
}

constexpr FieldNeed kXdpFields[] = {{"link"}, {"dev"}, {"link.attach_type", kOptional}};
constexpr StructNeed kXdp = {"bpf_xdp_link", kXdpFields};
constexpr FieldNeed kTcxFields[] = {{"link"}, {"dev"}, {"location|link.attach_type", kOptional}};
constexpr StructNeed kTcx = {"tcx_link", kTcxFields};
constexpr StructNeed kNetkit = {"netkit_link", kTcxFields};
enum Device : std::size_t { kIndex, kName };
constexpr FieldNeed kDeviceFields[] = {{"ifindex"}, {"name"}};
constexpr StructNeed kDevice = {"net_device", kDeviceFields};

void read_device(LinkGroup& group, const StructNeed& need, bool attach_type) {
  std::vector<GuestVirt> devices(group.size());
  group.containers(need, [&](std::size_t i, const StructView& link) {
    devices[i] = link.pointer(kPointer);
    if (attach_type && link.has(kAttach)) group.add_attach_type(i, link.u64(kAttach));
    // The device has gone.
    if (devices[i].is_null()) group.add(i, "ifindex", std::uint64_t{0});
  });
  group.follow(kDevice, devices, "ifindex", [&](std::size_t i, const StructView& device) {
    group.add(i, "ifindex", device.u64(kIndex));
    group.add(i, "devname", std::string(device.text(kName)));
  });
}

void read_xdp(LinkGroup& group) { read_device(group, kXdp, false); }
void read_tcx(LinkGroup& group) { read_device(group, kTcx, true); }
void read_netkit(LinkGroup& group) { read_device(group, kNetkit, true); }

enum Netfilter : std::size_t { kNfLink, kFamily, kHook, kPriority, kDefrag };
constexpr FieldNeed kNetfilterFields[] = {{"link"},
                                          {"hook_ops.pf"},
                                          {"hook_ops.hooknum"},
                                          {"hook_ops.priority"},
                                          {"defrag_hook", kOptional}};
constexpr StructNeed kNetfilter = {"bpf_nf_link", kNetfilterFields};

void read_netfilter(LinkGroup& group) {
  constexpr std::uint64_t kDefragment = 1;  // BPF_F_NETFILTER_IP_DEFRAG
  group.containers(kNetfilter, [&](std::size_t i, const StructView& link) {
    group.add(i, "pf", link.u64(kFamily));
    group.add(i, "hook", link.u64(kHook));
    group.add(i, "prio", link.s64(kPriority));
    group.add(i, "flags", link.pointer(kDefrag).is_null() ? std::uint64_t{0} : kDefragment);
  });
}

constexpr FieldNeed kSockmapFields[] = {
    {"link"}, {"map"}, {"attach_type|link.attach_type", kOptional}};
constexpr StructNeed kSockmap = {"sockmap_link", kSockmapFields};
constexpr FieldNeed kStructOpsFields[] = {{"link"}, {"map"}};
constexpr StructNeed kStructOps = {"bpf_struct_ops_link", kStructOpsFields};

void read_map(LinkGroup& group, const StructNeed& need) {
  std::vector<GuestVirt> maps(group.size());
  group.containers(need, [&](std::size_t i, const StructView& link) {
    maps[i] = link.pointer(kPointer);
    if (link.has(kAttach)) group.add_attach_type(i, link.u64(kAttach));
    // It has been detached.
    if (maps[i].is_null()) group.add(i, "map_id", std::uint64_t{0});
  });
  group.map_ids(maps, "map_id");
}

void read_sockmap(LinkGroup& group) { read_map(group, kSockmap); }
void read_struct_ops(LinkGroup& group) { read_map(group, kStructOps); }

}  // namespace

std::span<const LinkReader> network_link_readers() {
  static constexpr LinkReader kReaders[] = {
      {.type = "cgroup", .read = read_cgroup},   {.type = "netns", .read = read_netns},
      {.type = "xdp", .read = read_xdp},         {.type = "tcx", .read = read_tcx},
      {.type = "netkit", .read = read_netkit},   {.type = "netfilter", .read = read_netfilter},
      {.type = "sockmap", .read = read_sockmap}, {.type = "struct_ops", .read = read_struct_ops}};
  return kReaders;
}

}  // namespace guestscope
