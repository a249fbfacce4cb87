#include "introspect/kernel_stats.h"

#include <doctest/doctest.h>

#include "introspect/pressure.h"
#include "tests/support/mini_guest.h"

namespace guestscope {
namespace {

using test::MiniGuest;
using test::refresh;

struct StatsGuest {
  StatsGuest() : guest(MiniGuest::booted(test::load_model())), kernel(guest.model, nullptr) {
    refresh(kernel, guest);
    for (const char* name : {"avenrun", "nr_threads", "total_forks", "tick_nohz_active",
                             "last_jiffies_update", "psi_disabled", "sched_schedstats"})
      guest.poke(name, 0);
    guest.poke("psi_system", 0, offsetof(mini::psi_group, avg_last_update));
    for (const unsigned cpu : {0U, 1U}) {
      mini::rq queue{};
      queue.cpu = cpu;
      guest.write_object(on(cpu, "runqueues"), queue);
      guest.write_object(on(cpu, "kstat"), mini::kernel_stat{});
      guest.write_object(on(cpu, "kernel_cpustat"), mini::kernel_cpustat{});
      guest.write_object(on(cpu, "tick_cpu_sched"), mini::tick_sched{});
    }
    std::array<char, 64> name{'T', 'I', 'M', 'E', 'R'};
    guest.poke("softirq_to_name", guest.put(name));
    guest.poke("softirq_to_name", guest.put(std::array<char, 64>{'R', 'C', 'U'}), 8);
  }

  std::uint64_t on(unsigned cpu, const char* symbol) const {
    return guest.area_offset(cpu) + guest.link(symbol);
  }
  FactReport read() {
    auto report = kernel.stats(guest.memory);
    if (!report) FAIL(report.error().to_string());
    return *std::move(report);
  }

