#include "daemon/crash_format.h"

#include <algorithm>

namespace guestscope {

namespace {

std::string printable(std::string text) {
  std::ranges::replace_if(text, [](char c) { return c < ' ' || c > '~'; }, '.');
  return text;
}

std::string task_text(const TaskInfo& task) {
  return fmt::format("PID: {:<5}  TASK: {:x}  COMMAND: \"{}\"\n", task.pid, task.address.value(),
                     printable(task.comm));
}

/// The tasks of a class that are in its queue. The current one stands above; only the real-time
/// class has it in its array as well while it runs, where crash finds it.
void append_tasks(std::string& text, const RunQueue& queue, std::string_view sched_class) {
  bool any = false;
  for (const QueuedTask& queued : queue.tasks) {
    if (queued.task.sched_class != sched_class || (queued.current && sched_class != "rt")) continue;
    any = true;
    text += fmt::format("     [{:3}] {}", queued.task.prio, task_text(queued.task));
  }
  if (!any) text += "     [no tasks queued]\n";
}

bool has_tasks(const RunQueue& queue, std::string_view sched_class) {
  return std::ranges::any_of(queue.tasks, [&](const QueuedTask& queued) {
    return !queued.current && queued.task.sched_class == sched_class;
  });
}

}  // namespace

std::string crash_runq(std::span<const RunQueue> queues) {
  std::string text;
  for (const RunQueue& queue : queues) {
    if (!text.empty()) text += '\n';
    text += fmt::format("CPU {} RUNQUEUE: {:x}{}\n", queue.cpu, queue.address.value(),
                        queue.online ? "" : " [OFFLINE]");
    if (!queue.readable) continue;
    text += queue.curr ? "  CURRENT: " + task_text(*queue.curr) : "  CURRENT: [unreadable]\n";
    // crash knows neither of these two, and leaves their tasks out.
    if (has_tasks(queue, "dl")) {
      text += "  DL RB_ROOT:\n";
      append_tasks(text, queue, "dl");
    }
    text += fmt::format("  RT PRIO_ARRAY: {:x}\n", queue.rt_array.value());
    append_tasks(text, queue, "rt");
    text += fmt::format("  CFS RB_ROOT: {:x}\n", queue.cfs_root.value());
    append_tasks(text, queue, "fair");
    if (has_tasks(queue, "ext")) {
      text += "  SCX LOCAL DSQ:\n";
      append_tasks(text, queue, "ext");
    }
  }
  return text;
}

}  // namespace guestscope
