#include "introspect/prog_reader.h"

#include <algorithm>

#include "introspect/limits.h"

namespace guestscope {

namespace {

using Prog = ProgModel::Prog;
using Aux = ProgModel::Aux;

constexpr std::uint64_t kInsnBytes = 8;      // sizeof(struct bpf_insn)
constexpr std::uint64_t kFuncInfoBytes = 8;  // sizeof(struct bpf_func_info)

std::string hex_tag(ByteSpan tag) {
  std::string text;
  for (const std::byte byte : tag) text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  return text;
}

}  // namespace

ProgReader::ProgReader(ProgReadContext& context, std::span<const IdrEntry> known)
    : memory_(context.memory),
      model_(context.model),
      layouts_(context.layouts),
      per_cpu_(context.per_cpu),
      symbol_(find_symbol_field(context.layouts)),
      page_size_(context.accessor.location.page_size),
      cpus_(context.per_cpu.possible_cpus()),
      has_run_(cpus_.size(), true) {
  for (const IdrEntry& entry : known) ids_.emplace(entry.pointer.value(), entry.id);
}

/// Each step is one exchange for all programs of a part, which for a real guest is all there are.
ProgList ProgReader::read(std::span<const IdrEntry> entries, Problems problems) {
  list_.problems = std::move(problems);
  const std::size_t part =
      std::clamp<std::size_t>(kStatsPerStep / std::max<std::size_t>(1, cpus_.size()), 1, kProgStep);
  for (; !entries.empty(); entries = entries.subspan(std::min(part, entries.size())))
    read_part(entries.first(std::min(part, entries.size())));
  return std::move(list_);
}

void ProgReader::read_part(std::span<const IdrEntry> entries) {
  progs_.clear();
  read_programs(entries);
  read_aux();
  read_tables();
  read_pointees();
  read_function_names();
  read_long_names();
  for (Pending& prog : progs_) list_.progs.push_back(std::move(prog.info));
}

void ProgReader::problem(const Pending& prog, std::string_view field, Error error) {
  list_.problems.add(fmt::format("progs with id {}.{}", prog.info.id, field), std::move(error));
}

void ProgReader::read_programs(std::span<const IdrEntry> entries) {
  StructBatch batch(model_.prog);
  for (const IdrEntry& entry : entries) batch.add(entry.pointer);
  ReadBatch masks;
  if (const auto booted = layouts_.kernel().symbols().find("cpus_booted_once_mask"))
    masks.add(per_cpu_.location.at(booted->value), (per_cpu_.offsets.size() + 63) / 64 * 8);
  read_together(memory_, batch, masks);
  if (masks.size() != 0) take_cpus(masks[0]);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    Pending prog;
    prog.info.id = entries[i].id;
    prog.info.address = entries[i].pointer;
    if (const auto view = batch[i]) {
      take_program(*view, prog);
      progs_.push_back(std::move(prog));
    } else {
      problem(prog, "address", view.error());
    }
  }
}

/// A guest may have hundreds of CPUs that have never been online: no program has run there.
void ProgReader::take_cpus(const Result<ByteSpan>& booted_once) {
  if (!booted_once) return;
  const auto booted = cpus_in_mask(*booted_once);
  for (std::size_t i = 0; i < cpus_.size(); ++i)
    has_run_[i] = std::ranges::binary_search(booted, cpus_[i]);
}

void ProgReader::take_program(const StructView& view, Pending& prog) const {
  ProgInfo& info = prog.info;
  info.type = model_.types.name_or_number(view.u64(Prog::kType), "type");
  info.tag = hex_tag(
      view.bytes(Prog::kTag).first(std::min<std::size_t>(8, view.bytes(Prog::kTag).size())));
  info.jited = view.u64(Prog::kJited) != 0;
  info.xlated_bytes = view.u64(Prog::kLen) * kInsnBytes;
  info.jited_bytes = view.u64(Prog::kJitedLen);
  if (view.has(Prog::kPages)) info.memlock_bytes = view.u64(Prog::kPages) * page_size_;
  if (view.has(Prog::kGpl)) info.gpl_compatible = view.u64(Prog::kGpl) != 0;
  if (view.has(Prog::kProgSleepable)) info.sleepable = view.u64(Prog::kProgSleepable) != 0;
  // 0 is the first type of cgroup_skb and what all types of program have that know no such thing;
  // of struct_ops it is the index of a member.
  const std::uint64_t attach = view.u64(Prog::kAttachType);
  if (view.has(Prog::kAttachType) && info.type != "struct_ops" &&
      (attach != 0 || info.type == "cgroup_skb"))
    info.attach.type = model_.attach_types.name_or_number(attach, "attach_type");
  prog.aux = view.pointer(Prog::kAux);
  prog.stats = view.pointer(Prog::kStats);
  prog.code = view.pointer(Prog::kCode);
}