  MiniGuest guest;
  GuestKernel kernel;
};

std::uint64_t number_of(const Facts& facts, std::string_view path) {
  const FactValue* value = find_fact(facts, path);
  REQUIRE(value != nullptr);
  return std::get<std::uint64_t>(value->get());
}
Facts cpu_of(const FactReport& report, std::size_t cpu) {
  const FactValue* cpus = find_fact(report.facts, "cpus");
  REQUIRE(cpus != nullptr);
  return std::get<Facts>(std::get<FactList>(cpus->get()).at(cpu).get());
}

TEST_CASE_FIXTURE(StatsGuest, "totals are sums over CPUs, and each CPU has its own") {
  for (const unsigned cpu : {0U, 1U}) {
    mini::rq queue{};
    queue.cpu = cpu;
    queue.nr_running = 2 + cpu;
    queue.nr_switches = 100;
    queue.nr_iowait.counter = 1;
    queue.yld_count = 4 + cpu;
    queue.rq_cpu_time = 5;
    guest.write_object(on(cpu, "runqueues"), queue);
    guest.write_object(on(cpu, "kstat"), mini::kernel_stat{.irqs_sum = 77, .softirqs = {3, 8}});
    guest.write_object(on(cpu, "kernel_cpustat"), mini::kernel_cpustat{{1, 2, 3, 4, 5, 6, 7}});
  }
  guest.poke("nr_threads", 0xffffffff'00000053);  // four bytes of it
  guest.poke("total_forks", 1234);
  guest.poke("avenrun", 2048 + 1024);
  const FactReport report = read();
  CHECK(report.problems.empty());
  CHECK(number_of(report.facts, "nr_running") == 5);
  CHECK(number_of(report.facts, "context_switches") == 200);
  CHECK(number_of(report.facts, "nr_threads") == 0x53);
  CHECK(number_of(report.facts, "total_forks") == 1234);
  const auto& load = std::get<FactList>(find_fact(report.facts, "load_average")->get());
  CHECK(std::get<double>(load[0].get()) == 1.5);
  const Facts cpu = cpu_of(report, 1);
  CHECK(number_of(cpu, "interrupts") == 77);
  CHECK(number_of(cpu, "softirqs.timer") == 3);
  CHECK(number_of(cpu, "softirqs.rcu") == 8);
  CHECK(number_of(cpu, "sched.yld_count") == 5);
  CHECK(number_of(cpu, "sched.rq_cpu_time_ns") == 5);
  CHECK(find_fact(cpu, "sched.pcount") == nullptr);
  CHECK(number_of(cpu, "time_ns.user") == 1);
  CHECK(number_of(cpu, "time_ns.softirq") == 4);
  CHECK(number_of(cpu, "time_ns.idle") == 6);
  CHECK(number_of(cpu, "time_ns.iowait") == 7);
}

TEST_CASE_FIXTURE(StatsGuest, "an idle CPU's time goes on to the latest time that memory has") {
  guest.poke("tick_nohz_active", 1);
  guest.write_object(on(0, "kernel_cpustat"), mini::kernel_cpustat{{0, 0, 0, 0, 0, 60, 70}});
  mini::tick_sched tick{.idle_entrytime = 1000,
                        .idle_waketime = 900,
                        .idle_sleeptime = 500,
                        .iowait_sleeptime = 300,
                        .flags = 1U << 2};
  guest.write_object(on(0, "tick_cpu_sched"), tick);
  guest.poke("last_jiffies_update", 1400);
  CHECK(number_of(cpu_of(read(), 0), "time_ns.idle") == 900);
  CHECK(number_of(read().facts, "uptime_ns") == 1400);

  SUBCASE("as waiting, when a task waits for I/O there") {
    mini::rq queue{};
    queue.nr_iowait.counter = 1;
    guest.write_object(on(0, "runqueues"), queue);
    CHECK(number_of(cpu_of(read(), 0), "time_ns.idle") == 500);
    CHECK(number_of(cpu_of(read(), 0), "time_ns.iowait") == 700);
  }
  SUBCASE("not when it runs") {
    tick.flags = 0;
    guest.write_object(on(0, "tick_cpu_sched"), tick);
    CHECK(number_of(cpu_of(read(), 0), "time_ns.idle") == 500);
  }
  SUBCASE("which may be when another CPU went to sleep") {
    mini::tick_sched other{};
    other.idle_entrytime = 1700;
    guest.write_object(on(1, "tick_cpu_sched"), other);
    CHECK(number_of(cpu_of(read(), 0), "time_ns.idle") == 1200);
    CHECK(number_of(read().facts, "uptime_ns") == 1700);
  }
  SUBCASE("not where ticks are never stopped") {
    guest.poke("tick_nohz_active", 0);
    CHECK(number_of(cpu_of(read(), 0), "time_ns.idle") == 60);
  }
}

TEST_CASE_FIXTURE(StatsGuest, "pressure by resource; none of CPUs that is full") {
  mini::psi_group group{};
  group.avg_last_update = 42;
  group.total[0][0] = 5'999;  // io some
  group.total[0][2] = 7'000;  // cpu some
  group.total[1][0] = 1;      // what triggers count
  group.avg[2][1] = 2048 * 3 + 1024 + 20;
  guest.memory.write(guest.phys_of("psi_system"), std::as_bytes(std::span(&group, 1)));
  const FactReport report = read();
  CHECK(number_of(report.facts, "pressure.io.some.total_us") == 5);
  CHECK(number_of(report.facts, "pressure.cpu.some.total_us") == 7);
  CHECK(std::get<double>(find_fact(report.facts, "pressure.cpu.some.avg60")->get()) == 3.5);
  CHECK(number_of(report.facts, "pressure.updated_at_ns") == 42);
  CHECK(find_fact(report.facts, "pressure.io.full") != nullptr);
  CHECK(find_fact(report.facts, "pressure.cpu.full") == nullptr);
  CHECK(find_fact(report.facts, "pressure.memory") == nullptr);

  guest.poke("psi_disabled", 1);
  CHECK(std::get<Facts>(find_fact(read().facts, "pressure")->get()).size() == 1);
}

TEST_CASE_FIXTURE(StatsGuest, "offline CPUs count in totals only; what is gone is a problem") {
  mini::rq queue{};
  queue.cpu = 1;
  queue.nr_running = 9;
  queue.nr_switches = 50;
  guest.write_object(on(1, "runqueues"), queue);
  guest.set_online(0b01);
  guest.poke("softirq_to_name", 0xffffc12300000000);
  const FactReport report = read();
  CHECK(number_of(report.facts, "nr_running") == 0);
  CHECK(number_of(report.facts, "context_switches") == 50);
  CHECK(cpu_of(report, 1).size() == 2);
  CHECK(find_fact(cpu_of(report, 0), "softirqs.softirq_0") != nullptr);
}

TEST_CASE_FIXTURE(StatsGuest, "of CPUs that have never been online nothing is read") {
  mini::rq queue{};
  queue.cpu = 1;
  queue.nr_switches = 50;
  guest.write_object(on(1, "runqueues"), queue);
  guest.set_online(0b01);
  guest.poke("cpus_booted_once_mask", 0b11);
  CHECK(number_of(read().facts, "context_switches") == 50);
  guest.poke("cpus_booted_once_mask", 0b01);
  CHECK(number_of(read().facts, "context_switches") == 0);
}

TEST_CASE_FIXTURE(StatsGuest, "everything costs two exchanges") {
  const std::size_t before = guest.memory.exchanges;
  (void)read();
  CHECK(guest.memory.exchanges - before == 2);
}

TEST_CASE("fixed-point numbers have two decimals, rounded down") {
  CHECK(fixed_point(0) == 0.0);
  CHECK(fixed_point(2047) == 0.99);
  CHECK(fixed_point(2048 * 12 + 41) == 12.02);
}

}  // namespace
}  // namespace guestscope
