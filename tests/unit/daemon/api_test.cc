// Every path through the whole stack: session, client, socket, and a stub that serves a kernel in
// miniature.
#include <doctest/doctest.h>

#include <algorithm>
#include <thread>

#include "tests/unit/daemon/live_guest.h"

namespace guestscope {
namespace {

using test::LiveGuest;
using test::MiniGuest;

std::uint64_t put_map(MiniGuest& guest, std::string_view name, std::uint32_t first_value) {
  mini::bpf_array array{};
  array.map.map_type = 2;
  array.map.key_size = array.map.value_size = 4;
  array.map.max_entries = 2;
  array.map.refcnt.counter = 1;
  array.elem_size = 8;
  name.copy(array.map.name, sizeof array.map.name);
  const std::uint64_t at = guest.allocate(sizeof array + 16);
  guest.write_object(at, array);
  guest.write_u64(at + offsetof(mini::bpf_array, value_start), first_value);
  guest.write_u64(at + offsetof(mini::bpf_array, value_start) + 8, first_value + 1);
  return at;
}

std::uint64_t put_prog(MiniGuest& guest, std::string_view name) {
  mini::bpf_prog_aux aux{};
  aux.refcnt.counter = 1;
  name.copy(aux.name, sizeof aux.name);
  mini::bpf_prog prog{};
  prog.type = 26;
  prog.stats = 0x5000;
  prog.aux = guest.put(aux);
  return guest.put(prog);
}

std::unique_ptr<MiniGuest> furnished() {
  auto made = LiveGuest::booted();
  MiniGuest& guest = *made;
  guest.put_idr("map_idr", {{3, put_map(guest, "counters", 10)},
                            {7, put_map(guest, "twin", 20)},
                            {9, put_map(guest, "twin", 30)},
                            {11, put_map(guest, "9", 40)}});
  guest.put_idr("prog_idr", {{5, put_prog(guest, "on_switch")},
                             {6, put_prog(guest, "pair")},
                             {8, put_prog(guest, "pair")}});
  for (const unsigned cpu : {0U, 1U}) {
    guest.write_object(guest.area_offset(cpu) + 0x5000,
                       mini::bpf_prog_stats{{100 + cpu}, {9}, {1}});
    mini::task_struct task{};
    task.pid = static_cast<int>(100 + cpu);
    std::string_view("busy").copy(task.comm, sizeof task.comm);
    mini::rq queue{};
    queue.cpu = cpu;
    queue.nr_running = 1 + cpu;
    queue.curr = guest.put(task);
    guest.write_object(guest.area_offset(cpu) + guest.link("runqueues"), queue);
  }
  return made;
}

struct Served : LiveGuest {
  Served() : LiveGuest(furnished()) { wait_until_ready(); }

