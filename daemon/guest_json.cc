#include "daemon/guest_json.h"

#include <fmt/chrono.h>

#include "daemon/version.h"

namespace guestscope {

namespace {

std::string iso_time(std::chrono::system_clock::time_point time) {
  using namespace std::chrono;
  const auto whole = floor<seconds>(time);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:06}Z", fmt::gmtime(system_clock::to_time_t(whole)),
                     duration_cast<microseconds>(time - whole).count());
}

std::string_view connection_name(ConnectionState state) {
  switch (state) {
    case ConnectionState::kConnecting: return "connecting";
    case ConnectionState::kConnected: return "connected";
    case ConnectionState::kLost: return "lost";
  }
  return "lost";
}

std::string_view accessor_state_name(AccessorState state) {
  switch (state) {
    case AccessorState::kWaiting: return "waiting";
    case AccessorState::kReady: return "ready";
    case AccessorState::kFailed: return "failed";
  }
  return "failed";
}

/// The value, or null where it is not known.
template <typename T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

/// Sets the member unless this kernel has no such figure.
template <typename T>
void set(Json& object, std::string_view name, const std::optional<T>& value) {
  if (value) object[std::string(name)] = *value;
}

Json kernel_json(const KernelSummary& kernel) {
  const auto& at = kernel.location;
  const auto known = [&](auto get) { return at ? Json(get(*at)) : Json(nullptr); };
  const auto from_file = [&](const std::string& text) {
    return text.empty() ? Json(nullptr) : Json(text);
  };
  const KernelFile* file = kernel.file.get();
  return {
      {"release", known([](const auto& k) { return k.release; })},
      {"arch", kernel.machine == Machine::kOther ? Json(nullptr) : Json(to_string(kernel.machine))},
      {"build_id", at ? from_file(file->build_id()) : Json(nullptr)},
      {"symbols_from", file != nullptr ? from_file(file->symbols_from()) : Json(nullptr)},
      {"types_from", file != nullptr ? from_file(file->types_from()) : Json(nullptr)},
      {"text_base", known([](const auto& k) { return hex_address(k.text_base.value()); })},
      {"kaslr_slide",
       kernel.kaslr_slide ? Json(fmt::format("{:#x}", *kernel.kaslr_slide)) : Json(nullptr)},
      {"phys_base", known([](const auto& k) { return fmt::format("{:#x}", k.phys_base); })},
      {"page_table_root",
       known([](const auto& k) { return fmt::format("{:#x}", k.root.value()); })},
      {"paging_levels", known([](const auto& k) { return k.paging_levels; })},
      {"va_bits", known([](const auto& k) { return k.va_bits; })},
      {"page_size", known([](const auto& k) { return k.page_size; })},
      {"page_offset", known([](const auto& k) { return hex_address(k.page_offset.value()); })},
      {"possible_cpus", or_null(kernel.possible_cpus)},
      {"online_cpus", or_null(kernel.online_cpus)},
      {"boot_stage", or_null(kernel.boot_stage)}};
}

}  // namespace

Json snapshot_json(const SnapshotMeta& meta) {
  return {{"taken_at", iso_time(meta.taken_at)},
          {"pause_us", meta.paused.count()},
          {"consistent", meta.consistent},
          {"memory", meta.from_process ? "process" : "stub"}};
}

Json problems_json(const Problems& problems) {
  Json list = Json::array();
  for (const Problem& problem : problems.list()) {
    Json item = {{"at", problem.at}};
    if (problem.error.address) item["address"] = hex_address(*problem.error.address);
    Error error = problem.error;
    error.address.reset();
    item["error"] = error.to_string();
    list.push_back(std::move(item));
  }
  if (problems.left_out() != 0)
    list.push_back(
        {{"at", ""}, {"error", fmt::format("and {} further problems", problems.left_out())}});
  return list;
}

void add_problems(Json& answer, const Problems& problems) {
  if (!problems.empty()) answer["problems"] = problems_json(problems);
}

Json accessor_json(const AccessorStatus& status) {
  return {
      {"state", accessor_state_name(status.state)},
      {"attempts", status.attempts},
      {"last_error", status.last_error ? Json(status.last_error->to_string()) : Json(nullptr)},
      {"ready_after_ms", status.ready_after ? Json(status.ready_after->count()) : Json(nullptr)}};
}

Json status_json(const GuestConfig& config, const GuestStatus& status) {
  const bool connected = status.connection == ConnectionState::kConnected;
  Json guest = {
      {"name", config.name},
      {"gdb", config.gdb_text},
      {"connection", connection_name(status.connection)},
      {"connection_error",
       status.connection_error ? Json(status.connection_error->to_string()) : Json(nullptr)},
      {"run_state", connected ? Json(status.paused ? "paused" : "running") : Json(nullptr)},
      {"memory", status.from_process ? "process" : "stub"},
      {"memory_reason",
       status.why_not_process ? Json(status.why_not_process->message) : Json(nullptr)},
      {"boots", status.kernel.boots}};
  return {{"version", kVersion},
          {"guest", std::move(guest)},
          {"kernel", kernel_json(status.kernel)},
          {"accessors",
           {{"maps", accessor_json(status.kernel.maps)},
            {"progs", accessor_json(status.kernel.progs)},
            {"per_cpu_offsets", accessor_json(status.kernel.per_cpu)}}},
          {"pauses",
           {{"count", status.pauses.count()},
            {"last_us", status.pauses.last().count()},
            {"median_us", status.pauses.percentile(0.5).count()},
            {"p99_us", status.pauses.percentile(0.99).count()},
            {"max_us", status.pauses.max().count()},
            {"total_us", status.pauses.total().count()}}}};
}

Json map_json(const MapInfo& map) {
  Json json = {{"id", map.id},
               {"name", map.name},
               {"type", map.type},
               {"key_size", map.key_size},
               {"value_size", map.value_size},
               {"max_entries", map.max_entries},
               {"flags", map.flags},
               {"flag_names", map.flag_names},
               {"frozen", map.frozen}};
  if (map.btf_id != 0) json["btf_id"] = map.btf_id;
  if (map.btf_key_type_id != 0) json["btf_key_type_id"] = map.btf_key_type_id;
  if (map.btf_value_type_id != 0) json["btf_value_type_id"] = map.btf_value_type_id;
  if (map.btf_vmlinux_value_type_id != 0)
    json["btf_vmlinux_value_type_id"] = map.btf_vmlinux_value_type_id;
  json["address"] = hex_address(map.address.value());
  return json;
}

}  // namespace guestscope