/// Together with the counters, where the program itself points to them.
void ProgReader::read_aux() {
  StructBatch batch(model_.aux);
  StructBatch stats(model_.stats);
  const bool counters = model_.prog[Prog::kStats].present;
  for (const Pending& prog : progs_) batch.add(prog.aux);
  if (counters) add_statistics(stats);
  read_together(memory_, batch, stats);
  if (counters) take_statistics(stats);
  std::vector<Pending> live;
  for (std::size_t i = 0; i < progs_.size(); ++i) {
    const auto view = batch[i];
    if (!view)
      problem(progs_[i], "aux", view.error());
    else if (view->u64(Aux::kRefcount) == 0)
      continue;  // about to be freed
    else
      take_aux(progs_[i], *view);
    live.push_back(std::move(progs_[i]));
  }
  progs_ = std::move(live);
}

void ProgReader::take_aux(Pending& prog, const StructView& aux) {
  ProgInfo& info = prog.info;
  info.details_read = true;
  info.name = std::string(aux.text(Aux::kName));
  info.loaded_at_ns = aux.u64(Aux::kLoadTime);
  if (aux.has(Aux::kVerifiedInsns)) info.verified_insns = aux.u64(Aux::kVerifiedInsns);
  if (aux.has(Aux::kSleepable)) info.sleepable = aux.u64(Aux::kSleepable) != 0;
  if (aux.has(Aux::kExceptions)) info.exception_entries = aux.u64(Aux::kExceptions);
  info.offloaded = !aux.pointer(Aux::kOffload).is_null();
  if (aux.has(Aux::kAuxStats)) prog.stats = aux.pointer(Aux::kAuxStats);
  prog.user = aux.pointer(Aux::kUser);
  prog.btf = aux.pointer(Aux::kBtf);
  prog.maps = aux.pointer(Aux::kUsedMaps);
  prog.map_count = bounded(prog, "map_ids", aux.u64(Aux::kUsedMapCount), kMaxProgMaps);
  prog.functions = aux.pointer(Aux::kFuncs);
  prog.function_count = bounded(prog, "jited_len", aux.u64(Aux::kFuncCount), kMaxProgFunctions);
  const std::uint64_t index = aux.u64(Aux::kFuncIndex);
  if (index < aux.u64(Aux::kFuncInfoCount))
    prog.name_record = aux.pointer(Aux::kFuncInfo).wrapping_add(index * kFuncInfoBytes);
  take_attach(prog, aux);
}

void ProgReader::take_attach(Pending& prog, const StructView& aux) {
  ProgAttach& attach = prog.info.attach;
  attach.target_btf_id = aux.u64(Aux::kAttachTypeId);
  if (const auto target = ids_.find(aux.u64(Aux::kTargetProg)); target != ids_.end())
    attach.target_prog_id = target->second;
  if (attach.target_btf_id == 0) return;
  prog.attach_btf = aux.pointer(Aux::kAttachBtf);
  // Text of the target's types: gone with them when nothing holds them any more. Before 5.11 a
  // target that is no program is always the kernel.
  const bool is_kernel =
      aux.has(Aux::kAttachBtf) ? !prog.attach_btf.is_null() : prog.info.type != "ext";
  const bool held = is_kernel || !aux.pointer(Aux::kTargetProg).is_null();
  if (held) prog.attach_name = aux.pointer(Aux::kAttachName);
}

std::uint64_t ProgReader::bounded(const Pending& prog, std::string_view field, std::uint64_t count,
                                  std::size_t limit) {
  if (count <= limit) return count;
  problem(prog, field,
          {.code = ErrorCode::kCorrupt, .message = fmt::format("it claims {} of them", count)});
  return 0;
}

}  // namespace guestscope
