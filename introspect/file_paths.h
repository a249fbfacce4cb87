// Paths of files, as the guest's first processes see them, from what the kernel keeps of an open
// file (struct path: a mount and a directory entry).
//
// Threads: the one that owns the memory. One answer for each, in order; exchanges grow with the
// depth of the deepest path. Text is the guest's. Source of truth: fs/d_path.c, fs/mount.h.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "introspect/kernel_memory.h"
#include "introspect/layouts.h"

namespace guestscope {

struct FilePlace {
  GuestVirt mount;   ///< a struct vfsmount
  GuestVirt dentry;  ///< a struct dentry
};

/// kCorrupt for what has no end, kNotMapped for null pointers, and as reading fails.
std::vector<Result<std::string>> read_paths(KernelMemory& memory, Layouts& layouts,
                                            std::span<const FilePlace> places);

}  // namespace guestscope
