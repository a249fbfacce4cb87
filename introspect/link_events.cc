// Links to perf events (bpf_perf_link of kernel/bpf/syscall.c: k(ret)probes, u(ret)probes,
// tracepoints and the events of a processor or the kernel) and bpf_uprobe_multi_link
// (kernel/trace/bpf_trace.c).
//
// Which of them a perf event is: bpf_get_perf_event_info() of kernel/trace/bpf_trace.c,
// trace_kprobe.c and trace_uprobe.c.
#include <algorithm>

#include "introspect/file_paths.h"
#include "introspect/link_readers.h"
#include "introspect/owners.h"

namespace guestscope {

namespace {

enum Perf : std::size_t { kPerfLink, kFile };
constexpr FieldNeed kPerfFields[] = {{"link"}, {"perf_file"}};
constexpr StructNeed kPerf = {"bpf_perf_link", kPerfFields};
constexpr FieldNeed kFileFields[] = {{"private_data"}};
constexpr StructNeed kFileNeed = {"file", kFileFields};
enum Event : std::size_t { kEventType, kConfig, kTraceEvent, kCookie };
constexpr FieldNeed kEventFields[] = {
    {"attr.type"}, {"attr.config"}, {"tp_event", kOptional}, {"bpf_cookie", kOptional}};
constexpr StructNeed kEvent = {"perf_event", kEventFields};
enum Call : std::size_t { kFlags, kName };
constexpr FieldNeed kCallFields[] = {{"flags"}, {"name"}};
constexpr StructNeed kCall = {"trace_event_call", kCallFields};
constexpr FieldNeed kTracepointFields[] = {{"name"}};
constexpr StructNeed kTracepoint = {"tracepoint", kTracepointFields};

enum ProbeEvent : std::size_t { kProbeCall, kFirstProbe };
constexpr FieldNeed kProbeEventFields[] = {{"call"}, {"probes.next"}};
constexpr StructNeed kProbeEvent = {"trace_probe_event", kProbeEventFields};
enum Kprobe : std::size_t {
  kKprobeLink,
  kAddress,
  kOffset,
  kReturnHandler,
  kSymbol,
  kMissed,
  kReturnMissed,
};
constexpr FieldNeed kKprobeFields[] = {
    {"tp.list"}, {"rp.kp.addr"},    {"rp.kp.offset"},         {"rp.handler"},
    {"symbol"},  {"rp.kp.nmissed"}, {"rp.nmissed", kOptional}};
constexpr StructNeed kKprobe = {"trace_kprobe", kKprobeFields};
enum Uprobe : std::size_t { kUprobeLink, kFileName, kFileOffset, kRefCounter, kReturnConsumer };
constexpr FieldNeed kUprobeFields[] = {
    {"tp.list"}, {"filename"}, {"offset"}, {"ref_ctr_offset", kOptional}, {"consumer.ret_handler"}};
constexpr StructNeed kUprobe = {"trace_uprobe", kUprobeFields};

/// "cpu-clock" of PERF_COUNT_SW_CPU_CLOCK; the number where the kernel's types name none.
FactValue named(const Btf& btf, std::string_view enumeration, std::string_view prefix,
                std::uint64_t value) {
  const auto names = EnumNames::of(btf, enumeration, prefix);
  const auto name = names ? names->name(value) : std::nullopt;
  if (!name) return value;
  std::string text(*name);
  std::ranges::replace(text, '_', '-');
  return text;
}

void add_plain_event(LinkGroup& group, std::size_t i, const StructView& event) {
  constexpr std::uint64_t kHardware = 0;  // PERF_TYPE_HARDWARE
  constexpr std::uint64_t kSoftware = 1;  // PERF_TYPE_SOFTWARE
  const Btf& btf = group.context().layouts.kernel().btf();
  const std::uint64_t type = event.u64(kEventType);
  const std::uint64_t config = event.u64(kConfig);
  group.add(i, "kind", "event");
  group.add(i, "event_type", named(btf, "perf_type_id", "PERF_TYPE_", type));
  if (type == kHardware)
    group.add(i, "event_config", named(btf, "perf_hw_id", "PERF_COUNT_HW_", config));
  else if (type == kSoftware)
    group.add(i, "event_config", named(btf, "perf_sw_ids", "PERF_COUNT_SW_", config));
  else
    group.add(i, "event_config", config);
}

/// Perf links on their way to what each of them is.
class PerfLinks {
 public:
  explicit PerfLinks(LinkGroup& group)
      : group_(group),
        calls_(group.size()),
        tracepoints_(group.size()),
        names_(group.size()),
        kprobes_(group.size()),
        uprobes_(group.size()) {}

