#include "introspect/kernel_model.h"

#include <algorithm>

#include "introspect/limits.h"

namespace guestscope {

namespace {

constexpr FieldNeed kIdrFields[] = {{"idr_rt.xa_head"}, {"idr_base", kOptional}};
constexpr FieldNeed kNodeFields[] = {{"shift"}, {"slots"}};
constexpr FieldNeed kBtfFields[] = {{"data"},
                                    {"data_size"},
                                    {"id"},
                                    {"base_btf", kOptional},
                                    {"kernel_btf", kOptional},
                                    {"start_id", kOptional},
                                    {"start_str_off", kOptional},
                                    {"name", kOptional}};

constexpr FieldNeed kMapFields[] = {{"map_type"},
                                    {"key_size"},
                                    {"value_size"},
                                    {"max_entries"},
                                    {"map_flags"},
                                    {"id"},
                                    {"btf_key_type_id"},
                                    {"btf_value_type_id"},
                                    {"btf_vmlinux_value_type_id", kOptional},
                                    {"btf"},
                                    {"name"},
                                    {"frozen"},
                                    {"refcnt.counter|refcnt"},
                                    {"map_extra", kOptional}};
constexpr FieldNeed kArrayFields[] = {{"elem_size"}, {"value|pptrs|ptrs"}};
constexpr FieldNeed kHtabFields[] = {{"buckets"},
                                     {"n_buckets"},
                                     {"elems", kOptional},
                                     {"elem_size", kOptional},
                                     {"hashrnd", kOptional}};
constexpr FieldNeed kBucketFields[] = {{"head.first"}};
constexpr FieldNeed kElemFields[] = {{"hash_node.next"}, {"key"}, {"hash", kOptional}};
constexpr FieldNeed kStructOpsFields[] = {{"uvalue"},
                                          {"kvalue"},
                                          {"kvalue.common.state|kvalue.state"},
                                          {"kvalue.common.refcnt|kvalue.refcnt"},
                                          {"map.refcnt.counter|map.refcnt"},
                                          {"map.usercnt.counter|map.usercnt"},
                                          {"btf", kOptional}};

constexpr FieldNeed kProgFields[] = {{"type"},
                                     {"jited"},
                                     {"len"},
                                     {"jited_len"},
                                     {"tag|digest"},
                                     {"stats", kOptional},
                                     {"aux"},
                                     {"pages", kOptional},
                                     {"gpl_compatible", kOptional},
                                     {"sleepable", kOptional},
                                     {"expected_attach_type", kOptional},
                                     {"bpf_func", kOptional},
                                     {"insnsi", kOptional}};
constexpr FieldNeed kAuxFields[] = {{"id"},
                                    {"used_map_cnt"},
                                    {"used_maps"},
                                    {"load_time"},
                                    {"verified_insns", kOptional},
                                    {"user"},
                                    {"name"},
                                    {"btf"},
                                    {"func_cnt"},
                                    {"func"},
                                    {"refcnt.counter|refcnt"},
                                    {"stats", kOptional},
                                    {"sleepable", kOptional},
                                    {"attach_func_name", kOptional},
                                    {"attach_btf_id", kOptional},
                                    {"attach_btf", kOptional},
                                    {"dst_prog", kOptional},
                                    {"func_info", kOptional},
                                    {"func_info_cnt", kOptional},
                                    {"func_idx", kOptional},
                                    {"num_exentries", kOptional},
                                    {"offload", kOptional}};
constexpr FieldNeed kStatsFields[] = {{"cnt"}, {"nsecs"}, {"misses", kOptional}};
constexpr FieldNeed kUserFields[] = {{"uid.val|uid"}};
constexpr FieldNeed kMapIdFields[] = {{"id"}};
constexpr FieldNeed kStaticKeyFields[] = {{"key.enabled.counter|key.enabled"}};

constexpr FieldNeed kCanaryField[] = {{"stack_canary"}};

constexpr std::pair<const char*, const char*> kSchedClasses[] = {
    {"stop_sched_class", "stop"}, {"dl_sched_class", "dl"},   {"rt_sched_class", "rt"},
    {"fair_sched_class", "fair"}, {"ext_sched_class", "ext"}, {"idle_sched_class", "idle"},
};

std::optional<std::uint64_t> optional_symbol(const KernelFile& file, std::string_view name) {
  const auto symbol = file.symbols().find(name);
  return symbol ? std::optional(symbol->value) : std::nullopt;
}

/// Symbols and types are both there; else why not, and what to pass.
Result<void> require_pieces(const KernelFile& file) {
  if (file.missing_symbols()) return std::unexpected(*file.missing_symbols());
  if (file.missing_types()) return std::unexpected(*file.missing_types());
  return {};
}

Result<BootModel> bind_boot(const KernelFile& file) {
  if (file.missing_symbols()) return std::unexpected(*file.missing_symbols());
  const SymbolTable& symbols = file.symbols();
  const bool arm64 = file.machine() == Machine::kAarch64;
  BootModel boot;
  const auto stext = optional_symbol(file, "_stext");
  if (const auto text = optional_symbol(file, "_text")) {
    boot.text = *text;
  } else {
    GS_ASSIGN(boot.text, symbols.require("_stext"));
  }
  boot.end = optional_symbol(file, "_end");
  if (boot.end && *boot.end <= boot.text) boot.end.reset();
  GS_ASSIGN(boot.banner, symbols.require("linux_banner"));
  boot.notes_begin = optional_symbol(file, "__start_notes");
  const auto notes_end = optional_symbol(file, "__stop_notes");
  if (boot.notes_begin && notes_end && *notes_end > *boot.notes_begin)
    boot.notes_size = std::min<std::uint64_t>(*notes_end - *boot.notes_begin, kMaxNoteBytes);
  boot.image_begins = {boot.text};
  if (arm64) {
    GS_ASSIGN(boot.memstart, symbols.require("memstart_addr"));
    boot.image_voffset = optional_symbol(file, "kimage_voffset");
    if (stext && *stext > boot.text) boot.image_begins.push_back(*stext);
  } else {
    GS_ASSIGN(boot.root_table, symbols.require("init_top_pgt"));
    GS_ASSIGN(boot.phys_base, symbols.require("phys_base"));
    boot.page_offset = optional_symbol(file, "page_offset_base");
    boot.vmalloc_begin = optional_symbol(file, "vmalloc_base");
  }
  boot.vmcoreinfo = optional_symbol(file, "vmcoreinfo_data");
  boot.system_state = optional_symbol(file, "system_state");
  boot.jiffies = optional_symbol(file, "jiffies_64");
  if (!boot.jiffies) boot.jiffies = optional_symbol(file, "jiffies");
  if (auto names = EnumNames::of(file.btf(), "system_states", "SYSTEM_"))
    boot.system_states = std::move(*names);
  const auto init_task = optional_symbol(file, "init_task");
  const auto task = StructLayout::bind(file.btf(), "task_struct", kCanaryField);
  if (init_task && task) boot.boot_canary = *init_task + (*task)[0].offset;
  return boot;
}

Result<IdrModel> bind_idr(const Btf& btf) {
  IdrModel model;
  GS_ASSIGN(model.idr, StructLayout::bind(btf, "idr", kIdrFields));
  GS_ASSIGN(model.node, StructLayout::bind(btf, "xa_node", kNodeFields));
  return model;
}

Result<BtfObjectModel> bind_btf_object(const Btf& btf) {
  BtfObjectModel model;
  GS_ASSIGN(model.layout, StructLayout::bind(btf, "btf", kBtfFields));
  return model;
}

Result<MapModel> bind_maps(const KernelFile& file) {
  GS_CHECK(require_pieces(file));
  const Btf& btf = file.btf();
  MapModel model;
  GS_ASSIGN(model.idr_symbol, file.symbols().require("map_idr"));
  GS_ASSIGN(model.idr, bind_idr(btf));
  GS_ASSIGN(model.btf, bind_btf_object(btf));
  GS_ASSIGN(model.map, StructLayout::bind(btf, "bpf_map", kMapFields));
  GS_ASSIGN(model.array, StructLayout::bind(btf, "bpf_array", kArrayFields));
  GS_ASSIGN(model.htab, StructLayout::bind(btf, "bpf_htab", kHtabFields));
  // "struct bucket" is the name of other types too: the one meant is what bpf_htab points to.
  GS_ASSIGN(model.bucket,
            StructLayout::bind(btf, model.htab.pointee(MapModel::kBuckets), kBucketFields));
  GS_ASSIGN(model.elem, StructLayout::bind(btf, "htab_elem", kElemFields));
  if (auto struct_ops = StructLayout::bind(btf, "bpf_struct_ops_map", kStructOpsFields))
    model.struct_ops = std::move(*struct_ops);
  model.kernel_btf = optional_symbol(file, "btf_vmlinux");
  GS_ASSIGN(model.types, EnumNames::of(btf, "bpf_map_type", "BPF_MAP_TYPE_"));
  if (auto flags = EnumNames::containing(btf, "BPF_F_NO_PREALLOC", "BPF_F_"))
    model.flags = std::move(*flags);
  return model;
}

Result<ProgModel> bind_progs(const KernelFile& file) {
  GS_CHECK(require_pieces(file));
  const Btf& btf = file.btf();
  ProgModel model;
  GS_ASSIGN(model.idr_symbol, file.symbols().require("prog_idr"));
  model.stats_key = optional_symbol(file, "bpf_stats_enabled_key");
  GS_ASSIGN(model.idr, bind_idr(btf));
  GS_ASSIGN(model.btf, bind_btf_object(btf));
  GS_ASSIGN(model.prog, StructLayout::bind(btf, "bpf_prog", kProgFields));
  GS_ASSIGN(model.aux, StructLayout::bind(btf, "bpf_prog_aux", kAuxFields));
  // The counters moved from the auxiliary data to the program around 5.12.
  if (!model.prog[ProgModel::kStats].present && !model.aux[ProgModel::kAuxStats].present)
    return fail(ErrorCode::kUnsupported, "neither struct bpf_prog nor bpf_prog_aux has stats");
  GS_ASSIGN(model.stats, StructLayout::bind(btf, "bpf_prog_stats", kStatsFields));
  GS_ASSIGN(model.user, StructLayout::bind(btf, "user_struct", kUserFields));
  GS_ASSIGN(model.map, StructLayout::bind(btf, "bpf_map", kMapIdFields));
  GS_ASSIGN(model.key, StructLayout::bind(btf, "static_key_false", kStaticKeyFields));
  GS_ASSIGN(model.types, EnumNames::of(btf, "bpf_prog_type", "BPF_PROG_TYPE_"));
  if (auto names = EnumNames::of(btf, "bpf_attach_type", "BPF_"))
    model.attach_types = std::move(*names);
  return model;
}

Result<PerCpuModel> bind_per_cpu(const KernelFile& file) {
  GS_CHECK(require_pieces(file));
  const SymbolTable& symbols = file.symbols();
  PerCpuModel model;
  GS_ASSIGN(model.offsets, symbols.require("__per_cpu_offset"));
  GS_ASSIGN(model.possible, symbols.require("__cpu_possible_mask"));
  GS_ASSIGN(model.online, symbols.require("__cpu_online_mask"));
  const auto mask = file.btf().find(BtfKind::kStruct, "cpumask");
  if (!mask) return fail(ErrorCode::kUnsupported, "the kernel's types have no struct cpumask");
  GS_ASSIGN(const std::uint64_t mask_bytes, file.btf().size_of(*mask));
  model.mask_bytes = std::min<std::uint64_t>(mask_bytes, kMaxCpus / 8);
  model.unset_offset = optional_symbol(file, "__per_cpu_load");
  return model;
}

Result<RunQueueModel> bind_run_queues(const KernelFile& file) {
  GS_CHECK(require_pieces(file));
  RunQueueModel model;
  GS_ASSIGN(model.runqueues, file.symbols().require("runqueues"));
  for (const auto& [symbol, name] : kSchedClasses)
    if (const auto address = optional_symbol(file, symbol))
      model.classes.emplace_back(*address, name);
  return model;
}

}  // namespace

std::shared_ptr<const KernelModel> KernelModel::bind(std::shared_ptr<const KernelFile> file) {
  const KernelFile& from = *file;
  return std::make_shared<const KernelModel>(KernelModel{.file = std::move(file),
                                                         .boot = bind_boot(from),
                                                         .maps = bind_maps(from),
                                                         .progs = bind_progs(from),
                                                         .per_cpu = bind_per_cpu(from),
                                                         .run_queues = bind_run_queues(from)});
}

}  // namespace guestscope
