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

TEST_CASE_FIXTURE(ProgGuest, "the counters of a CPU that has never been online are zeros unread") {
  mini::bpf_prog program = prog(aux("on_switch"));
  program.stats = 0x5000;
  count(0x5000, 0, 100, 40'000, 1);
  count(0x5000, 1, 20, 8'000, 2);
  guest.put_idr("prog_idr", {{9, guest.put(program)}});
  guest.poke("cpus_booted_once_mask", 0b01);
  const ProgList list = read();
  REQUIRE(list.progs.size() == 1);
  CHECK(list.problems.empty());
  REQUIRE(list.progs[0].per_cpu.size() == 2);
  CHECK(list.progs[0].per_cpu[1].second.runs == 0);
  CHECK(list.progs[0].total().runs == 100);
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

TEST_CASE_FIXTURE(ProgGuest, "a name beyond 15 characters is that of the machine code") {
  mini::bpf_prog_aux details = aux("a_program_whose");
  std::string_view("bpf_prog_a0a1a2a3a4a5a6a7_a_program_whose_name_is_long")
      .copy(details.ksym.name, sizeof details.ksym.name);
  guest.put_idr("prog_idr", {{1, guest.put(prog(details))}});
  const ProgInfo info = read().progs.at(0);
  CHECK(info.name == "a_program_whose_name_is_long");
  REQUIRE(info.functions.size() == 1);
  CHECK(info.functions[0].name == "a_program_whose_name_is_long");
}

TEST_CASE_FIXTURE(ProgGuest, "a symbol that fills its place or is another's names no program") {
  mini::bpf_prog_aux full = aux("a_program_whose");
  std::string("bpf_prog_a0a1a2a3a4a5a6a7_a_program_whose" + std::string(100, 'x'))
      .copy(full.ksym.name, sizeof full.ksym.name - 1);
  mini::bpf_prog_aux other = aux("a_program_whose");
  std::string_view("bpf_prog_a0a1a2a3a4a5a6a7_another").copy(other.ksym.name, 100);
  guest.put_idr("prog_idr", {{1, guest.put(prog(full))}, {2, guest.put(prog(other))}});
  for (const ProgInfo& info : read().progs) CHECK(info.name == "a_program_whose");
}

TEST_CASE_FIXTURE(ProgGuest, "what a program is attached to is named by its own details") {
  mini::btf types{};
  types.id = 1;
  const char name[] = "do_nanosleep";
  mini::bpf_prog_aux details = aux("on_sleep");
  details.attach_btf_id = 61'513;
  details.attach_btf = guest.put(types);
  details.attach_func_name = guest.put(name);
  mini::bpf_prog_aux dangling = details;
  dangling.attach_btf = 0;  // kernels that have the field hold nothing then
  guest.put_idr("prog_idr", {{1, guest.put(prog(details))}, {2, guest.put(prog(dangling))}});
  const ProgList list = read();
  CHECK(list.progs[0].attach.target_name == "do_nanosleep");
  CHECK(list.progs[0].attach.target_btf_id == 61'513);
  CHECK(list.progs[0].attach.target_obj_id == 1);
  CHECK(list.progs[1].attach.target_name.empty());
}

struct CodeGuest : ProgGuest {
  /// A program of these instructions, 8 bytes each.
  ProgInfo with_code(mini::bpf_prog made, std::span<const std::uint64_t> insns) {
    made.len = static_cast<std::uint32_t>(insns.size());
    const std::uint64_t at = guest.allocate(sizeof made + insns.size_bytes());
    guest.write_object(at, made);
    guest.write(at + offsetof(mini::bpf_prog, insns_start), std::as_bytes(insns));
    guest.put_idr("prog_idr", {{1, at}});
    return read().progs.at(0);
  }
};

TEST_CASE_FIXTURE(CodeGuest,
                  "instructions name maps by their ids and calls as programs make them") {
  mini::bpf_map_ops ops{};
  ops.map_direct_value_meta = 1;
  mini::bpf_array array{};
  array.map.ops = guest.put(ops);
  array.map.map_type = 2;
  array.map.max_entries = 1;
  array.map.id = 0x21;
  array.elem_size = 16;
  const std::uint64_t map = guest.put(array);
  const std::uint64_t value = map + offsetof(mini::bpf_array, value_start);
  const std::uint64_t used[] = {map};
  mini::bpf_prog_aux details = aux("coded");
  details.used_map_cnt = 1;
  details.used_maps = guest.put(used);
  const auto low = [](std::uint64_t address) { return address << 32; };
  const auto high = [](std::uint64_t address) { return address >> 32 << 32; };
  const std::uint64_t insns[] = {0x118 | low(map),
                                 high(map),
                                 0x218 | low(value + 8),
                                 high(value + 8),
                                 0x318 | low(value + 16),
                                 high(value + 16),
                                 0xf5 | low(0xbad),
                                 0xe5 | low(4),
                                 0x7139,
                                 0x71b9,
                                 0x71bb,
                                 0x7179,
                                 0x95,
                                 0x18};
  const std::uint64_t shown[] = {0x1118 | low(0x21),
                                 low(0),
                                 0x2218 | low(0x21),
                                 low(8),
                                 0x318 | low(value + 16),
                                 high(value + 16),
                                 0x85 | low(12),
                                 0x85 | low(4),
                                 0x7179,
                                 0x7179,
                                 0x717b,
                                 0x7179,
                                 0x95,
                                 0x18};
  const ProgInfo info = with_code(prog(details), insns);
  const auto code = kernel.prog_code(guest.memory, info, ProgCode::kXlated);
  REQUIRE(code);
  REQUIRE(code->size() == sizeof shown);
  for (std::size_t i = 0; i < std::size(shown); ++i) {
    CAPTURE(i);
    CHECK(fmt::format("{:016x}", load_le(code->data() + i * 8, 8)) ==
          fmt::format("{:016x}", shown[i]));
  }
}

TEST_CASE("a call of a function shows its number and distance, whichever way they are kept") {
  // Functions of 4, 2 and 40000 instructions; calls are instructions 1 and 2 of the first.
  const std::uint64_t functions[] = {0, 4, 6, 40'006};
  const auto call = [](std::uint64_t off, std::uint64_t imm) {
    return 0x1085 | (off & 0xffff) << 16 | imm << 32;
  };
  const auto show = [&](std::uint64_t insn) {
    std::uint64_t insns[] = {0xb7, insn};
    show_insns(std::as_writable_bytes(std::span(insns)), {}, functions);
    return insns[1];
  };
  CHECK(show(call(4, 2)) == call(4, 2));
  CHECK(show(call(2, 4)) == call(4, 2));
  CHECK(show(call(3, 40'004)) == call(0, 3));
  CHECK(show(call(9, 4)) == call(9, 4));
}

TEST_CASE_FIXTURE(CodeGuest, "machine code is that of all functions, one after the other") {
  const std::array<char, 4> first{'a', 'b', 'c', 'd'};
  const std::array<char, 2> second{'e', 'f'};
  mini::bpf_prog one{};
  one.bpf_func = guest.put(first);
  one.jited_len = 4;
  mini::bpf_prog two{};
  two.bpf_func = guest.put(second);
  two.jited_len = 2;
  const std::uint64_t functions[] = {guest.put(one), guest.put(two)};
  mini::bpf_prog_aux details = aux("main");
  details.func_cnt = 2;
  details.func = guest.put(functions);
  ProgInfo info = with_code(prog(details), {});
  const auto code = kernel.prog_code(guest.memory, info, ProgCode::kJited);
  REQUIRE(code);
  CHECK(text_in(*code) == "abcdef");
  info.functions[1].bytes = std::uint64_t{1} << 40;
  CHECK(kernel.prog_code(guest.memory, info, ProgCode::kJited).error().code == ErrorCode::kCorrupt);
  info.xlated_bytes = std::uint64_t{1} << 34;
  CHECK(kernel.prog_code(guest.memory, info, ProgCode::kXlated).error().code ==
        ErrorCode::kCorrupt);
}

TEST_CASE_FIXTURE(CodeGuest, "an interpreted program has no machine code") {
  mini::bpf_prog made = prog(aux("slow"));
  made.jited = 0;
  const ProgInfo info = with_code(made, {});
  CHECK(info.functions.empty());
  CHECK(kernel.prog_code(guest.memory, info, ProgCode::kJited).error().code ==
        ErrorCode::kNotFound);
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
