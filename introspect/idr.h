// The kernel's IDR: ids and the pointers behind them.
#pragma once

#include <vector>

#include "introspect/kernel_memory.h"
#include "introspect/kernel_model.h"
#include "introspect/problem.h"

namespace guestscope {

struct IdrEntry {
  std::uint64_t id = 0;
  GuestVirt pointer;
};

/// Everything in the IDR at `idr`, in id order. One exchange for each level of the tree. The id is
/// the path to the entry and not what the object says of itself. Branches that cannot be read or
/// make no sense are reported under `name` and left out; an error means that not even the root
/// could be read. Source of truth: lib/xarray.c, include/linux/xarray.h (an entry is an inner node
/// when its low two bits are 2 and it is above 4096).
Result<std::vector<IdrEntry>> read_idr(KernelMemory& memory, const IdrModel& model, GuestVirt idr,
                                       std::string_view name, Problems& problems);

}  // namespace guestscope
