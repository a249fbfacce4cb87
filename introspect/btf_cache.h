// BtfCache: the BTF objects that programs have loaded into the guest's kernel, copied out and
// parsed once.
//
// An object is known by its id and size: ids are never used twice in one boot, so clear() at a
// reboot is all that is needed to stay right. A map of kernel types names the kernel's own BTF,
// which is the kernel file's: unless its types were made from something else (DWARF), whose ids say
// nothing about the guest's; the guest's own are then read like any other object.
//
// Threads: one; the Btf objects handed out are immutable and may outlive the cache.
#pragma once

#include <map>
#include <memory>

#include "introspect/kernel_memory.h"
#include "introspect/kernel_model.h"

namespace guestscope {

class BtfCache {
 public:
  explicit BtfCache(std::shared_ptr<const KernelFile> kernel) : kernel_(std::move(kernel)) {}

  /// The kernel's own types.
  std::shared_ptr<const Btf> kernel() const { return {kernel_, &kernel_->btf()}; }
  /// The types of the `struct btf` at `object`.
  Result<std::shared_ptr<const Btf>> get(KernelMemory& memory, const BtfObjectModel& model,
                                         GuestVirt object);
  void clear() {
    cached_.clear();
    bytes_ = 0;
  }

 private:
  struct Key {
    std::uint64_t id = 0;
    std::uint64_t size = 0;
    auto operator<=>(const Key&) const = default;
  };

  Result<std::shared_ptr<const Btf>> get(KernelMemory& memory, const BtfObjectModel& model,
                                         GuestVirt object, bool may_be_split);

  std::shared_ptr<const KernelFile> kernel_;
  std::map<Key, std::shared_ptr<const Btf>> cached_;
  std::size_t bytes_ = 0;
};

}  // namespace guestscope
