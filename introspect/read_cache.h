// ReadCache: remembers small reads for as long as the guest stands still, so that code which starts
// from the same registers and tables twice (three accessors, each proving the kernel for itself)
// pays for them once.
//
// Lives within one stop of the guest. Borrows the memory below. Threads: one.
#pragma once

#include <algorithm>
#include <map>
#include <utility>

#include "arch/phys_memory.h"

namespace guestscope {

class ReadCache final : public PhysMemory {
 public:
  explicit ReadCache(PhysMemory& below) : below_(below) {}

  void read(std::span<PhysRead> reads) override {
    std::vector<PhysRead> missing;
    std::vector<PhysRead*> owners;
    for (PhysRead& request : reads) {
      const auto found = known_.find({request.address.value(), request.into.size()});
      if (found == known_.end()) {
        missing.push_back({.address = request.address, .into = request.into});
        owners.push_back(&request);
      } else {
        request.error.reset();
        std::ranges::copy(found->second, request.into.begin());
      }
    }
    if (missing.empty()) return;
    below_.read(missing);
    for (std::size_t i = 0; i < missing.size(); ++i) {
      owners[i]->error = std::move(missing[i].error);
      if (!owners[i]->error && missing[i].into.size() <= kMaxRemembered)
        known_.insert_or_assign({missing[i].address.value(), missing[i].into.size()},
                                Bytes(missing[i].into.begin(), missing[i].into.end()));
    }
  }

 private:
  static constexpr std::size_t kMaxRemembered = 4096;

  PhysMemory& below_;
  std::map<std::pair<std::uint64_t, std::size_t>, Bytes> known_;
};

}  // namespace guestscope