  /// The problem's code, after a look at its form.
  std::string problem(std::string_view target, int status) {
    const Answer answer = api.answer(target);
    CAPTURE(answer.body);
    CHECK(answer.status == status);
    CHECK(answer.content_type == "application/problem+json");
    const Json json = Json::parse(answer.body);
    CHECK(json["status"] == status);
    return json["code"];
  }
};

TEST_CASE_FIXTURE(Served, "the status has everything once the guest is ready") {
  const Json status = get("/status");
  CHECK(status["guest"]["connection"] == "connected");
  CHECK(status["guest"]["run_state"] == "running");
  CHECK(status["guest"]["boots"] == 1);
  const Json& kernel = status["kernel"];
  CHECK(kernel["release"] == "6.99.1-mini");
  CHECK(kernel["build_id"] == "00112233445566778899aabbccddeeff00112233");
  CHECK(kernel["kaslr_slide"] == "0x1dc00000");
  CHECK(kernel["page_offset"] == "0xffff9c5340000000");
  CHECK(kernel["paging_levels"] == 4);
  CHECK(kernel["va_bits"] == 48);
  CHECK(kernel["possible_cpus"] == 2);
  CHECK(kernel["online_cpus"] == 2);
  CHECK(kernel["boot_stage"] == "running");
  for (const char* name : {"maps", "progs", "per_cpu_offsets"})
    CHECK(status["accessors"][name]["state"] == "ready");
  CHECK(status["pauses"]["count"] >= 1);
  CHECK(get("/readyz")["version"] == status["version"]);
  CHECK(get("/healthz") == Json{{"status", "ok"}});
}

TEST_CASE_FIXTURE(Served, "maps are listed, filtered and given with their contents") {
  const Json all = get("/maps");
  REQUIRE(all["maps"].size() == 4);
  CHECK(all["maps"][0]["name"] == "counters");
  CHECK(all["maps"][0]["type"] == "array");
  CHECK_FALSE(all["maps"][0].contains("entries"));
  CHECK_FALSE(all.contains("problems"));
  CHECK(all["snapshot"]["consistent"] == true);
  CHECK(all["snapshot"]["pause_us"] > 0);
  CHECK(get("/maps?name=twin")["maps"].size() == 2);
  CHECK(get("/maps?type=hash")["maps"].empty());
  CHECK(get("/maps?type=array&name=counters")["maps"].size() == 1);
  CHECK(get("/maps?name=")["maps"].empty());
  const Json contents = get("/maps?contents&name=twin&raw");
  CHECK(contents["maps"][1]["entries"][0] == Json::parse(R"({"key":0,"key_hex":"00000000",
      "value":"1e000000","value_hex":"1e000000"})"));
}

TEST_CASE_FIXTURE(Served, "one map is found by its id or a name that only it has") {
  for (const char* target : {"/maps/3", "/maps/counters", "/maps/c%6Funters"}) {
    const Json map = get(target);
    CHECK(map["id"] == 3);
    CHECK(dump_json(map["entries"]) ==
          R"([{"key":0,"value":"0a000000"},{"key":1,"value":"0b000000"}])");
    CHECK(map.contains("snapshot"));
  }
  CHECK(get("/maps/9")["name"] == "twin");  // an id before a name
  CHECK(get("/maps/11")["name"] == "9");
  CHECK(problem("/maps/twin", 409) == "ambiguous_name");
  CHECK(Json::parse(api.answer("/maps/twin").body)["ids"] == Json{7, 9});
  CHECK(problem("/maps/4", 404) == "not_found");
  CHECK(problem("/maps/nothing", 404) == "not_found");
  CHECK(problem("/maps/18446744073709551619", 404) == "not_found");
}

TEST_CASE_FIXTURE(Served, "a limit cuts a map, and the cursor goes on behind it") {
  const Json first = get("/maps/3?limit=1");
  CHECK(first["entries"].size() == 1);
  CHECK(first["truncated"] == true);
  CHECK(first["snapshot"]["consistent"] == true);
  const Json second = get("/maps/3?limit=1&cursor=" + first["next"].get<std::string>());
  CHECK(dump_json(second["entries"]) == R"([{"key":1,"value":"0b000000"}])");
  CHECK_FALSE(second.contains("truncated"));
  CHECK_FALSE(second.contains("next"));
  CHECK_FALSE(get("/maps/3?limit=2").contains("next"));
  CHECK(get("/maps/3?cursor=" + first["next"].get<std::string>())["entries"].size() == 1);
  CHECK(problem("/maps/7?cursor=" + first["next"].get<std::string>(), 400) == "invalid_request");
  for (const char* bad : {"limit=0", "limit=-1", "limit=x", "limit=", "cursor=", "cursor=1",
                          "cursor=3-1", "cursor=3-1-", "cursor=3-1-0-", "limit=99999999999"})
    CHECK(problem("/maps/3?" + std::string(bad), 400) == "invalid_request");
}

TEST_CASE_FIXTURE(Served, "one entry is found by its key") {
  CHECK(dump_json(get("/maps/3?key=1")["entries"]) == R"([{"key":1,"value":"0b000000"}])");
  CHECK(dump_json(get("/maps/3?key_hex=01000000")["entries"]) ==
        R"([{"key":1,"value":"0b000000"}])");
  CHECK(problem("/maps/3?key=2", 404) == "not_found");
  CHECK(problem("/maps/3?key=nonsense", 400) == "invalid_request");
  CHECK(problem("/maps/3?key_hex=01", 400) == "invalid_request");
  CHECK(problem("/maps/3?key=1&key_hex=01000000", 400) == "invalid_request");
  CHECK(problem("/maps/3?key=1&limit=1", 400) == "invalid_request");
  CHECK(problem("/maps/3?cpu=0", 400) == "invalid_request");  // no per-CPU map
}

TEST_CASE_FIXTURE(Served, "a map of several parts is one answer, with its snapshot at the end") {
  change([](Model&, MiniGuest& moved) {
    mini::bpf_array array{};
    array.map.map_type = 2;
    array.map.id = 5;
    array.map.key_size = 4;
    array.map.value_size = 4096;
    array.map.max_entries = kMapPartBytes / 4096 + 3;
    array.map.refcnt.counter = 1;
    array.elem_size = 4096;
    moved.put_idr("map_idr", {{5, moved.put(array)}});
  });
  const Answer answer = api.answer("/maps/5");
  const Json map = Json::parse(LiveGuest::body(answer));
  REQUIRE(map["entries"].size() == kMapPartBytes / 4096 + 3);
  CHECK(map["entries"].back()["key"] == kMapPartBytes / 4096 + 2);
  CHECK(map["snapshot"]["consistent"] == false);
  CHECK(std::next(map.begin(), static_cast<std::ptrdiff_t>(map.size()) - 1).key() == "snapshot");
  CHECK_FALSE(map.contains("truncated"));
  CHECK_FALSE(map.contains("problems"));
  const Json list = get("/maps?contents");
  CHECK(list["maps"][0]["entries"].size() == kMapPartBytes / 4096 + 3);
  CHECK(list["snapshot"]["consistent"] == false);
}

TEST_CASE_FIXTURE(Served, "a map that could not be read is a problem, and may be the one meant") {
  change([](Model&, MiniGuest& moved) {
    moved.put_idr("map_idr", {{3, put_map(moved, "counters", 10)}, {12, 0xffffc12300000000}});
  });
  const Json all = get("/maps");
  CHECK(all["maps"].size() == 1);
  CHECK(all["problems"][0]["at"] == "maps with id 12");
  CHECK(get("/maps/counters")["id"] == 3);
  CHECK(problem("/maps/12", 502) == "guest_fault");
  CHECK(problem("/maps/other", 502) == "guest_fault");
}

TEST_CASE_FIXTURE(Served, "programs are listed, and one has the counters of each CPU") {
  const Json all = get("/progs");
  REQUIRE(all["progs"].size() == 3);
  CHECK(all["stats_enabled"] == false);
  CHECK(all["progs"][0]["name"] == "on_switch");
  CHECK(all["progs"][0]["run_cnt"] == 201);
  CHECK_FALSE(all["progs"][0].contains("per_cpu"));
  const Json one = get("/progs/on_switch");
  CHECK(one["id"] == 5);
  CHECK(one["per_cpu"][1]["run_cnt"] == 101);
  CHECK(get("/progs/6")["name"] == "pair");
  CHECK(problem("/progs/pair", 409) == "ambiguous_name");
  CHECK(problem("/progs/7", 404) == "not_found");
}

TEST_CASE_FIXTURE(Served, "run queues are there for every possible CPU, or for one") {
  const Json all = get("/runqueues");
  REQUIRE(all["runqueues"].size() == 2);
  CHECK(all["runqueues"][1]["nr_running"] == 2);
  CHECK(all["runqueues"][1]["curr"]["comm"] == "busy");
  const Json one = get("/runqueues/1?tasks=0");
  CHECK(one["cpu"] == 1);
  CHECK(one["curr"]["pid"] == 101);
  CHECK(problem("/runqueues/2", 404) == "not_found");
  CHECK(problem("/runqueues/x", 400) == "invalid_request");
  CHECK(problem("/runqueues?tasks=many", 400) == "invalid_request");
  CHECK(problem("/runqueues?format=json", 400) == "invalid_request");
  CHECK(problem("/runqueues?format=crash&tasks=0", 400) == "invalid_request");
}

TEST_CASE_FIXTURE(Served, "a verdict is taken of samples, and only a few are at once") {
  std::vector<std::thread> askers;
  std::vector<Answer> answers(6);
  for (Answer& answer : answers)
    askers.emplace_back([&] { answer = api.answer("/verdict?seconds=1&interval_ms=50"); });
  for (std::thread& asker : askers) asker.join();
  const auto busy =
      std::ranges::count_if(answers, [](const Answer& answer) { return answer.status == 503; });
  CHECK(busy == 2);
  const auto taken = std::ranges::find(answers, 200, &Answer::status);
  REQUIRE(taken != answers.end());
  const Json verdict = Json::parse(taken->body);
  CHECK(verdict["not_counted"] > 5);  // this guest's clocks have not begun
  CHECK(verdict["samples"] == 0);
  CHECK(verdict["verdict"] == "inconclusive");
  CHECK(verdict["thresholds"]["imbalance"] == 4);
  for (const char* bad : {"seconds=0", "seconds=61", "seconds=-1", "seconds=99999999999999999999",
                          "interval_ms=x", "imbalance=nan", "imbalance=inf", "imbalance=0.5",
                          "fallback=-1", "sustained=0", "local_dsq=-1", "unknown=1"})
    CHECK(problem(fmt::format("/verdict?{}", bad), 400) == "invalid_request");
}

TEST_CASE_FIXTURE(Served, "an indented answer is the same answer") {
  for (const char* path :
       {"/maps", "/maps/3", "/progs", "/progs/5", "/runqueues", "/runqueues/0"}) {
    CAPTURE(std::string(path));
    Json plain = get(path);
    const std::string pretty = body(api.answer(fmt::format("{}?pretty", path)));
    CHECK(pretty.find("\n  \"snapshot\": {\n") != std::string::npos);
    Json indented = Json::parse(pretty);
    plain.erase("snapshot");
    indented.erase("snapshot");
    CHECK(plain == indented);
  }
  CHECK(body(api.answer("/status?pretty")).find("\n  \"guest\": {\n") != std::string::npos);
}

TEST_CASE_FIXTURE(Served,
                  "paths and parameters that there are not are problems that stop no guest") {
  const std::size_t before = continues();
  for (const char* path : {"/", "/map", "/maps/", "/maps/3/x", "/progs/5/x", "/runqueues/0/x",
                           "/status/x", "/healthz/x", "/guests/other/maps", "/guests/default"})
    CHECK(problem(path, 404) == "not_found");
  for (const char* path :
       {"/maps?nmae=x", "/maps/3?name=x", "/progs?raw", "/runqueues?raw", "/status?raw",
        "/healthz?x", "/maps?raw=2", "/progs?pretty=2", "/maps?raw&raw", "/%zz", "maps", ""})
    CHECK(problem(path, 400) == "invalid_request");
  CHECK(continues() == before);
}

TEST_CASE_FIXTURE(Served, "every path exists below the guest's name too") {
  const Json guests = get("/guests");
  REQUIRE(guests["guests"].size() == 1);
  CHECK(guests["guests"][0]["name"] == "default");
  CHECK(guests["guests"][0]["connection"] == "connected");
  CHECK(get("/guests/default/maps/3")["name"] == "counters");
  CHECK(get("/guests/default/progs")["progs"].size() == 3);
  CHECK(get("/guests/default/status")["guest"]["name"] == "default");
}

TEST_CASE("a guest that has not booted is not ready, and says what it waits for") {
  LiveGuest live(std::make_unique<MiniGuest>(test::load_model()));
  LiveGuest::wait_until([&] { return live.session.status().kernel.maps.attempts > 0; });
  for (const char* path : {"/maps", "/maps/3", "/progs", "/runqueues"}) {
    CAPTURE(std::string(path));
    const Answer answer = live.api.answer(path);
    CHECK(answer.status == 503);
    CHECK(answer.retry_after == 1);
    const Json json = Json::parse(answer.body);
    CHECK(json["code"] == "not_ready");
    CHECK(json["state"] == "waiting");
    CHECK(json["attempts"] > 0);
    CHECK(json["last_error"] == "paging is off: the guest has not entered its kernel yet");
  }
  CHECK(live.api.answer("/status").status == 200);
  const Answer ready = live.api.answer("/readyz");
  CHECK(ready.status == 503);
  CHECK(ready.retry_after == 1);
  CHECK(Json::parse(ready.body)["kernel"]["release"].is_null());
}

TEST_CASE("a guest of another kernel is not ready, and waiting is not advised") {
  LiveGuest live;
  live.wait_until_ready();
  const auto other = test::load_model("other.vmlinux");
  GuestSession session(live.session.config(), other);
  const Api api({&session});
  CHECK(api.answer("/readyz").status == 503);
  live.session.stop();
  session.start();
  LiveGuest::wait_until(
      [&] { return session.status().kernel.maps.state == AccessorState::kFailed; });
  const Answer answer = api.answer("/maps");
  CHECK(answer.status == 503);
  CHECK_FALSE(answer.retry_after.has_value());
  CHECK(Json::parse(answer.body)["state"] == "failed");
}

}  // namespace
}  // namespace guestscope
