// BPF maps: which there are. (What is in them: map_contents.h.)
//
// Threads: called by the thread that owns the memory; the results are plain values that may travel.
// Source of truth: include/linux/bpf.h, kernel/bpf/syscall.c.
#pragma once

#include <string>
#include <vector>

#include "introspect/accessors.h"
#include "introspect/problem.h"

namespace guestscope {

struct MapInfo {
  std::uint64_t id = 0;
  GuestVirt address;
  std::string name;  ///< guest bytes: not necessarily UTF-8
  std::string type;  ///< "percpu_hash"; "type_40" when the kernel's own types have no name for it
  std::uint64_t key_size = 0;    ///< bytes
  std::uint64_t value_size = 0;  ///< bytes
  std::uint64_t max_entries = 0;
  std::uint64_t flags = 0;
  std::uint64_t extra = 0;  ///< map_extra: what it means depends on the type; 0 before 5.16
  std::vector<std::string> flag_names;
  bool frozen = false;
  GuestVirt btf_object;      ///< null: no types
  std::uint64_t btf_id = 0;  ///< 0: no types
  TypeId btf_key_type_id = 0;
  TypeId btf_value_type_id = 0;
  TypeId btf_vmlinux_value_type_id = 0;
};

struct MapList {
  std::vector<MapInfo> maps;  ///< in id order
  Problems problems;
};

Result<MapList> read_maps(KernelMemory& memory, const MapModel& model, const MapAccessor& accessor);

/// A map that was seen before in this boot, as it is now: one read. kNotFound when it is gone,
/// whatever lies in its place.
Result<MapInfo> read_map_again(KernelMemory& memory, const MapModel& model, const MapInfo& known);

}  // namespace guestscope