  void read() {
    read_events();
    group_.follow(kCall, calls_, "kind",
                  [&](std::size_t i, const StructView& call) { sort(i, call); });
    group_.follow(kTracepoint, tracepoints_, "tracepoint",
                  [&](std::size_t i, const StructView& view) { names_[i] = view.pointer(0); });
    group_.texts(names_, "tracepoint");
    read_kprobes();
    read_uprobes();
  }

 private:
  using Pointers = std::vector<GuestVirt>;

  void read_events() {
    Pointers files(group_.size());
    group_.containers(
        kPerf, [&](std::size_t i, const StructView& link) { files[i] = link.pointer(kFile); });
    Pointers events(group_.size());
    group_.follow(kFileNeed, files, "kind",
                  [&](std::size_t i, const StructView& file) { events[i] = file.pointer(0); });
    group_.follow(kEvent, events, "kind", [&](std::size_t i, const StructView& event) {
      if (event.has(kCookie)) group_.add(i, "cookie", event.u64(kCookie));
      if (group_.link(i).prog_type == "perf_event")
        add_plain_event(group_, i, event);
      else
        calls_[i] = event.pointer(kTraceEvent);
    });
  }

  /// By the flags of the trace event, whose numbers differ between kernels.
  void sort(std::size_t i, const StructView& call) {
    const std::uint64_t flags = call.u64(kFlags);
    const bool is_static = has_flag(flags, "tracepoint");
    if (is_static || group_.link(i).prog_type == "tracepoint") {
      // A system call's event has a name of its own instead of a tracepoint.
      (is_static ? tracepoints_ : names_)[i] = call.pointer(kName);
      group_.add(i, "kind", "tracepoint");
    } else if (has_flag(flags, "kprobe")) {
      kprobes_[i] = calls_[i];
    } else if (has_flag(flags, "uprobe")) {
      uprobes_[i] = calls_[i];
    } else {
      group_.unreadable(i, "kind",
                        {.code = ErrorCode::kUnsupported,
                         .message = fmt::format("a trace event with flags {:#x}", flags)});
    }
  }

  bool has_flag(std::uint64_t flags, std::string_view name) {
    if (!flags_) {
      auto names = EnumNames::containing(group_.context().layouts.kernel().btf(),
                                         "TRACE_EVENT_FL_KPROBE", "TRACE_EVENT_FL_");
      flags_ = names ? *std::move(names) : EnumNames();
    }
    return (flags & flags_->value(name).value_or(0)) != 0;
  }

  /// The first probe of each event: the structure that embeds it.
  Pointers first_probes(const Pointers& calls) {
    Pointers probes(group_.size());
    const auto layout = group_.context().layouts.get(kProbeEvent);
    Pointers events = calls;
    if (layout)
      for (GuestVirt& event : events)
        if (!event.is_null())
          event = event.wrapping_add(-std::uint64_t{(**layout)[kProbeCall].offset});
    group_.follow(kProbeEvent, events, "kind", [&](std::size_t i, const StructView& event) {
      probes[i] = event.pointer(kFirstProbe);
    });
    return probes;
  }

  Pointers containers(const StructNeed& need, const Pointers& calls) {
    Pointers probes = first_probes(calls);
    const auto layout = group_.context().layouts.get(need);
    if (layout)
      for (GuestVirt& probe : probes)
        if (!probe.is_null()) probe = probe.wrapping_add(-std::uint64_t{(**layout)[0].offset});
    return probes;
  }

  void read_kprobes() {
    Pointers symbols(group_.size());
    group_.follow(kKprobe, containers(kKprobe, kprobes_), "kind",
                  [&](std::size_t i, const StructView& probe) {
                    const bool returns = !probe.pointer(kReturnHandler).is_null();
                    group_.add(i, "kind", returns ? "kretprobe" : "kprobe");
                    group_.add(i, "retprobe", returns);
                    group_.add(i, "addr", probe.pointer(kAddress));
                    group_.add(i, "offset", probe.u64(kOffset));
                    group_.add(i, "missed",
                               probe.u64(kMissed) + (returns ? probe.u64(kReturnMissed) : 0));
                    symbols[i] = probe.pointer(kSymbol);
                  });
    group_.texts(symbols, "func");
  }

