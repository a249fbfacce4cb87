#include "introspect/btf_cache.h"

#include "introspect/limits.h"
#include "introspect/struct_batch.h"

namespace guestscope {

Result<std::shared_ptr<const Btf>> BtfCache::get(KernelMemory& memory, const BtfObjectModel& model,
                                                 GuestVirt object) {
  return get(memory, model, object, true);
}

Result<std::shared_ptr<const Btf>> BtfCache::get(KernelMemory& memory, const BtfObjectModel& model,
                                                 GuestVirt object, bool may_be_split) {
  using Field = BtfObjectModel::Field;
  StructBatch batch(model.layout);
  batch.add(object);
  batch.read(memory);
  GS_ASSIGN(const StructView view, batch[0]);
  const bool split = !view.pointer(Field::kBase).is_null();
  if (split && !may_be_split)
    return fail_at(object.value(), ErrorCode::kCorrupt, "a base of types has a base of its own");
  // Types that a file has from elsewhere (DWARF) have other ids than the guest's own.
  if (view.u64(Field::kIsKernel) != 0 && !split &&
      view.u64(Field::kDataSize) == kernel_->btf().wire_size())
    return kernel();

  const Key key{.id = view.u64(Field::kId), .size = view.u64(Field::kDataSize)};
  if (const auto found = cached_.find(key); found != cached_.end()) return found->second;
  if (key.size > kMaxCachedBtfBytes)
    return fail_at(object.value(), ErrorCode::kCorrupt, "BTF object {} claims {} bytes", key.id,
                   key.size);
  std::shared_ptr<const Btf> base;
  if (split) {
    GS_ASSIGN(base, get(memory, model, view.pointer(Field::kBase), false));
  }
  GS_ASSIGN(Bytes bytes, memory.read_bytes(view.pointer(Field::kData), key.size));
  GS_ASSIGN(Btf parsed,
            Btf::parse(std::move(bytes), fmt::format("BTF object {}", key.id), base.get()));
  // What is split from other types borrows from them, so it keeps them alive.
  struct Held {
    std::shared_ptr<const Btf> base;
    Btf btf;
  };
  const auto held =
      std::make_shared<const Held>(Held{.base = std::move(base), .btf = std::move(parsed)});
  const std::shared_ptr<const Btf> shared(held, &held->btf);
  if (bytes_ + shared->memory_bytes() > kMaxCachedBtfBytes) clear();
  bytes_ += shared->memory_bytes();
  cached_.emplace(key, shared);
  return shared;
}

}  // namespace guestscope
