#include "daemon/bpftool_show.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "daemon/bpftool_value.h"
#include "daemon/facts_json.h"

namespace guestscope {

namespace {

/// A type that has no name, "type_40", is its number.
void append_type(std::string& text, std::string_view name, std::string_view type) {
  text += fmt::format(",\"{}\":", name);
  if (type.starts_with("type_"))
    text += type.substr(5);
  else
    append_bpftool_string(text, type);
}

/// The whole name is in the types only; without any, the kernel's first 15 characters have to do.
std::string_view shown_name(const ProgInfo& prog) {
  constexpr std::size_t kKeptNameBytes = 15;  // BPF_OBJ_NAME_LEN - 1
  const std::string_view name = prog.name;
  return prog.btf_id == 0 ? name.substr(0, kKeptNameBytes) : name;
}

void append_counters(std::string& text, const ProgInfo& prog) {
  const ProgRun total = prog.total();
  if (total.nanoseconds != 0)
    text += fmt::format(",\"run_time_ns\":{},\"run_cnt\":{}", total.nanoseconds, total.runs);
  if (prog.has_misses && total.recursion_misses != 0)
    text += fmt::format(",\"recursion_misses\":{}", total.recursion_misses);
}

struct LinkMembers {
  std::string_view type;
  std::array<std::string_view, 6> names;  // in bpftool's order
};
constexpr LinkMembers kLinkMembers[] = {
    {"raw_tracepoint", {"tp_name"}},
    {"tracing", {"prog_type", "attach_type"}},
    {"cgroup", {"cgroup_id", "attach_type"}},
    {"iter", {"target_name", "map_id", "tid", "pid", "cgroup_id", "order"}},
    {"netns", {"netns_ino", "attach_type"}}};

}  // namespace

std::string bpftool_prog(const ProgInfo& prog) {
  std::string text = fmt::format("{{\"id\":{}", prog.id);
  append_type(text, "type", prog.type);
  if (!prog.name.empty()) {
    text += ",\"name\":";
    append_bpftool_string(text, shown_name(prog));
  }
  text += fmt::format(",\"tag\":\"{}\",\"gpl_compatible\":{}", prog.tag,
                      prog.gpl_compatible.value_or(false));
  append_counters(text, prog);
  if (prog.loaded_at_ns != 0) text += fmt::format(",\"uid\":{}", prog.uid.value_or(0));
  text +=
      fmt::format(",\"bytes_xlated\":{},\"jited\":{}", prog.xlated_bytes, prog.jited_bytes != 0);
  if (prog.jited_bytes != 0) text += fmt::format(",\"bytes_jited\":{}", prog.jited_bytes);
  if (prog.memlock_bytes) text += fmt::format(",\"bytes_memlock\":{}", *prog.memlock_bytes);
  if (!prog.map_ids.empty()) text += fmt::format(",\"map_ids\":[{}]", fmt::join(prog.map_ids, ","));
  if (prog.btf_id != 0) text += fmt::format(",\"btf_id\":{}", prog.btf_id);
  return text + "}";
}

std::string bpftool_link(const LinkInfo& link) {
  std::string text = fmt::format("{{\"id\":{}", link.id);
  append_type(text, "type", link.type);
  text += fmt::format(",\"prog_id\":{}", link.prog_id);
  const auto* members = std::ranges::find(kLinkMembers, link.type, &LinkMembers::type);
  if (members == std::end(kLinkMembers)) return text + "}";
  for (const std::string_view name : members->names) {
    const auto fact = std::ranges::find(link.facts, name, &Fact::name);
    if (name.empty() || fact == link.facts.end()) continue;
    if (const auto* word = std::get_if<std::string>(&fact->value.get())) {
      text += fmt::format(",\"{}\":", name);
      append_bpftool_string(text, *word);
    } else {
      text += fmt::format(",\"{}\":{}", name, dump_json(fact_json(fact->value)));
    }
  }
  return text + "}";
}

}  // namespace guestscope