  void read_uprobes() {
    Pointers files(group_.size());
    group_.follow(kUprobe, containers(kUprobe, uprobes_), "kind",
                  [&](std::size_t i, const StructView& probe) {
                    const bool returns = !probe.pointer(kReturnConsumer).is_null();
                    group_.add(i, "kind", returns ? "uretprobe" : "uprobe");
                    group_.add(i, "retprobe", returns);
                    group_.add(i, "offset", probe.u64(kFileOffset));
                    if (probe.u64(kRefCounter) != 0)
                      group_.add(i, "ref_ctr_offset", probe.u64(kRefCounter));
                    files[i] = probe.pointer(kFileName);
                  });
    group_.texts(files, "file");
  }

  LinkGroup& group_;
  Pointers calls_;
  Pointers tracepoints_;
  Pointers names_;
  Pointers kprobes_;
  Pointers uprobes_;
  std::optional<EnumNames> flags_;
};

void read_perf(LinkGroup& group) { PerfLinks(group).read(); }

enum UprobeMulti : std::size_t { kMultiLink, kMount, kDentry, kCount, kProbes, kTask, kMultiFlags };
constexpr FieldNeed kMultiFields[] = {{"link"},
                                      {"path.mnt"},
                                      {"path.dentry"},
                                      {"cnt"},
                                      {"uprobes"},
                                      {"task"},
                                      {"flags|link.flags", kOptional}};
constexpr StructNeed kUprobeMulti = {"bpf_uprobe_multi_link", kMultiFields};
enum MultiProbe : std::size_t { kProbeOffset, kProbeCounter, kProbeCookie };
constexpr FieldNeed kMultiProbeFields[] = {{"offset"}, {"ref_ctr_offset"}, {"cookie"}};
constexpr StructNeed kMultiProbe = {"bpf_uprobe", kMultiProbeFields};

/// Functions of all links, read together.
struct ProbeTable {
  std::size_t link = 0;
  GuestVirt first;
  std::uint64_t count = 0;
};

void add_probes(LinkGroup& group, std::span<const ProbeTable> tables) {
  const auto layout = group.context().layouts.get(kMultiProbe);
  if (!layout) {
    for (const ProbeTable& table : tables) group.unreadable(table.link, "funcs", layout.error());
    return;
  }
  StructBatch probes(**layout);
  for (const ProbeTable& table : tables)
    for (std::uint64_t n = 0; n < table.count; ++n)
      probes.add(table.first.wrapping_add(n * (*layout)->size()));
  probes.read(group.context().memory);
  std::size_t next = 0;
  for (const ProbeTable& table : tables) {
    FactList functions;
    for (std::uint64_t n = 0; n < table.count; ++n) {
      const auto probe = probes[next++];
      if (!probe) {
        group.problem(table.link, fmt::format("funcs[{}]", n), probe.error());
        functions.emplace_back();
        continue;
      }
      functions.emplace_back(Facts{{.name = "offset", .value = probe->u64(kProbeOffset)},
                                   {.name = "ref_ctr_offset", .value = probe->u64(kProbeCounter)},
                                   {.name = "cookie", .value = probe->u64(kProbeCookie)}});
    }
    group.add(table.link, "funcs", std::move(functions));
  }
}

void read_uprobe_multi(LinkGroup& group) {
  constexpr std::uint64_t kReturn = 1;  // BPF_F_UPROBE_MULTI_RETURN
  std::vector<FilePlace> files(group.size());
  std::vector<GuestVirt> tasks(group.size());
  std::vector<ProbeTable> tables;
  group.containers(kUprobeMulti, [&](std::size_t i, const StructView& link) {
    const std::uint64_t count = link.u64(kCount);
    files[i] = {.mount = link.pointer(kMount), .dentry = link.pointer(kDentry)};
    tasks[i] = link.pointer(kTask);
    group.add(i, "retprobe", (link.u64(kMultiFlags) & kReturn) != 0);
    group.add(i, "func_cnt", count);
    if (tasks[i].is_null()) group.add(i, "pid", std::uint64_t{0});
    if (!group.takes_functions(i, count)) return;
    tables.push_back({.link = i, .first = link.pointer(kProbes), .count = count});
  });
  ProgReadContext& context = group.context();
  const auto paths = read_paths(context.memory, context.layouts, files);
  for (std::size_t i = 0; i < paths.size(); ++i) {
    if (files[i].dentry.is_null()) continue;
    if (paths[i])
      group.add(i, "path", *paths[i]);
    else
      group.unreadable(i, "path", paths[i].error());
  }
  group.describe(tasks, describe_tasks(context.memory, context.layouts, tasks), "pid");
  add_probes(group, tables);
}

}  // namespace

std::span<const LinkReader> event_link_readers() {
  static constexpr LinkReader kReaders[] = {{.type = "perf_event", .read = read_perf},
                                            {.type = "uprobe_multi", .read = read_uprobe_multi}};
  return kReaders;
}

}  // namespace guestscope
