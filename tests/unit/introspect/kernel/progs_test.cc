#include <doctest/doctest.h>

#include "tests/support/mini_guest.h"

namespace guestscope {
namespace {

using test::MiniGuest;
using test::refresh;

struct ProgGuest {
  ProgGuest() : guest(MiniGuest::booted(test::load_model())), kernel(guest.model, nullptr) {
    refresh(kernel, guest);
  }

  mini::bpf_prog_aux aux(std::string_view name) {
    mini::bpf_prog_aux made{};
    made.refcnt.counter = 1;
    name.copy(made.name, sizeof made.name);
    return made;
  }
  mini::bpf_prog prog(const mini::bpf_prog_aux& aux) {
    mini::bpf_prog made{};
    made.type = 26;
    made.jited = 1;
    made.len = 64;
    made.jited_len = 300;
    for (std::uint8_t i = 0; i < 8; ++i) made.tag[i] = static_cast<std::uint8_t>(0xa0 + i);
    made.aux = guest.put(aux);
    return made;
  }
  void count(std::uint64_t stats, unsigned cpu, std::uint64_t runs, std::uint64_t ns,
             std::uint64_t misses) {
    guest.write_object(guest.area_offset(cpu) + stats,
                       mini::bpf_prog_stats{{runs}, {ns}, {misses}});
  }
  ProgList read() {
    auto list = kernel.progs(guest.memory);
    if (!list) FAIL(list.error().to_string());
    return *std::move(list);
  }

  MiniGuest guest;
  GuestKernel kernel;
};

TEST_CASE_FIXTURE(ProgGuest, "a program is shown with its counters summed over the CPUs") {
  mini::bpf_map map{};
  map.id = 33;
  const std::uint64_t used[] = {guest.put(map)};
  mini::btf types{};
  types.id = 12;
  mini::user_struct user{};
  user.uid.val = 1000;
  mini::bpf_prog_aux details = aux("on_switch");
  details.used_map_cnt = 1;
  details.used_maps = guest.put(used);
  details.btf = guest.put(types);
  details.user = guest.put(user);
  details.load_time = 5'000'000'000;
  details.verified_insns = 61;
  mini::bpf_prog program = prog(details);
  program.stats = 0x5000;
  count(0x5000, 0, 100, 40'000, 1);
  count(0x5000, 1, 20, 8'000, 2);
  guest.put_idr("prog_idr", {{9, guest.put(program)}});

  const ProgList list = read();
  REQUIRE(list.progs.size() == 1);
  CHECK(list.problems.empty());
  const ProgInfo& info = list.progs[0];
  CHECK(info.id == 9);
  CHECK(info.name == "on_switch");
  CHECK(info.type == "tracing");
  CHECK(info.tag == "a0a1a2a3a4a5a6a7");
  CHECK(info.jited);
  CHECK(info.xlated_bytes == 512);
  CHECK(info.jited_bytes == 300);
  CHECK(info.map_ids == std::vector<std::uint64_t>{33});
  CHECK(info.btf_id == 12);
  CHECK(info.uid == 1000);
  CHECK(info.loaded_at_ns == 5'000'000'000);
  CHECK(info.verified_insns == 61);
  CHECK(info.total().runs == 120);
  CHECK(info.total().nanoseconds == 48'000);
  CHECK(info.total().recursion_misses == 3);
}

TEST_CASE_FIXTURE(ProgGuest, "the size of a program with subprograms is the sum of its functions") {
  mini::bpf_prog function{};
  function.jited_len = 120;
  const std::uint64_t functions[] = {guest.put(function), guest.put(function)};
  mini::bpf_prog_aux details = aux("main");
  details.func_cnt = 2;
  details.func = guest.put(functions);
  guest.put_idr("prog_idr", {{1, guest.put(prog(details))}});
  CHECK(read().progs.at(0).jited_bytes == 240);
}

TEST_CASE_FIXTURE(ProgGuest, "whether counting is on is the state of the kernel's key") {
  CHECK(read().stats_enabled == false);
  guest.poke("bpf_stats_enabled_key", 1);
  CHECK(read().stats_enabled == true);
}

TEST_CASE_FIXTURE(ProgGuest, "damage in one program leaves the others whole") {
  mini::bpf_prog_aux absurd = aux("absurd");
  absurd.used_map_cnt = 0x7fffffff;
  absurd.func_cnt = 0x7fffffff;
  mini::bpf_prog no_stats = prog(aux("no_stats"));
  no_stats.stats = 0x70000000000;  // its per-CPU area is unmapped
  mini::bpf_prog no_aux = prog(aux("x"));
  no_aux.aux = 0xffffc12300000000;
  mini::bpf_prog_aux dying = aux("dying");
  dying.refcnt.counter = 0;
  guest.put_idr("prog_idr", {{1, guest.put(prog(absurd))},
                             {2, guest.put(no_stats)},
                             {3, guest.put(no_aux)},
                             {4, guest.put(prog(dying))},
                             {5, guest.put(prog(aux("fine")))}});
  const ProgList list = read();
  REQUIRE(list.progs.size() == 4);
  CHECK(list.progs[0].name == "absurd");
  CHECK(list.progs[1].per_cpu.empty());
  CHECK(list.progs[2].id == 3);
  CHECK(list.progs[3].name == "fine");
  CHECK(list.problems.list().size() == 4);
}

TEST_CASE_FIXTURE(ProgGuest, "many programs cost as many exchanges as one") {
  const auto cost = [&](std::uint64_t programs) {
    std::map<std::uint64_t, std::uint64_t> entries;
    for (std::uint64_t id = 1; id <= programs; ++id) entries[id] = guest.put(prog(aux("same")));
    guest.put_idr("prog_idr", entries);
    const std::size_t before = guest.memory.exchanges;
    CHECK(read().progs.size() == programs);
    return guest.memory.exchanges - before;
  };
  CHECK(cost(1) == cost(50));
}

}  // namespace
}  // namespace guestscope
