#include "introspect/prog_reader.h"

#include <algorithm>

#include "introspect/limits.h"
#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

using Prog = ProgModel::Prog;
using Aux = ProgModel::Aux;

constexpr std::uint64_t kInsnBytes = 8;  // sizeof(struct bpf_insn)

std::string hex_tag(ByteSpan tag) {
  std::string text;
  for (const std::byte byte : tag) text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  return text;
}

}  // namespace

/// Each step is one exchange for all programs of a part, which for a real guest is all there are.
ProgList ProgReader::read(std::span<const IdrEntry> entries, Problems problems) {
  list_.problems = std::move(problems);
  const std::size_t cpus = std::max<std::size_t>(1, per_cpu_.possible_cpus().size());
  const std::size_t part = std::clamp<std::size_t>(kStatsPerStep / cpus, 1, kProgStep);
  for (; !entries.empty(); entries = entries.subspan(std::min(part, entries.size())))
    read_part(entries.first(std::min(part, entries.size())));
  return std::move(list_);
}

void ProgReader::read_part(std::span<const IdrEntry> entries) {
  progs_.clear();
  read_programs(entries);
  read_aux();
  read_referenced();
  read_pointees();
  for (Pending& prog : progs_) list_.progs.push_back(std::move(prog.info));
}

void ProgReader::problem(const Pending& prog, std::string_view field, Error error) {
  list_.problems.add(fmt::format("progs with id {}.{}", prog.info.id, field), std::move(error));
}

void ProgReader::read_programs(std::span<const IdrEntry> entries) {
  StructBatch batch(model_.prog);
  for (const IdrEntry& entry : entries) batch.add(entry.pointer);
  batch.read(memory_);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const auto view = batch[i];
    Pending prog;
    prog.info.id = entries[i].id;
    prog.info.address = entries[i].pointer;
    if (!view) {
      problem(prog, "address", view.error());
      continue;
    }
    prog.info.type = model_.types.name_or_number(view->u64(Prog::kType), "type");
    prog.info.tag = hex_tag(
        view->bytes(Prog::kTag).first(std::min<std::size_t>(8, view->bytes(Prog::kTag).size())));
    prog.info.jited = view->u64(Prog::kJited) != 0;
    prog.info.xlated_bytes = view->u64(Prog::kLen) * kInsnBytes;
    prog.info.jited_bytes = view->u64(Prog::kJitedLen);
    prog.aux = view->pointer(Prog::kAux);
    prog.stats = view->pointer(Prog::kStats);
    progs_.push_back(std::move(prog));
  }
}

void ProgReader::read_aux() {
  StructBatch batch(model_.aux);
  for (const Pending& prog : progs_) batch.add(prog.aux);
  batch.read(memory_);
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
  prog.info.details_read = true;
  prog.info.name = std::string(aux.text(Aux::kName));
  prog.info.loaded_at_ns = aux.u64(Aux::kLoadTime);
  if (aux.has(Aux::kVerifiedInsns)) prog.info.verified_insns = aux.u64(Aux::kVerifiedInsns);
  if (aux.has(Aux::kAuxStats)) prog.stats = aux.pointer(Aux::kAuxStats);
  prog.user = aux.pointer(Aux::kUser);
  prog.btf = aux.pointer(Aux::kBtf);
  prog.maps = aux.pointer(Aux::kUsedMaps);
  prog.map_count = bounded(prog, "map_ids", aux.u64(Aux::kUsedMapCount), kMaxProgMaps);
  prog.functions = aux.pointer(Aux::kFuncs);
  prog.function_count = bounded(prog, "jited_len", aux.u64(Aux::kFuncCount), kMaxProgFunctions);
}

std::uint64_t ProgReader::bounded(const Pending& prog, std::string_view field, std::uint64_t count,
                                  std::size_t limit) {
  if (count <= limit) return count;
  problem(prog, field,
          {.code = ErrorCode::kCorrupt, .message = fmt::format("it claims {} of them", count)});
  return 0;
}

}  // namespace guestscope
