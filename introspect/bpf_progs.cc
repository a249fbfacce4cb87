#include "introspect/bpf_progs.h"

#include <algorithm>

#include "introspect/idr.h"
#include "introspect/limits.h"
#include "introspect/struct_batch.h"

namespace guestscope {

ProgRun ProgInfo::total() const {
  ProgRun sum;
  for (const auto& [cpu, run] : per_cpu) {
    sum.runs += run.runs;
    sum.nanoseconds += run.nanoseconds;
    sum.recursion_misses += run.recursion_misses;
  }
  return sum;
}

namespace {

using Prog = ProgModel::Prog;
using Aux = ProgModel::Aux;

constexpr std::uint64_t kInsnBytes = 8;  // sizeof(struct bpf_insn)

/// A program on its way through the exchanges: what the next one still needs.
struct Pending {
  ProgInfo info;
  GuestVirt aux;
  GuestVirt stats;
  GuestVirt user;
  GuestVirt btf;
  GuestVirt maps;
  std::uint64_t map_count = 0;
  GuestVirt functions;
  std::uint64_t function_count = 0;
};

std::string hex_tag(ByteSpan tag) {
  std::string text;
  for (const std::byte byte : tag) text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  return text;
}

class ProgReader {
 public:
  ProgReader(KernelMemory& memory, const ProgModel& model, const PerCpuOffsets& per_cpu)
      : memory_(memory), model_(model), per_cpu_(per_cpu) {}

  /// Each step is one exchange for all programs of a part, which for a real guest is all there are.
  ProgList read(std::span<const IdrEntry> entries, Problems problems) {
    list_.problems = std::move(problems);
    const std::size_t cpus = std::max<std::size_t>(1, per_cpu_.possible_cpus().size());
    const std::size_t part = std::clamp<std::size_t>(kStatsPerStep / cpus, 1, kProgStep);
    for (; !entries.empty(); entries = entries.subspan(std::min(part, entries.size())))
      read_part(entries.first(std::min(part, entries.size())));
    return std::move(list_);
  }

 private:
  void read_part(std::span<const IdrEntry> entries) {
    progs_.clear();
    read_programs(entries);
    read_aux();
    read_referenced();
    read_pointees();
    for (Pending& prog : progs_) list_.progs.push_back(std::move(prog.info));
  }

  void problem(const Pending& prog, std::string_view field, Error error) {
    list_.problems.add(fmt::format("progs with id {}.{}", prog.info.id, field), std::move(error));
  }

