#include "daemon/guest_json.h"

#include <doctest/doctest.h>

#include "daemon/answer.h"
#include "daemon/progs_json.h"
#include "daemon/version.h"
#include "tests/support/mini_guest.h"

namespace guestscope {
namespace {

using namespace std::chrono_literals;

/// The members' names in their order.
std::vector<std::string> keys(const Json& object) {
  std::vector<std::string> names;
  for (const auto& [name, value] : object.items()) names.push_back(name);
  return names;
}

TEST_CASE("a snapshot says when it was taken, to the microsecond and in UTC, and what it cost") {
  SnapshotMeta meta;
  meta.taken_at = std::chrono::sys_days(std::chrono::year(2026) / 11 / 22) + 10h + 123456us;
  meta.paused = 412us;
  CHECK(
      dump_json(snapshot_json(meta)) ==
      R"({"taken_at":"2026-11-22T10:00:00.123456Z","pause_us":412,"consistent":true,"memory":"stub"})");
  meta.consistent = false;
  CHECK(snapshot_json(meta)["consistent"] == false);
}

TEST_CASE("problems have the address apart from the text, and are absent when there are none") {
  Json answer = Json::object();
  Problems problems;
  add_problems(answer, problems);
  CHECK(answer.empty());
  problems.add(
      "maps[3].name",
      {.code = ErrorCode::kNotMapped, .message = "no page", .path = "name", .address = 0x1000});
  problems.add("x", {.code = ErrorCode::kCorrupt, .message = "no sense"});
  add_problems(answer, problems);
  CHECK(
      dump_json(answer) ==
      R"({"problems":[{"at":"maps[3].name","address":"0x0000000000001000","error":"name: no page"},)"
      R"({"at":"x","error":"no sense"}]})");
}

TEST_CASE("what is not known of a guest yet is null, and its members are all there") {
  GuestConfig config;
  config.name = "g";
  config.gdb_text = "h:1";
  GuestStatus status;
  const Json json = status_json(config, status);
  CHECK(json["version"] == kVersion);
  CHECK(dump_json(json["guest"]) ==
        R"({"name":"g","gdb":"h:1","connection":"connecting","connection_error":null,)"
        R"("run_state":null,"memory":"stub","memory_reason":null,"boots":0})");
  CHECK(keys(json["kernel"]) ==
        std::vector<std::string>{"release", "arch", "build_id", "symbols_from", "types_from",
                                 "text_base", "kaslr_slide", "phys_base", "page_table_root",
                                 "paging_levels", "va_bits", "page_size", "page_offset",
                                 "possible_cpus", "online_cpus", "boot_stage"});
  for (const auto& [name, value] : json["kernel"].items()) {
    CAPTURE(name);
    CHECK(value.is_null());
  }
  for (const char* name : {"maps", "progs", "per_cpu_offsets"})
    CHECK(dump_json(json["accessors"][name]) ==
          R"({"state":"waiting","attempts":0,"last_error":null,"ready_after_ms":null})");
  CHECK(dump_json(json["pauses"]) ==
        R"({"count":0,"last_us":0,"median_us":0,"p99_us":0,"max_us":0,"total_us":0})");
}

TEST_CASE("a run state is known only while connected, an error only of a lost connection") {
  GuestStatus status;
  status.connection = ConnectionState::kConnected;
  CHECK(status_json({}, status)["guest"]["run_state"] == "running");
  status.paused = true;
  CHECK(status_json({}, status)["guest"]["run_state"] == "paused");
  status.connection = ConnectionState::kLost;
  status.connection_error = Error{.code = ErrorCode::kUnreachable, .message = "gone"};
  const Json guest = status_json({}, status)["guest"];
  CHECK(guest["connection"] == "lost");
  CHECK(guest["connection_error"] == "gone");
  CHECK(guest["run_state"].is_null());
}

TEST_CASE("accessors say their state, attempts, last error and how long they took") {
  AccessorStatus status{
      .state = AccessorState::kReady, .attempts = 7, .last_error = {}, .ready_after = 1830ms};
  CHECK(dump_json(accessor_json(status)) ==
        R"({"state":"ready","attempts":7,"last_error":null,"ready_after_ms":1830})");
  status = {.state = AccessorState::kFailed,
            .attempts = 1,
            .last_error = Error{.code = ErrorCode::kMismatch, .message = "another kernel"},
            .ready_after = {}};
  CHECK(dump_json(accessor_json(status)) ==
        R"({"state":"failed","attempts":1,"last_error":"another kernel","ready_after_ms":null})");
}

TEST_CASE("a map without types has no type members") {
  MapInfo map;
  map.id = 3;
  map.name = "counters";
  map.type = "hash";
  map.key_size = 4;
  map.value_size = 8;
  map.max_entries = 1024;
  map.flags = 1;
  map.flag_names = {"no_prealloc"};
  map.address = GuestVirt(0xffff888000001000);
  CHECK(dump_json(map_json(map)) ==
        R"({"id":3,"name":"counters","type":"hash","key_size":4,"value_size":8,"max_entries":1024,)"
        R"("flags":1,"flag_names":["no_prealloc"],"frozen":false,"address":"0xffff888000001000"})");
  map.btf_id = 12;
  map.btf_key_type_id = 1;
  map.btf_value_type_id = 5;
  map.btf_vmlinux_value_type_id = 6;
  const Json json = map_json(map);
  CHECK(json["btf_id"] == 12);
  CHECK(json["btf_key_type_id"] == 1);
  CHECK(json["btf_value_type_id"] == 5);
  CHECK(json["btf_vmlinux_value_type_id"] == 6);
}

TEST_CASE("what could not be read of a program is null, what no kernel has is absent") {
  ProgInfo prog;
  Json json = prog_json(prog, true);
  CHECK(json["run_cnt"].is_null());
  CHECK(json["run_time_ns"].is_null());
  for (const char* name : {"recursion_misses", "verified_insns", "uid", "btf_id"})
    CHECK_FALSE(json.contains(name));
  for (const char* name : {"name", "map_ids", "loaded_at_ns"}) CHECK(json[name].is_null());
  CHECK(json["per_cpu"] == Json::array());
  CHECK_FALSE(prog_json(prog, false).contains("per_cpu"));
  prog.has_misses = true;
  CHECK(prog_json(prog, false)["recursion_misses"].is_null());
}

TEST_CASE("counters of a program are sums, with those of each CPU when asked for") {
  ProgInfo prog;
  prog.details_read = true;
  prog.per_cpu = {{0, {.runs = 100, .nanoseconds = 40, .recursion_misses = 1}},
                  {2, {.runs = 20, .nanoseconds = 8, .recursion_misses = 2}}};
  prog.has_misses = true;
  prog.verified_insns = 61;
  prog.uid = 0;
  prog.btf_id = 12;
  const Json json = prog_json(prog, true);
  CHECK(json["run_cnt"] == 120);
  CHECK(json["run_time_ns"] == 48);
  CHECK(json["recursion_misses"] == 3);
  CHECK(json["verified_insns"] == 61);
  CHECK(json["uid"] == 0);
  CHECK(json["btf_id"] == 12);
  CHECK(json["name"] == "");
  CHECK(json["map_ids"] == Json::array());
  CHECK(dump_json(json["per_cpu"]) ==
        R"([{"cpu":0,"run_cnt":100,"run_time_ns":40,"recursion_misses":1},)"
        R"({"cpu":2,"run_cnt":20,"run_time_ns":8,"recursion_misses":2}])");
  prog.has_misses = false;
  CHECK_FALSE(prog_json(prog, true)["per_cpu"][0].contains("recursion_misses"));
}

TEST_CASE("every error code has its status and name, and 503 says whether to come again") {
  struct Expected {
    ErrorCode code;
    int status;
    const char* name;
    bool retry;
  };
  for (const Expected& one : {Expected{ErrorCode::kInvalidArgument, 400, "invalid_request", false},
                              {ErrorCode::kNotFound, 404, "not_found", false},
                              {ErrorCode::kAmbiguous, 409, "ambiguous_name", false},
                              {ErrorCode::kNotReady, 503, "not_ready", true},
                              {ErrorCode::kUnreachable, 503, "guest_unreachable", true},
                              {ErrorCode::kTimeout, 504, "timeout", false},
                              {ErrorCode::kProtocol, 502, "guest_fault", false},
                              {ErrorCode::kNotMapped, 502, "guest_fault", false},
                              {ErrorCode::kNotRam, 502, "guest_fault", false},
                              {ErrorCode::kCorrupt, 502, "guest_fault", false},
                              {ErrorCode::kUnsupported, 503, "not_ready", false},
                              {ErrorCode::kMismatch, 503, "not_ready", false},
                              {ErrorCode::kBusy, 503, "busy", true},
                              {ErrorCode::kSystem, 502, "guest_fault", false}}) {
    CAPTURE(to_string(one.code));
    const Answer answer =
        problem_answer({.code = one.code, .message = "m\xff", .path = "p", .address = {}});
    CHECK(answer.status == one.status);
    CHECK(answer.content_type == "application/problem+json");
    CHECK(answer.retry_after.has_value() == one.retry);
    CHECK_FALSE(answer.stream);
    const Json json = Json::parse(answer.body);
    CHECK(keys(json) == std::vector<std::string>{"status", "title", "detail", "code"});
    CHECK(json["status"] == one.status);
    CHECK(json["code"] == one.name);
    CHECK(json["detail"] == "p: m\xef\xbf\xbd");
    CHECK_FALSE(json["title"].get<std::string>().empty());
  }
}

TEST_CASE("a problem document carries what else is known") {
  const Answer answer = problem_answer(409, "ambiguous_name", "t", "d", {{"ids", {3, 4}}});
  CHECK(answer.body ==
        R"({"status":409,"title":"t","detail":"d","code":"ambiguous_name","ids":[3,4]})");
}

}  // namespace
}  // namespace guestscope
