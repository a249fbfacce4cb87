// ScxNames: what the kernel calls the states, flags and queues of sched_ext. Internal to
// introspect/.
//
// Owns its names. Threads: immutable. A kernel that lacks an enum gets numbers ("bit_3").
// Source of truth: kernel/sched/ext_internal.h, include/linux/sched/ext.h; the values and names are
// taken from the enums in BTF.
#pragma once

#include "introspect/enum_names.h"
#include "introspect/facts.h"

namespace guestscope {

class ScxNames {
 public:
  explicit ScxNames(const Btf& btf);

  /// Of a dispatch queue: "local", "local_on:3", "global", "bypass", …; "0x1f" for one that the
  /// scheduler has made.
  std::string queue(std::uint64_t id) const;
  FactList task_flags(std::uint64_t flags) const;     ///< without the state, which shares the word
  std::string task_state(std::uint64_t flags) const;  ///< "none", "init", "ready", "enabled"
  std::string ops_state(std::uint64_t word) const;    ///< "none", "queueing", "queued", …
  std::string state(std::uint64_t value) const { return states_.name_or_number(value, "state"); }
  std::string exit_kind(std::uint64_t kind) const { return exits_.name_or_number(kind, "exit"); }
  FactList exit_flags(std::uint64_t flags) const { return list(exit_flags_, flags); }
  FactList ops_flags(std::uint64_t flags) const { return list(ops_flags_, flags); }
  FactList rq_flags(std::uint64_t flags) const { return list(rq_flags_, flags); }
  /// Of scx_dsq_list_node.flags: what stands in a queue is an iterator's place and no task.
  std::uint64_t cursor_flag() const { return cursor_; }

 private:
  static FactList list(const EnumNames& names, std::uint64_t flags);

  EnumNames states_, exits_, exit_flags_, ops_flags_, rq_flags_;
  EnumNames queues_, task_flags_, task_states_, ops_states_;
  std::uint64_t builtin_, local_on_, cpu_mask_;
  std::uint64_t state_mask_, reason_mask_, ops_shift_, cursor_;
};

}  // namespace guestscope