  void read_programs(std::span<const IdrEntry> entries) {
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

  void read_aux() {
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

  void take_aux(Pending& prog, const StructView& aux) {
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

  std::uint64_t bounded(const Pending& prog, std::string_view field, std::uint64_t count,
                        std::size_t limit) {
    if (count <= limit) return count;
    problem(prog, field,
            {.code = ErrorCode::kCorrupt, .message = fmt::format("it claims {} of them", count)});
    return 0;
  }

  /// The pointer tables, and what is one pointer away: user, BTF object, statistics of each CPU.
  void read_referenced() {
    ReadBatch tables;
    for (const Pending& prog : progs_) {
      tables.add(prog.map_count == 0 ? GuestVirt() : prog.maps, prog.map_count * 8);
      tables.add(prog.function_count == 0 ? GuestVirt() : prog.functions, prog.function_count * 8);
    }
    tables.read(memory_);
    map_pointers_.assign(progs_.size(), {});
    function_pointers_.assign(progs_.size(), {});
    for (std::size_t i = 0; i < progs_.size(); ++i) {
      if (progs_[i].map_count != 0)
        map_pointers_[i] = pointers(progs_[i], "map_ids", tables[2 * i]);
      if (progs_[i].function_count != 0)
        function_pointers_[i] = pointers(progs_[i], "jited_len", tables[2 * i + 1]);
    }
  }

  std::vector<GuestVirt> pointers(const Pending& prog, std::string_view field,
                                  const Result<ByteSpan>& table) {
    std::vector<GuestVirt> list;
    if (!table) problem(prog, field, table.error());
    for (std::size_t at = 0; table && at + 8 <= table->size(); at += 8)
      list.emplace_back(load_le(table->data() + at, 8));
    return list;
  }

  void read_pointees() {
    read_map_ids();
    read_functions();
    read_users();
    read_btf_ids();
    read_statistics();
  }

  void read_map_ids() {
    StructBatch maps(model_.map);
    for (const auto& list : map_pointers_)
      for (const GuestVirt map : list) maps.add(map);
    maps.read(memory_);
    std::size_t next = 0;
    for (std::size_t i = 0; i < progs_.size(); ++i) {
      for (std::size_t n = 0; n < map_pointers_[i].size(); ++n) {
        if (const auto map = maps[next++])
          progs_[i].info.map_ids.push_back(map->u64(ProgModel::kMapId));
        else
          problem(progs_[i], "map_ids", map.error());
      }
    }
  }

  /// A program with subprograms is compiled function by function: its size is the sum of theirs.
  void read_functions() {
    StructBatch functions(model_.prog);
    for (const auto& list : function_pointers_)
      for (const GuestVirt function : list) functions.add(function);
    functions.read(memory_);
    std::size_t next = 0;
    for (std::size_t i = 0; i < progs_.size(); ++i) {
      if (function_pointers_[i].empty()) continue;
      progs_[i].info.jited_bytes = 0;
      for (std::size_t n = 0; n < function_pointers_[i].size(); ++n) {
        if (const auto function = functions[next++])
          progs_[i].info.jited_bytes += function->u64(Prog::kJitedLen);
        else
          problem(progs_[i], "jited_len", function.error());
      }
    }
  }

  void read_users() {
    StructBatch users(model_.user);
    for (const Pending& prog : progs_) users.add(prog.user);
    users.read(memory_);
    for (std::size_t i = 0; i < progs_.size(); ++i) {
      if (progs_[i].user.is_null()) continue;
      if (const auto user = users[i])
        progs_[i].info.uid = user->u64(ProgModel::kUid);
      else
        problem(progs_[i], "uid", user.error());
    }
  }

  void read_btf_ids() {
    StructBatch objects(model_.btf.layout);
    for (const Pending& prog : progs_) objects.add(prog.btf);
    objects.read(memory_);
    for (std::size_t i = 0; i < progs_.size(); ++i) {
      if (progs_[i].btf.is_null()) continue;
      if (const auto object = objects[i])
        progs_[i].info.btf_id = object->u64(BtfObjectModel::kId);
      else
        problem(progs_[i], "btf_id", object.error());
    }
  }

  void read_statistics() {
    const std::vector<unsigned> cpus = per_cpu_.possible_cpus();
    StructBatch batch(model_.stats);
    for (const Pending& prog : progs_)
      for (const unsigned cpu : cpus)
        batch.add(prog.stats.is_null() ? GuestVirt() : per_cpu_.on_cpu(prog.stats, cpu));
    batch.read(memory_);
    for (std::size_t i = 0; i < progs_.size(); ++i) {
      if (progs_[i].stats.is_null()) continue;
      ProgInfo& info = progs_[i].info;
      info.has_misses = model_.stats[ProgModel::kMisses].present;
      for (std::size_t n = 0; n < cpus.size(); ++n) {
        const auto view = batch[i * cpus.size() + n];
        if (!view) {
          problem(progs_[i], "run_cnt", view.error());
          info.per_cpu.clear();
          break;
        }
        info.per_cpu.emplace_back(cpus[n],
                                  ProgRun{.runs = view->u64(ProgModel::kRuns),
                                          .nanoseconds = view->u64(ProgModel::kNanoseconds),
                                          .recursion_misses = view->u64(ProgModel::kMisses)});
      }
    }
  }

  KernelMemory& memory_;
  const ProgModel& model_;
  const PerCpuOffsets& per_cpu_;
  ProgList list_;
  std::vector<Pending> progs_;
  std::vector<std::vector<GuestVirt>> map_pointers_;
  std::vector<std::vector<GuestVirt>> function_pointers_;
};

std::optional<bool> read_stats_enabled(KernelMemory& memory, const ProgModel& model,
                                       const KernelLocation& location, Problems& problems) {
  if (!model.stats_key) return std::nullopt;
  StructBatch batch(model.key);
  batch.add(location.at(*model.stats_key));
  batch.read(memory);
  const auto view = batch[0];
  if (view) return view->s64(0) > 0;
  problems.add("stats_enabled", view.error());
  return std::nullopt;
}

}  // namespace

Result<ProgList> read_progs(KernelMemory& memory, const ProgModel& model,
                            const ProgAccessor& accessor, const PerCpuOffsets& per_cpu) {
  Problems problems;
  GS_ASSIGN(const auto entries, read_idr(memory, model.idr, accessor.prog_idr, "progs", problems));
  const auto stats_enabled = read_stats_enabled(memory, model, accessor.location, problems);
  ProgList list = ProgReader(memory, model, per_cpu).read(entries, std::move(problems));
  list.stats_enabled = stats_enabled;
  return list;
}

}  // namespace guestscope
