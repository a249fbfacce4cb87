// What a verdict says of samples that are made up.
#include "daemon/verdict.h"

#include <doctest/doctest.h>

namespace guestscope {
namespace {

using Kind = Verdict::Kind;

/// `count` samples, 100 ms apart (or so many), of two CPUs with one task each and clocks that go
/// on.
std::vector<SchedSample> quiet(std::size_t count, std::uint64_t apart_ms = 100) {
  std::vector<SchedSample> samples;
  for (std::size_t i = 0; i < count; ++i) {
    SchedSample sample{.at_ms = i * apart_ms};
    for (unsigned cpu = 0; cpu < 2; ++cpu)
      sample.cpus.push_back({.cpu = cpu, .nr_running = 1, .clock = 1000 + i * 100'000'000});
    samples.push_back(std::move(sample));
  }
  return samples;
}

TEST_CASE("a guest that behaves passes, and too few samples say nothing") {
  CHECK(judge(quiet(6), {}).kind == Kind::kPass);
  CHECK(judge(quiet(5), {}).kind == Kind::kInconclusive);
  CHECK(judge({}, {}).kind == Kind::kInconclusive);
  CHECK(judge(quiet(2), {.sustained = 1}).kind == Kind::kPass);
}

TEST_CASE("a rule counts when it is broken in enough samples in a row, and not in as many apart") {
  auto samples = quiet(12);
  for (const std::size_t i : {1UL, 2UL, 3UL, 4UL, 6UL, 7UL, 8UL, 9UL})
    samples[i].cpus[1].nr_running = 9;
  CHECK(judge(samples, {}).kind == Kind::kPass);
  samples[5].cpus[1].nr_running = 10;
  const Verdict verdict = judge(samples, {});
  CHECK(verdict.kind == Kind::kFail);
  REQUIRE(verdict.violations.size() == 1);
  const Violation& violation = verdict.violations[0];
  CHECK(violation.rule == "imbalance");
  CHECK(violation.worst == 10);
  CHECK(violation.threshold == 4);
  CHECK(violation.from_ms == 100);
  CHECK(violation.to_ms == 900);
  CHECK(violation.samples == 9);
  CHECK(judge(samples, {.imbalance_ratio = 10}).kind == Kind::kPass);
}

TEST_CASE("an empty queue counts as one task, and one CPU alone is in balance") {
  auto samples = quiet(6);
  for (SchedSample& sample : samples) {
    sample.cpus[0].nr_running = 0;
    sample.cpus[1].nr_running = 4;
  }
  CHECK(judge(samples, {}).kind == Kind::kPass);
  for (SchedSample& sample : samples) sample.cpus[1].nr_running = 5;
  CHECK(judge(samples, {}).kind == Kind::kFail);
  for (SchedSample& sample : samples) sample.cpus.erase(sample.cpus.begin());
  CHECK(judge(samples, {}).kind == Kind::kPass);
}

TEST_CASE("a clock that stands on a CPU with work may be the host's doing") {
  auto samples = quiet(8, 300);
  for (SchedSample& sample : samples) sample.cpus[1].clock = 5;
  const Verdict verdict = judge(samples, {});
  CHECK(verdict.kind == Kind::kInconclusive);
  REQUIRE(verdict.violations.size() == 1);
  CHECK(verdict.violations[0].rule == "stalled_cpu");
  CHECK(verdict.violations[0].cpu == 1);
  CHECK(verdict.violations[0].samples == 7);
  const Json json = verdict_json(verdict, {});
  CHECK(json["violations"][0]["cause"] == "unknown");
  CHECK(json["verdict"] == "inconclusive");

  auto idle = samples;
  for (SchedSample& sample : idle) sample.cpus[1].idle = true;
  CHECK(judge(idle, {}).kind == Kind::kPass);
  auto empty = samples;
  for (SchedSample& sample : empty) sample.cpus[1].nr_running = 0;
  CHECK(judge(empty, {}).kind == Kind::kPass);
}

TEST_CASE("a clock that moves once a second, as without a tick, does not stand") {
  auto samples = quiet(30);
  for (std::size_t i = 0; i < samples.size(); ++i) samples[i].cpus[1].clock = 5 + i / 10;
  CHECK(judge(samples, {}).kind == Kind::kPass);
  for (std::size_t i = 10; i <= 25; ++i) samples[i].cpus[1].clock = 6;  // 1500 ms
  CHECK(judge(samples, {}).kind == Kind::kPass);
  samples[26].cpus[1].clock = 6;
  const Verdict verdict = judge(samples, {});
  CHECK(verdict.kind == Kind::kInconclusive);
  CHECK(verdict.violations.size() == 1);
  // As long as was looked, and that was too short to tell.
  for (SchedSample& sample : samples) sample.cpus[1].clock = 5;
  samples.resize(11);
  CHECK(judge(samples, {}).kind == Kind::kInconclusive);
  CHECK(judge(samples, {}).violations.empty());
}

TEST_CASE("what is broken for certain outweighs what is unknown") {
  auto samples = quiet(8, 300);
  for (SchedSample& sample : samples) {
    sample.cpus[1].clock = 5;
    sample.cpus[1].local_dsq_nr = 51;
  }
  const Verdict verdict = judge(samples, {});
  CHECK(verdict.kind == Kind::kFail);
  CHECK(verdict.violations.size() == 2);
}

TEST_CASE("figures of sched_ext have their rules") {
  auto samples = quiet(8);
  std::uint64_t count = 0;
  for (SchedSample& sample : samples) {
    sample.events = {{"select_cpu_fallback", count}, {"dispatch_keep_last", count}};
    count += 15;  // 150 a second
    sample.cpus[0].waiting_ns = 1'500'000'000;
    sample.cpus[0].waiting_task = "starved (pid 7)";
  }
  const Verdict verdict = judge(samples, {});
  CHECK(verdict.kind == Kind::kFail);
  REQUIRE(verdict.violations.size() == 2);
  CHECK(verdict.violations[0].rule == "keep_last");
  CHECK(verdict.violations[0].worst == doctest::Approx(150));
  CHECK(verdict.violations[1].rule == "starving");
  CHECK(verdict.violations[1].detail == "starved (pid 7)");
  CHECK(judge(samples, {.keep_last_rate = 150, .starving_ms = 1500}).kind == Kind::kPass);
  // A scheduler that was loaded anew counts from the beginning.
  for (SchedSample& sample : samples) sample.cpus[0].waiting_ns.reset();
  samples[4].events["dispatch_keep_last"] = 0;
  CHECK(judge(samples, {}).kind == Kind::kPass);
}

TEST_CASE("samples that look uninitialised do not count, and end a row") {
  auto samples = quiet(12);
  for (SchedSample& sample : samples) sample.cpus[1].nr_running = 9;
  samples[4].cpus[1].nr_running = 0xffffffff;
  for (CpuSample& cpu : samples[9].cpus) cpu.clock = 0;
  const Verdict verdict = judge(samples, {});
  CHECK(verdict.not_counted == 2);
  CHECK(verdict.samples == 10);
  CHECK(verdict.kind == Kind::kPass);
  CHECK(judge(samples, {.sustained = 4}).kind == Kind::kFail);
}

TEST_CASE("a pause by the owner makes a verdict inconclusive, unless a rule was broken before") {
  auto samples = quiet(7);
  for (SchedSample& sample : samples) sample.cpus[1].nr_running = 9;
  samples.back().paused = true;
  CHECK(judge(samples, {}).kind == Kind::kFail);
  CHECK(judge(samples, {}).not_counted == 1);
  samples[4].paused = true;  // four before it
  const Verdict verdict = judge(samples, {});
  CHECK(verdict.kind == Kind::kInconclusive);
  CHECK(verdict.reason == "the guest is paused by its owner");
  CHECK(verdict.violations.empty());
}

TEST_CASE("fair tasks that sleep and are still queued do not count as waiting") {
  RunQueueList list;
  list.run_queues.resize(4);
  const auto set = [&](std::size_t cpu, std::uint64_t nr_running, Facts cfs) {
    RunQueue& queue = list.run_queues[cpu];
    queue.online = queue.readable = true;
    queue.nr_running = nr_running;
    queue.figures = {{.name = "cfs", .value = std::move(cfs)}};
  };
  set(0, 9, {{.name = "h_nr_delayed", .value = 7U}, {.name = "h_nr_runnable", .value = 9U}});
  set(1, 9, {{.name = "h_nr_running", .value = 8U}, {.name = "h_nr_runnable", .value = 3U}});
  set(2, 9, {{.name = "h_nr_running", .value = 8U}});
  set(3, 1, {{.name = "h_nr_delayed", .value = 4U}});  // not in the same moment
  const SchedSample sample = make_sample(list, {}, 0);
  CHECK(sample.cpus[0].nr_running == 2);
  CHECK(sample.cpus[1].nr_running == 4);
  CHECK(sample.cpus[2].nr_running == 9);
  CHECK(sample.cpus[3].nr_running == 1);
}

TEST_CASE("a sample has the CPUs that are online and could be read") {
  RunQueueList list;
  list.run_queues.resize(3);
  list.run_queues[0].online = list.run_queues[0].readable = true;
  list.run_queues[0].nr_running = 2;
  list.run_queues[0].figures = {
      {.name = "clock", .value = 5U},
      {.name = "scx", .value = Facts{{.name = "local_dsq_nr", .value = 3U}}}};
  list.run_queues[1].cpu = 1;
  list.run_queues[2].cpu = 2;
  list.run_queues[2].online = true;
  const Facts waiting{{.name = "waiting_ns", .value = std::uint64_t{9}},
                      {.name = "pid", .value = std::int64_t{11}},
                      {.name = "comm", .value = "late"}};
  const Facts scx{
      {.name = "events", .value = Facts{{.name = "dispatch_keep_last", .value = std::int64_t{4}}}},
      {.name = "cpus",
       .value = FactList{
           Facts{{.name = "cpu", .value = 0U}, {.name = "oldest_runnable", .value = waiting}},
           Facts{{.name = "cpu", .value = 5U}, {.name = "oldest_runnable", .value = waiting}}}}};
  const SchedSample sample = make_sample(list, scx, 7);
  CHECK(sample.at_ms == 7);
  REQUIRE(sample.cpus.size() == 1);
  CHECK(sample.cpus[0].nr_running == 2);
  CHECK(sample.cpus[0].clock == 5);
  CHECK(sample.cpus[0].local_dsq_nr == 3);
  CHECK(sample.cpus[0].waiting_ns == 9);
  CHECK(sample.cpus[0].waiting_task == "late (pid 11)");
  CHECK(sample.events.at("dispatch_keep_last") == 4);
}

}  // namespace
}  // namespace guestscope
