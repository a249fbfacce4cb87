// The ids, and names, of BPF programs and maps that something points to: slots of prog arrays and
// of maps of maps, devices' programs, links.
//
// One answer for each pointer, in the same order; an error for a null pointer, for what could not
// be read, and for every one of them when the kernel's types lack the structure. Two exchanges for
// programs and one for maps, however many there are (up to about ten thousand; then again).
// Threads: the one that owns the memory. Source of truth: include/linux/bpf.h.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "introspect/facts.h"
#include "introspect/kernel_memory.h"
#include "introspect/layouts.h"

namespace guestscope {

struct ObjectId {
  std::uint64_t id = 0;  ///< 0: the object has none any more, it is about to be freed
  std::string name;      ///< guest bytes; may be empty
};

/// `pointers`: to struct bpf_prog.
std::vector<Result<ObjectId>> read_prog_ids(KernelMemory& memory, Layouts& layouts,
                                            std::span<const GuestVirt> pointers);
/// `pointers`: to struct bpf_map.
std::vector<Result<ObjectId>> read_map_ids(KernelMemory& memory, Layouts& layouts,
                                           std::span<const GuestVirt> pointers);

}  // namespace guestscope
