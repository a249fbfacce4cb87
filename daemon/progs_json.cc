#include "daemon/progs_json.h"

#include "daemon/facts_json.h"

namespace guestscope {

namespace {

/// Sets the member unless this kernel has no such thing.
template <typename T>
void set(Json& object, std::string_view name, const std::optional<T>& value) {
  if (value) object[std::string(name)] = *value;
}

void set_id(Json& object, std::string_view name, std::uint64_t id) {
  if (id != 0) object[std::string(name)] = id;
}

Json attach_json(const ProgAttach& attach) {
  Json json = Json::object();
  set(json, "type", attach.type);
  if (!attach.target_name.empty()) json["target_name"] = attach.target_name;
  set_id(json, "target_btf_id", attach.target_btf_id);
  set_id(json, "target_obj_id", attach.target_obj_id);
  set_id(json, "target_prog_id", attach.target_prog_id);
  return json;
}

Json counters_json(const ProgInfo& prog) {
  Json cpus = Json::array();
  for (const auto& [cpu, run] : prog.per_cpu) {
    Json one = {{"cpu", cpu}, {"run_cnt", run.runs}, {"run_time_ns", run.nanoseconds}};
    if (prog.has_misses) one["recursion_misses"] = run.recursion_misses;
    cpus.push_back(std::move(one));
  }
  return cpus;
}

Json functions_json(const ProgInfo& prog) {
  Json functions = Json::array();
  for (const ProgFunction& function : prog.functions)
    functions.push_back({{"name", function.name},
                         {"symbol", function.symbol},
                         {"address", hex_address(function.address.value())},
                         {"jited_len", function.bytes}});
  return functions;
}

/// What only the details of a program tell: null when they could not be read.
void set_details(Json& json, const ProgInfo& prog) {
  const auto detail = [&](const auto& value) {
    return prog.details_read ? Json(value) : Json(nullptr);
  };
  json["map_ids"] = detail(prog.map_ids);
  set_id(json, "btf_id", prog.btf_id);
  if (!prog.attach.empty()) json["attach"] = attach_json(prog.attach);
  if (prog.offloaded) json["offloaded"] = true;
  json["loaded_at_ns"] = detail(prog.loaded_at_ns);
  set(json, "uid", prog.uid);
}

}  // namespace

Json prog_json(const ProgInfo& prog, bool whole) {
  const bool counted = !prog.per_cpu.empty();
  const ProgRun total = prog.total();
  const auto counter = [&](std::uint64_t value) { return counted ? Json(value) : Json(nullptr); };
  Json json = {{"id", prog.id},
               {"name", prog.details_read ? Json(prog.name) : Json(nullptr)},
               {"type", prog.type},
               {"tag", prog.tag},
               {"run_cnt", counter(total.runs)},
               {"run_time_ns", counter(total.nanoseconds)}};
  if (prog.has_misses) json["recursion_misses"] = counter(total.recursion_misses);
  json["jited"] = prog.jited;
  json["xlated_len"] = prog.xlated_bytes;
  json["jited_len"] = prog.jited_bytes;
  set(json, "memlock_bytes", prog.memlock_bytes);
  set(json, "gpl_compatible", prog.gpl_compatible);
  set(json, "sleepable", prog.sleepable);
  set(json, "verified_insns", prog.verified_insns);
  set(json, "extable_len", prog.exception_entries);
  set_details(json, prog);
  json["address"] = hex_address(prog.address.value());
  if (!whole) return json;
  json["per_cpu"] = counters_json(prog);
  json["subprograms"] = functions_json(prog);
  return json;
}

Json link_json(const LinkInfo& link) {
  Json json = {{"id", link.id}, {"type", link.type}, {"prog_id", link.prog_id}};
  json.update(facts_json(link.facts));
  json["address"] = hex_address(link.address.value());
  return json;
}

Json btf_json(const BtfInfo& object) {
  Json json = {{"id", object.id}};
  if (!object.name.empty()) json["name"] = object.name;
  json["size"] = object.size;
  json["kernel"] = object.kernel;
  set_id(json, "base", object.base_id);
  json["prog_ids"] = object.prog_ids;
  json["map_ids"] = object.map_ids;
  json["address"] = hex_address(object.address.value());
  return json;
}

}  // namespace guestscope
