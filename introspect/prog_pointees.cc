// What BPF programs point to: maps, functions, users, types, counters.
#include "introspect/limits.h"
#include "introspect/prog_reader.h"
#include "introspect/text.h"

namespace guestscope {

/// The pointer tables, and what is one pointer away from the program's details.
void ProgReader::read_tables() {
  ReadBatch tables;
  StructBatch users(model_.user);
  StructBatch objects(model_.btf.layout);
  TextBatch names;
  StructBatch stats(model_.stats);
  const bool counters = !model_.prog[ProgModel::kStats].present;
  for (const Pending& prog : progs_) {
    tables.add(prog.map_count == 0 ? GuestVirt() : prog.maps, prog.map_count * 8);
    tables.add(prog.function_count == 0 ? GuestVirt() : prog.functions, prog.function_count * 8);
    users.add(prog.user);
    objects.add(prog.btf);
    objects.add(prog.attach_btf);
    names.add(prog.attach_name, kMaxFunctionNameBytes);
    add_symbol(names, prog.info.details_read ? prog.aux : GuestVirt());
  }
  if (counters) add_statistics(stats);
  read_together(memory_, tables, users, objects, names, stats);
  names.finish(memory_);
  for (std::size_t i = 0; i < progs_.size(); ++i) {
    Pending& prog = progs_[i];
    if (prog.map_count != 0) prog.map_pointers = pointers(prog, "map_ids", tables[2 * i]);
    if (prog.function_count != 0)
      prog.function_pointers = pointers(prog, "jited_len", tables[2 * i + 1]);
    take_user(prog, users[i]);
    take_btf_ids(prog, objects[2 * i], objects[2 * i + 1]);
    take_target_name(prog, names[2 * i]);
    if (const auto symbol = names[2 * i + 1]) prog.symbol = *symbol;
  }
  if (counters) take_statistics(stats);
}

std::vector<GuestVirt> ProgReader::pointers(const Pending& prog, std::string_view field,
                                            const Result<ByteSpan>& table) {
  std::vector<GuestVirt> list;
  if (!table) problem(prog, field, table.error());
  for (std::size_t at = 0; table && at + 8 <= table->size(); at += 8)
    list.emplace_back(load_le(table->data() + at, 8));
  return list;
}

void ProgReader::take_user(Pending& prog, const Result<StructView>& user) {
  if (prog.user.is_null()) return;
  if (user)
    prog.info.uid = user->u64(ProgModel::kUid);
  else
    problem(prog, "uid", user.error());
}

void ProgReader::take_btf_ids(Pending& prog, const Result<StructView>& own,
                              const Result<StructView>& target) {
  if (own)
    prog.info.btf_id = own->u64(BtfObjectModel::kId);
  else if (!prog.btf.is_null())
    problem(prog, "btf_id", own.error());
  if (target)
    prog.info.attach.target_obj_id = target->u64(BtfObjectModel::kId);
  else if (!prog.attach_btf.is_null())
    problem(prog, "attach.target_obj_id", target.error());
}

void ProgReader::take_target_name(Pending& prog, const Result<std::string>& name) {
  if (prog.attach_name.is_null()) return;
  if (!name)
    problem(prog, "attach.target_name", name.error());
  else if (is_text(*name))
    prog.info.attach.target_name = *name;
}

void ProgReader::read_pointees() {
  StructBatch maps(model_.map);
  StructBatch functions(model_.prog);
  for (const Pending& prog : progs_) {
    for (const GuestVirt map : prog.map_pointers) maps.add(map);
    for (const GuestVirt function : prog.function_pointers) functions.add(function);
  }
  read_together(memory_, maps, functions);
  std::size_t next_map = 0;
  std::size_t next_function = 0;
  for (Pending& prog : progs_) {
    take_maps(prog, maps, next_map);
    take_functions(prog, functions, next_function);
  }
}

void ProgReader::take_maps(Pending& prog, const StructBatch& maps, std::size_t& next) {
  for (const GuestVirt pointer : prog.map_pointers) {
    if (const auto map = maps[next++]) {
      prog.info.map_ids.push_back(map->u64(ProgModel::kMapId));
      prog.info.map_addresses.push_back(pointer);
    } else {
      problem(prog, "map_ids", map.error());
    }
  }
}

/// A program with subprograms is compiled function by function: its size is the sum of theirs.
void ProgReader::take_functions(Pending& prog, const StructBatch& functions, std::size_t& next) {
  ProgInfo& info = prog.info;
  if (prog.function_pointers.empty()) {
    if (info.jited) info.functions.push_back({.address = prog.code, .bytes = info.jited_bytes});
    return;
  }
  info.jited_bytes = 0;
  for (std::size_t n = 0; n < prog.function_pointers.size(); ++n) {
    const auto function = functions[next++];
    if (!function) {
      problem(prog, "jited_len", function.error());
      continue;
    }
    info.functions.push_back({.address = function->pointer(ProgModel::kCode),
                              .bytes = function->u64(ProgModel::kJitedLen),
                              .insns = function->u64(ProgModel::kLen)});
    info.jited_bytes += info.functions.back().bytes;
    prog.function_details.push_back(function->pointer(ProgModel::kAux));
  }
}

void ProgReader::add_statistics(StructBatch& batch) const {
  for (const Pending& prog : progs_)
    for (std::size_t n = 0; n < cpus_.size(); ++n)
      batch.add(prog.stats.is_null() || !has_run_[n] ? GuestVirt()
                                                     : per_cpu_.on_cpu(prog.stats, cpus_[n]));
}

void ProgReader::take_statistics(const StructBatch& batch) {
  for (std::size_t i = 0; i < progs_.size(); ++i) {
    if (progs_[i].stats.is_null()) continue;
    ProgInfo& info = progs_[i].info;
    info.has_misses = model_.stats[ProgModel::kMisses].present;
    for (std::size_t n = 0; n < cpus_.size(); ++n) {
      if (!has_run_[n]) {
        info.per_cpu.emplace_back(cpus_[n], ProgRun{});
        continue;
      }
      const auto view = batch[i * cpus_.size() + n];
      if (!view) {
        problem(progs_[i], "run_cnt", view.error());
        info.per_cpu.clear();
        break;
      }
      info.per_cpu.emplace_back(cpus_[n],
                                ProgRun{.runs = view->u64(ProgModel::kRuns),
                                        .nanoseconds = view->u64(ProgModel::kNanoseconds),
                                        .recursion_misses = view->u64(ProgModel::kMisses)});
    }
  }
}

}  // namespace guestscope
