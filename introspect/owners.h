// Owners: the things of the kernel that user space knows by other names than a pointer: tasks,
// inodes, cgroups. Facts of many at once, for whatever points to them (local storage, arrays of
// cgroups, links).
//
// One answer for each pointer, in the same order; an error for a null pointer, for what could not
// be read, and for every one of them when the kernel's types lack the structure. A single fact that
// could not be read is null, and `problems` says why. Reads in batches:
// exchanges grow with the depth of the structures (of cgroups, nested ones), not with the number of
// pointers. Threads: the one that owns the memory. Text is the guest's.
// Source of truth: include/linux/sched.h, fs.h, cgroup-defs.h, kernfs.h.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "introspect/facts.h"
#include "introspect/kernel_memory.h"
#include "introspect/layouts.h"
#include "introspect/problem.h"

namespace guestscope {

/// `pointers`: to struct task_struct. Facts: pid (of the thread), tgid, comm; both as the initial
/// namespace numbers them.
std::vector<Result<Facts>> describe_tasks(KernelMemory& memory, Layouts& layouts,
                                          std::span<const GuestVirt> pointers);

/// `pointers`: to struct inode. Facts: inode (its number), dev ("MAJOR:MINOR" of its file system),
/// type ("file", "directory", "symlink", "socket", "fifo", "block_device", "char_device").
std::vector<Result<Facts>> describe_inodes(KernelMemory& memory, Layouts& layouts,
                                           std::span<const GuestVirt> pointers, Problems& problems);

/// `pointers`: to struct cgroup. Facts: cgroup_id, path ("/" for a root; within its hierarchy, as
/// /proc/PID/cgroup shows it in the initial namespace). The path is null when a part of it could
/// not be read.
std::vector<Result<Facts>> describe_cgroups(KernelMemory& memory, Layouts& layouts,
                                            std::span<const GuestVirt> pointers,
                                            Problems& problems);

/// The same for struct kernfs_node of a cgroup file system.
std::vector<Result<Facts>> describe_cgroup_nodes(KernelMemory& memory, Layouts& layouts,
                                                 std::span<const GuestVirt> pointers,
                                                 Problems& problems);

/// "MAJOR:MINOR" of a dev_t of the kernel's own.
std::string device_number(std::uint64_t dev);

}  // namespace guestscope
