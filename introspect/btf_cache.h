// BtfCache: the BTF objects of the guest's kernel (what programs have loaded, the kernel's own, its
// modules'), copied out and parsed once.
//
// An object is known by its id and size: ids are never used twice in one boot, so clear() at a
// reboot is all that is needed to stay right.
//
// The kernel's own object is not copied when the kernel file's BTF is the same, which their headers
// tell (sizes of types and strings, to the byte); types that were made from DWARF number theirs
// otherwise. A module's is split from the kernel's own, whose number of types and strings it names
// (since 5.11).
//
// Threads: one; the Btf objects handed out are immutable, keep alive what they borrow from, and may
// outlive the cache. Fails with kCorrupt when the objects contradict each other, and as reading
// memory fails. Source of truth: kernel/bpf/btf.c.
#pragma once

#include <map>
#include <memory>

#include "introspect/kernel_memory.h"
#include "introspect/kernel_model.h"

namespace guestscope {

class BtfCache {
 public:
  explicit BtfCache(std::shared_ptr<const KernelFile> kernel) : kernel_(std::move(kernel)) {}

  /// The types of the `struct btf` at `object`.
  Result<std::shared_ptr<const Btf>> get(KernelMemory& memory, const BtfObjectModel& model,
                                         GuestVirt object);
  void clear() {
    cached_.clear();
    bytes_ = 0;
  }
  /// What is read from now on may be of several instants, and so be put together wrongly: it is
  /// known until settle(), which keeps or drops it.
  void doubt() { doubtful_ = true; }
  void settle(bool was_right);

 private:
  struct Key {
    std::uint64_t id = 0;
    std::uint64_t size = 0;
    auto operator<=>(const Key&) const = default;
  };
  struct Object;

  static Result<Object> look(KernelMemory& memory, const BtfObjectModel& model, GuestVirt object);
  Result<std::shared_ptr<const Btf>> load_base(KernelMemory& memory, const BtfObjectModel& model,
                                               const Object& split);
  Result<std::shared_ptr<const Btf>> load(KernelMemory& memory, const Object& object,
                                          std::shared_ptr<const Btf> base);

  std::shared_ptr<const KernelFile> kernel_;
  std::shared_ptr<const Btf> find(const Key& key) const;
  void keep(const Key& key, std::shared_ptr<const Btf> btf);

  std::map<Key, std::shared_ptr<const Btf>> cached_;
  std::size_t bytes_ = 0;
  std::map<Key, std::shared_ptr<const Btf>> doubted_;
  std::size_t doubted_bytes_ = 0;
  bool doubtful_ = false;
};

}  // namespace guestscope
