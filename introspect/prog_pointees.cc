// What BPF programs point to: maps, functions, users, types, counters.
#include "introspect/prog_reader.h"
#include "introspect/struct_batch.h"

namespace guestscope {

/// The pointer tables, and what is one pointer away: user, BTF object, statistics of each CPU.
void ProgReader::read_referenced() {
  ReadBatch tables;
  for (const Pending& prog : progs_) {
    tables.add(prog.map_count == 0 ? GuestVirt() : prog.maps, prog.map_count * 8);
    tables.add(prog.function_count == 0 ? GuestVirt() : prog.functions, prog.function_count * 8);
  }
  tables.read(memory_);
  map_pointers_.assign(progs_.size(), {});
  function_pointers_.assign(progs_.size(), {});
  for (std::size_t i = 0; i < progs_.size(); ++i) {
    if (progs_[i].map_count != 0) map_pointers_[i] = pointers(progs_[i], "map_ids", tables[2 * i]);
    if (progs_[i].function_count != 0)
      function_pointers_[i] = pointers(progs_[i], "jited_len", tables[2 * i + 1]);
  }
}

std::vector<GuestVirt> ProgReader::pointers(const Pending& prog, std::string_view field,
                                            const Result<ByteSpan>& table) {
  std::vector<GuestVirt> list;
  if (!table) problem(prog, field, table.error());
  for (std::size_t at = 0; table && at + 8 <= table->size(); at += 8)
    list.emplace_back(load_le(table->data() + at, 8));
  return list;
}

void ProgReader::read_pointees() {
  read_map_ids();
  read_functions();
  read_users();
  read_btf_ids();
  read_statistics();
}

void ProgReader::read_map_ids() {
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
void ProgReader::read_functions() {
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
        progs_[i].info.jited_bytes += function->u64(ProgModel::kJitedLen);
      else
        problem(progs_[i], "jited_len", function.error());
    }
  }
}

void ProgReader::read_users() {
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

void ProgReader::read_btf_ids() {
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

void ProgReader::read_statistics() {
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

}  // namespace guestscope
