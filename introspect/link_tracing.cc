// Links to functions and tracepoints: bpf_tracing_link, bpf_raw_tp_link, bpf_iter_link
// (kernel/bpf/syscall.c, trampoline.c, bpf_iter.c) and bpf_kprobe_multi_link,
// bpf_tracing_multi_link (kernel/trace/bpf_trace.c).
#include <array>

#include "introspect/limits.h"
#include "introspect/link_readers.h"
#include "introspect/owners.h"
#include "introspect/text.h"
#include "introspect/text_batch.h"

namespace guestscope {

namespace {

enum Tracing : std::size_t {
  kTracingLink,
  kTrampoline,
  kTargetProg,
  kTracingAttach,
  kTracingCookie,
  kTracingProg
};
constexpr FieldNeed kTracingFields[] = {{"link.link|link"},
                                        {"trampoline"},
                                        {"tgt_prog"},
                                        {"attach_type|link.link.attach_type", kOptional},
                                        {"link.cookie|link.node.cookie", kOptional},
                                        {"link.link.prog|link.prog"}};
constexpr StructNeed kTracing = {"bpf_tracing_link", kTracingFields};
enum Trampoline : std::size_t { kKey };
constexpr FieldNeed kTrampolineFields[] = {{"key"}};
constexpr StructNeed kTrampolineNeed = {"bpf_trampoline", kTrampolineFields};
constexpr FieldNeed kProgFields[] = {{"aux"}};
constexpr StructNeed kProg = {"bpf_prog", kProgFields};
enum Aux : std::size_t { kAttachName, kAttachBtf, kTargetId };
constexpr FieldNeed kAuxFields[] = {{"attach_func_name"}, {"attach_btf", kOptional}, {"id"}};
constexpr StructNeed kAux = {"bpf_prog_aux", kAuxFields};

/// The name of what each program is attached to: text of the target's types, which are held by the
/// program itself or, when the target is a program, by the link.
void read_target_names(LinkGroup& group, std::span<const GuestVirt> progs,
                       std::span<const GuestVirt> targets) {
  std::vector<GuestVirt> details(group.size());
  group.follow(kProg, progs, "target_name",
               [&](std::size_t i, const StructView& prog) { details[i] = prog.pointer(0); });
  std::vector<GuestVirt> names(group.size());
  group.follow(kAux, details, "target_name", [&](std::size_t i, const StructView& aux) {
    const bool held =
        !aux.has(kAttachBtf) || !aux.pointer(kAttachBtf).is_null() || !targets[i].is_null();
    if (held) names[i] = aux.pointer(kAttachName);
  });
  const auto texts = read_strings(group.context().memory, names, kMaxFunctionNameBytes);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (names[i].is_null()) continue;
    if (!texts[i])
      group.unreadable(i, "target_name", texts[i].error());
    else if (is_text(*texts[i]))
      group.add(i, "target_name", *texts[i]);
  }
}

void read_tracing(LinkGroup& group) {
  std::vector<GuestVirt> trampolines(group.size());
  std::vector<GuestVirt> targets(group.size());
  std::vector<GuestVirt> progs(group.size());
  group.containers(kTracing, [&](std::size_t i, const StructView& link) {
    group.add(i, "prog_type", group.link(i).prog_type);
    if (link.has(kTracingAttach)) group.add_attach_type(i, link.u64(kTracingAttach));
    if (link.has(kTracingCookie)) group.add(i, "cookie", link.u64(kTracingCookie));
    trampolines[i] = link.pointer(kTrampoline);
    targets[i] = link.pointer(kTargetProg);
    progs[i] = link.pointer(kTracingProg);
  });
  // bpf_trampoline_compute_key(): a BTF object, or a program with the highest bit of the rest, and
  // the type in it.
  group.follow(kTrampolineNeed, trampolines, "target_btf_id",
               [&](std::size_t i, const StructView& trampoline) {
                 const std::uint64_t key = trampoline.u64(kKey);
                 group.add(i, "target_obj_id", key >> 32);
                 if (!targets[i].is_null()) group.add(i, "target_prog_id", key >> 32);
                 group.add(i, "target_btf_id", key & 0x7fffffff);
               });
  read_target_names(group, progs, targets);
}

enum RawTp : std::size_t { kRawTpLink, kEvent, kRawTpCookie };
constexpr FieldNeed kRawTpFields[] = {{"link"}, {"btp"}, {"cookie", kOptional}};
constexpr StructNeed kRawTp = {"bpf_raw_tp_link", kRawTpFields};
constexpr FieldNeed kEventFields[] = {{"tp"}};
constexpr StructNeed kEventNeed = {"bpf_raw_event_map", kEventFields};
constexpr FieldNeed kTracepointFields[] = {{"name"}};
constexpr StructNeed kTracepoint = {"tracepoint", kTracepointFields};

void read_raw_tracepoint(LinkGroup& group) {
  std::vector<GuestVirt> pointers(group.size());
  const auto take = [&](std::size_t field) {
    return [&pointers, field](std::size_t i, const StructView& view) {
      pointers[i] = view.pointer(field);
    };
  };
  group.containers(kRawTp, [&](std::size_t i, const StructView& link) {
    pointers[i] = link.pointer(kEvent);
    if (link.has(kRawTpCookie)) group.add(i, "cookie", link.u64(kRawTpCookie));
  });
  const auto hop = [&](const StructNeed& need) {
    const std::vector<GuestVirt> from =
        std::exchange(pointers, std::vector<GuestVirt>(group.size()));
    group.follow(need, from, "tp_name", take(0));
  };
  hop(kEventNeed);
  hop(kTracepoint);
  group.texts(pointers, "tp_name");
}

enum Iter : std::size_t {
  kIterLink,
  kTarget,
  kIterMap,
  kIterTaskType,
  kIterPid,
  kIterCgroup,
  kIterOrder
};
constexpr FieldNeed kIterFields[] = {{"link"},
                                     {"tinfo"},
                                     {"aux.map"},
                                     {"aux.task.type", kOptional},
                                     {"aux.task.pid", kOptional},
                                     {"aux.cgroup.start", kOptional},
                                     {"aux.cgroup.order", kOptional}};
constexpr StructNeed kIter = {"bpf_iter_link", kIterFields};
constexpr FieldNeed kTargetFields[] = {{"reg_info"}};
constexpr StructNeed kTargetInfo = {"bpf_iter_target_info", kTargetFields};
constexpr FieldNeed kRegFields[] = {{"target"}};
constexpr StructNeed kReg = {"bpf_iter_reg", kRegFields};

/// Which task or threads an iterator is limited to.
void add_task(LinkGroup& group, std::size_t i, const StructView& link) {
  constexpr std::uint64_t kThread = 1;   // BPF_TASK_ITER_TID
  constexpr std::uint64_t kProcess = 2;  // BPF_TASK_ITER_TGID
  if (link.u64(kIterTaskType) == kThread) group.add(i, "tid", link.u64(kIterPid));
  if (link.u64(kIterTaskType) == kProcess) group.add(i, "pid", link.u64(kIterPid));
}

void read_iter(LinkGroup& group) {
  constexpr std::array kOrders = {"unspec",           "self_only",    "descendants_pre",
                                  "descendants_post", "ancestors_up", "children"};
  std::vector<GuestVirt> targets(group.size());
  std::vector<GuestVirt> maps(group.size());
  std::vector<GuestVirt> cgroups(group.size());
  group.containers(kIter, [&](std::size_t i, const StructView& link) {
    targets[i] = link.pointer(kTarget);
    maps[i] = link.pointer(kIterMap);
    cgroups[i] = link.pointer(kIterCgroup);
    add_task(group, i, link);
    const std::uint64_t order = link.u64(kIterOrder);
    if (!cgroups[i].is_null() && order < kOrders.size()) group.add(i, "order", kOrders[order]);
  });
  std::vector<GuestVirt> infos(group.size());
  group.follow(kTargetInfo, targets, "target_name",
               [&](std::size_t i, const StructView& view) { infos[i] = view.pointer(0); });
  std::vector<GuestVirt> names(group.size());
  group.follow(kReg, infos, "target_name",
               [&](std::size_t i, const StructView& view) { names[i] = view.pointer(0); });
  group.texts(names, "target_name");
  group.map_ids(maps, "map_id");
  ProgReadContext& context = group.context();
  group.describe(cgroups,
                 describe_cgroups(context.memory, context.layouts, cgroups, group.problems()),
                 "cgroup_id");
}

enum KprobeMulti : std::size_t {
  kKprobeLink,
  kAddresses,
  kKprobeCookies,
  kKprobeCount,
  kKprobeFlags,
  kMissed
};
constexpr FieldNeed kKprobeFields[] = {{"link"},
                                       {"addrs"},
                                       {"cookies", kOptional},
                                       {"cnt"},
                                       {"flags|link.flags", kOptional},
                                       {"fp.nmissed", kOptional}};
constexpr StructNeed kKprobeMulti = {"bpf_kprobe_multi_link", kKprobeFields};

/// As many as one answer shows, with their names as far as those are sought.
void add_functions(LinkGroup& group, std::size_t i, ByteSpan addresses,
                   const Result<ByteSpan>& cookies, std::size_t& names_left) {
  FactList functions;
  for (std::size_t at = 0; at + 8 <= addresses.size(); at += 8) {
    const GuestVirt address(load_le(addresses.data() + at, 8));
    Facts function = {{.name = "addr", .value = address}};
    if (names_left > 0) {
      --names_left;
      if (std::string name = group.symbol_at(address); !name.empty())
        function.push_back({.name = "func", .value = std::move(name)});
    }
    if (cookies) function.push_back({.name = "cookie", .value = load_le(cookies->data() + at, 8)});
    functions.emplace_back(std::move(function));
  }
  group.add(i, "funcs", std::move(functions));
}

void read_kprobe_multi(LinkGroup& group) {
  constexpr std::uint64_t kReturn = 1;  // BPF_F_KPROBE_MULTI_RETURN
  ReadBatch tables;
  std::vector<std::size_t> owners;
  group.containers(kKprobeMulti, [&](std::size_t i, const StructView& link) {
    const std::uint64_t count = link.u64(kKprobeCount);
    group.add(i, "retprobe", (link.u64(kKprobeFlags) & kReturn) != 0);
    group.add(i, "func_cnt", count);
    if (link.has(kMissed)) group.add(i, "missed", link.u64(kMissed));
    if (!group.takes_functions(i, count)) return;
    tables.add(link.pointer(kAddresses), count * 8);
    tables.add(link.pointer(kKprobeCookies), count * 8);
    owners.push_back(i);
  });
  tables.read(group.context().memory);
  std::size_t names_left = kMaxLinkSymbols;
  for (std::size_t n = 0; n < owners.size(); ++n) {
    if (const auto addresses = tables[2 * n])
      add_functions(group, owners[n], *addresses, tables[2 * n + 1], names_left);
    else
      group.unreadable(owners[n], "funcs", addresses.error());
  }
}

enum TracingMulti : std::size_t { kMultiLink, kMultiCount, kMultiAttach };
constexpr FieldNeed kMultiFields[] = {{"link"}, {"nodes_cnt"}, {"link.attach_type", kOptional}};
constexpr StructNeed kTracingMulti = {"bpf_tracing_multi_link", kMultiFields};

void read_tracing_multi(LinkGroup& group) {
  group.containers(kTracingMulti, [&](std::size_t i, const StructView& link) {
    group.add(i, "prog_type", group.link(i).prog_type);
    if (link.has(kMultiAttach)) group.add_attach_type(i, link.u64(kMultiAttach));
    group.add(i, "func_cnt", link.u64(kMultiCount));
  });
}

}  // namespace

std::span<const LinkReader> tracing_link_readers() {
  static constexpr LinkReader kReaders[] = {{.type = "tracing", .read = read_tracing},
                                            {.type = "raw_tracepoint", .read = read_raw_tracepoint},
                                            {.type = "iter", .read = read_iter},
                                            {.type = "kprobe_multi", .read = read_kprobe_multi},
                                            {.type = "tracing_multi", .read = read_tracing_multi}};
  return kReaders;
}

}  // namespace guestscope
