#include "introspect/run_queues.h"

#include <algorithm>

#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

using Rq = RunQueueModel::Rq;
using Task = RunQueueModel::Task;

// SCHED_* of include/uapi/linux/sched.h: numbers of the system-call interface, which never change.
constexpr std::array<std::string_view, 8> kPolicies = {"normal",   "fifo", "rr",       "batch",
                                                       "policy_4", "idle", "deadline", "ext"};

/// Task state bits of include/linux/sched.h that have kept their values since 5.10.
struct StateName {
  std::uint64_t bit;
  std::string_view name;
};
constexpr StateName kStates[] = {{0x01, "sleeping"}, {0x02, "uninterruptible"}, {0x04, "stopped"},
                                 {0x08, "traced"},   {0x40, "parked"},          {0x80, "dead"}};

std::string policy_name(std::uint64_t policy) {
  return policy < kPolicies.size() ? std::string(kPolicies[policy])
                                   : fmt::format("policy_{}", policy);
}

std::string state_name(std::uint64_t state) {
  if (state == 0) return "running";
  for (const StateName& known : kStates)
    if ((state & known.bit) != 0) return std::string(known.name);
  return fmt::format("state_{:#x}", state);
}

std::string class_name(const RunQueueModel& model, const KernelLocation& location,
                       GuestVirt sched_class) {
  for (const auto& [address, name] : model.classes)
    if (location.at(address) == sched_class) return name;
  return fmt::format("class_{:#x}", sched_class.value());
}

RunQueue::Figure figure(const StructView& view, std::size_t field) {
  return view.has(field) ? std::optional(view.u64(field)) : std::nullopt;
}

void decode_queues(RunQueue& queue, const StructView& rq) {
  queue.cfs_nr_running = figure(rq, Rq::kCfsNrRunning);
  queue.cfs_h_nr_running = figure(rq, Rq::kCfsHNrRunning);
  queue.cfs_load_weight = figure(rq, Rq::kCfsLoadWeight);
  queue.cfs_min_vruntime = figure(rq, Rq::kCfsMinVruntime);
  queue.cfs_load_avg = figure(rq, Rq::kCfsLoadAvg);
  queue.cfs_runnable_avg = figure(rq, Rq::kCfsRunnableAvg);
  queue.cfs_util_avg = figure(rq, Rq::kCfsUtilAvg);
  queue.rt_nr_running = figure(rq, Rq::kRtNrRunning);
  queue.rt_time_ns = figure(rq, Rq::kRtTime);
  queue.rt_runtime_ns = figure(rq, Rq::kRtRuntime);
  if (rq.has(Rq::kRtThrottled)) queue.rt_throttled = rq.u64(Rq::kRtThrottled) != 0;
  queue.dl_nr_running = figure(rq, Rq::kDlNrRunning);
  queue.dl_running_bw = figure(rq, Rq::kDlRunningBw);
}

void decode_rq(RunQueue& queue, const StructView& rq) {
  queue.readable = true;
  queue.nr_running = rq.u64(Rq::kNrRunning);
  queue.nr_switches = figure(rq, Rq::kNrSwitches);
  // Unsigned in the kernel, int or long by version; a task may wake up on another CPU than it slept
  // on.
  if (rq.has(Rq::kNrUninterruptible)) queue.nr_uninterruptible = rq.s64(Rq::kNrUninterruptible);
  queue.clock = figure(rq, Rq::kClock);
  queue.clock_task = figure(rq, Rq::kClockTask);
  queue.idle = rq.has(Rq::kIdle) && rq.pointer(Rq::kCurr) == rq.pointer(Rq::kIdle);
  decode_queues(queue, rq);
}

CurrentTask decode_task(const RunQueueModel& model, const KernelLocation& location,
                        const StructView& task) {
  return {.pid = task.s64(Task::kPid),
          .tgid = task.s64(Task::kTgid),
          .comm = std::string(task.text(Task::kComm)),
          .sched_class = class_name(model, location, task.pointer(Task::kClass)),
          .policy = policy_name(task.u64(Task::kPolicy)),
          .prio = task.s64(Task::kPrio),
          .state = state_name(task.u64(Task::kState))};
}

/// x86-64 before 6.15 numbers per-CPU symbols from zero; elsewhere they are addresses in the image
/// and move with it.
GuestVirt per_cpu_symbol(std::uint64_t symbol, const BootModel& boot,
                         const KernelLocation& location) {
  const bool in_image = symbol >= boot.text && symbol - boot.text < location.image_size;
  return in_image ? location.at(symbol) : GuestVirt(symbol);
}

}  // namespace

Result<std::vector<unsigned>> read_online_cpus(KernelMemory& memory, const PerCpuModel& model,
                                               const KernelLocation& location) {
  GS_ASSIGN(const Bytes mask, memory.read_bytes(location.at(model.online), model.mask_bytes));
  return cpus_in_mask(mask);
}

Result<RunQueueList> read_run_queues(KernelMemory& memory, const RunQueueModel& model,
                                     const KernelModel& kernel, const PerCpuOffsets& per_cpu) {
  RunQueueList list;
  const KernelLocation& location = per_cpu.location;
  GS_ASSIGN(const auto online, read_online_cpus(memory, *kernel.per_cpu, location));
  const GuestVirt symbol = per_cpu_symbol(model.runqueues, *kernel.boot, location);
  StructBatch queues(model.rq);
  for (const unsigned cpu : per_cpu.possible_cpus()) {
    RunQueue queue;
    queue.cpu = cpu;
    queue.online = std::ranges::binary_search(online, cpu);
    queue.address = per_cpu.on_cpu(symbol, cpu);
    queues.add(queue.address);
    list.run_queues.push_back(std::move(queue));
  }
  queues.read(memory);

  StructBatch tasks(model.task);
  for (std::size_t i = 0; i < list.run_queues.size(); ++i) {
    RunQueue& queue = list.run_queues[i];
    const auto rq = queues[i];
    GuestVirt current;
    if (!rq) {
      list.problems.add(fmt::format("runqueues[{}]", i), rq.error());
    } else if (rq->has(Rq::kCpu) && queue.online && rq->u64(Rq::kCpu) != queue.cpu) {
      list.problems.add(fmt::format("runqueues[{}]", i),
                        {.code = ErrorCode::kCorrupt,
                         .message = fmt::format("it says that it is CPU {}'s", rq->u64(Rq::kCpu)),
                         .path = {},
                         .address = queue.address.value()});
    } else if (queue.online) {
      decode_rq(queue, *rq);
      current = rq->pointer(Rq::kCurr);
    }
    tasks.add(current);
  }
  tasks.read(memory);
  for (std::size_t i = 0; i < list.run_queues.size(); ++i) {
    if (!list.run_queues[i].readable) continue;
    if (const auto task = tasks[i])
      list.run_queues[i].curr = decode_task(model, location, *task);
    else
      list.problems.add(fmt::format("runqueues[{}].curr", i), task.error());
  }
  return list;
}

}  // namespace guestscope
