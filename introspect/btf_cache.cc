#include "introspect/btf_cache.h"

#include "introspect/limits.h"
#include "introspect/struct_batch.h"

namespace guestscope {

Result<std::shared_ptr<const Btf>> BtfCache::get(KernelMemory& memory, const BtfObjectModel& model,
                                                 GuestVirt object) {
  using Field = BtfObjectModel::Field;
  StructBatch batch(model.layout);
  batch.add(object);
  batch.read(memory);
  GS_ASSIGN(const StructView view, batch[0]);
  const bool split = !view.pointer(Field::kBase).is_null();
  if (view.u64(Field::kIsKernel) != 0 && !split) return kernel();

  const Key key{.id = view.u64(Field::kId), .size = view.u64(Field::kDataSize)};
  if (const auto found = cached_.find(key); found != cached_.end()) return found->second;
  if (key.size > kMaxCachedBtfBytes)
    return fail_at(object.value(), ErrorCode::kCorrupt, "BTF object {} claims {} bytes", key.id,
                   key.size);
  GS_ASSIGN(Bytes bytes, memory.read_bytes(view.pointer(Field::kData), key.size));
  GS_ASSIGN(Btf parsed, Btf::parse(std::move(bytes), fmt::format("BTF object {}", key.id),
                                   split ? &kernel_->btf() : nullptr));
  // What is split from the kernel's BTF borrows from it, so it keeps the kernel file alive.
  struct Held {
    std::shared_ptr<const KernelFile> base;
    Btf btf;
  };
  const auto held = std::make_shared<const Held>(Held{.base = kernel_, .btf = std::move(parsed)});
  const std::shared_ptr<const Btf> shared(held, &held->btf);
  if (bytes_ + shared->memory_bytes() > kMaxCachedBtfBytes) clear();
  bytes_ += shared->memory_bytes();
  cached_.emplace(key, shared);
  return shared;
}

}  // namespace guestscope
