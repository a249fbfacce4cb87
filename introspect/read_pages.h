// read_pages: a large range of guest memory, of which every page that is there is wanted.
// Internal to introspect/. Source of truth: nothing; a read fails as a whole when one page of it is
// missing.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "introspect/kernel_memory.h"

namespace guestscope {

/// Reads `into` from `at` page by page in one exchange, so that one missing page costs only what
/// lies in it; calls failed(offset, size, error) for each part that is missing. False when nothing
/// at all could be read.
template <typename Failed>
bool read_pages(KernelMemory& memory, GuestVirt at, std::span<std::byte> into, Failed failed) {
  constexpr std::size_t kPageBytes = 4096;  // the smallest there is
  std::vector<VirtRead> reads;
  for (std::size_t done = 0; done < into.size();) {
    const GuestVirt address = at.wrapping_add(done);
    const std::size_t size =
        std::min<std::size_t>(address.bytes_to_boundary(kPageBytes), into.size() - done);
    reads.push_back({.address = address, .into = into.subspan(done, size)});
    done += size;
  }
  memory.read(reads);
  std::size_t failures = 0;
  for (VirtRead& read : reads) {
    if (!read.error) continue;
    ++failures;
    failed(static_cast<std::size_t>(read.into.data() - into.data()), read.into.size(),
           std::move(*read.error));
  }
  return failures < reads.size();
}

}  // namespace guestscope
