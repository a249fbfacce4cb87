#include "introspect/btf_cache.h"

#include <algorithm>
#include <utility>

#include "introspect/limits.h"
#include "introspect/struct_batch.h"
#include "introspect/text.h"

namespace guestscope {

namespace {

constexpr std::size_t kHeaderBytes = 24;  // sizeof(struct btf_header), as far as it tells sizes

}  // namespace

/// What a `struct btf` says.
struct BtfCache::Object {
  GuestVirt address;
  Key key;
  GuestVirt data;
  GuestVirt base;          // null: none
  bool is_kernel = false;  // the kernel's own, or a module's
  std::optional<std::uint64_t> first_id{};
  std::optional<std::uint64_t> first_string{};
  std::string name{};  // for messages
};

Result<BtfCache::Object> BtfCache::look(KernelMemory& memory, const BtfObjectModel& model,
                                        GuestVirt object) {
  using Field = BtfObjectModel::Field;
  StructBatch batch(model.layout);
  batch.add(object);
  batch.read(memory);
  GS_ASSIGN(const StructView view, batch[0]);
  const auto optional = [&](Field field) {
    return view.has(field) ? std::optional(view.u64(field)) : std::nullopt;
  };
  Object found{.address = object,
               .key = {.id = view.u64(Field::kId), .size = view.u64(Field::kDataSize)},
               .data = view.pointer(Field::kData),
               .base = view.pointer(Field::kBase),
               // Before 5.11 the kernel's own is the one without an id.
               .is_kernel = optional(Field::kIsKernel).value_or(view.u64(Field::kId) == 0) != 0,
               .first_id = optional(Field::kFirstId),
               .first_string = optional(Field::kFirstString)};
  const std::string_view name = view.text(Field::kName);
  const bool has_name = found.is_kernel && !name.empty() && is_text(name);
  found.name = has_name ? std::string(name) : fmt::format("BTF object {}", found.key.id);
  if (found.key.size > kMaxCachedBtfBytes)
    return fail_at(object.value(), ErrorCode::kCorrupt, "{} claims {} bytes", found.name,
                   found.key.size);
  return found;
}

/// The kernel's own BTF, and nothing else, is what others are split from.
Result<std::shared_ptr<const Btf>> BtfCache::load_base(KernelMemory& memory,
                                                       const BtfObjectModel& model,
                                                       const Object& split) {
  GS_ASSIGN(const Object object, look(memory, model, split.base));
  if (!split.is_kernel || !object.is_kernel || !object.base.is_null())
    return fail_at(split.address.value(), ErrorCode::kCorrupt,
                   "the types of {} continue those of {}, which are not the kernel's own",
                   split.name, object.name);
  GS_ASSIGN(auto base, load(memory, object, nullptr));
  if (split.first_id.value_or(base->type_count()) != base->type_count() ||
      split.first_string.value_or(base->string_end()) != base->string_end())
    return fail_at(split.address.value(), ErrorCode::kCorrupt,
                   "the types of {} continue others than the kernel's {}", split.name,
                   base->type_count());
  return base;
}

Result<std::shared_ptr<const Btf>> BtfCache::load(KernelMemory& memory, const Object& object,
                                                  std::shared_ptr<const Btf> base) {
  if (auto known = find(object.key)) return known;
  const ByteSpan ours = kernel_->btf().bytes();
  if (object.is_kernel && !base && ours.size() == object.key.size && ours.size() > kHeaderBytes) {
    GS_ASSIGN(const Bytes header, memory.read_bytes(object.data, kHeaderBytes));
    if (std::ranges::equal(header, ours.first(kHeaderBytes)))
      return std::shared_ptr<const Btf>(kernel_, &kernel_->btf());
  }
  GS_ASSIGN(Bytes bytes, read_in_steps(memory, object.data, object.key.size));
  GS_ASSIGN(Btf parsed, Btf::parse(std::move(bytes), object.name, base.get()));
  struct Held {
    std::shared_ptr<const Btf> base;  // the other borrows from it
    Btf btf;
  };
  const auto held =
      std::make_shared<const Held>(Held{.base = std::move(base), .btf = std::move(parsed)});
  std::shared_ptr<const Btf> shared(held, &held->btf);
  if (!doubtful_) {
    keep(object.key, shared);
  } else if (doubted_bytes_ + shared->memory_bytes() <= kMaxCachedBtfBytes) {
    doubted_bytes_ += shared->memory_bytes();
    doubted_.emplace(object.key, shared);
  }
  return shared;
}

std::shared_ptr<const Btf> BtfCache::find(const Key& key) const {
  if (const auto known = cached_.find(key); known != cached_.end()) return known->second;
  const auto doubted = doubted_.find(key);
  return doubted != doubted_.end() ? doubted->second : nullptr;
}

void BtfCache::keep(const Key& key, std::shared_ptr<const Btf> btf) {
  if (bytes_ + btf->memory_bytes() > kMaxCachedBtfBytes) clear();
  bytes_ += btf->memory_bytes();
  cached_.emplace(key, std::move(btf));
}

void BtfCache::settle(bool was_right) {
  doubtful_ = false;
  doubted_bytes_ = 0;
  for (auto& [key, btf] : std::exchange(doubted_, {}))
    if (was_right) keep(key, std::move(btf));
}

Result<std::shared_ptr<const Btf>> BtfCache::get(KernelMemory& memory, const BtfObjectModel& model,
                                                 GuestVirt object) {
  GS_ASSIGN(const Object found, look(memory, model, object));
  if (auto known = find(found.key)) return known;
  std::shared_ptr<const Btf> base;
  if (!found.base.is_null()) {
    GS_ASSIGN(base, load_base(memory, model, found));
  }
  return load(memory, found, std::move(base));
}

}  // namespace guestscope
