#include "introspect/hash_walk.h"

#include <algorithm>
#include <string_view>

#include "introspect/jhash.h"
#include "introspect/limits.h"
#include "introspect/read_ahead.h"
#include "introspect/struct_batch.h"

namespace guestscope {

Result<HashTable> HashTable::read(MapReadContext& context, const MapInfo& map, HashForm form) {
  const MapModel& model = context.model;
  if (map.key_size == 0 || map.value_size == 0)
    return fail_at(map.address.value(), ErrorCode::kCorrupt, "keys of {} bytes, values of {}",
                   map.key_size, map.value_size);
  StructBatch batch(model.htab);
  batch.add(map.address);
  batch.read(context.memory);
  GS_ASSIGN(const StructView view, batch[0]);
  HashTable table{.buckets = view.pointer(MapModel::kBuckets),
                  .bucket_count = view.u64(MapModel::kBucketCount),
                  .slots = view.pointer(MapModel::kElements),
                  .slot_bytes = view.u64(MapModel::kElementBytes)};
  if (!std::has_single_bit(table.bucket_count))
    return fail_at(map.address.value(), ErrorCode::kCorrupt, "a hash table of {} buckets",
                   table.bucket_count);
  if (view.has(MapModel::kSeed)) table.seed = static_cast<std::uint32_t>(view.u64(MapModel::kSeed));
  table.key_offset = model.elem[MapModel::kKey].offset;
  table.key_bytes = map.key_size;
  table.value_offset = table.key_offset + round_up_8(map.key_size);
  table.value_bytes = form == HashForm::kValues ? map.value_size : 8;
  table.read_bytes =
      std::max<std::size_t>(table.value_offset + table.value_bytes, model.elem.extent());
  if (table.slot_bytes < table.read_bytes) table.slots = GuestVirt();
  return table;
}

HashWalk::HashWalk(MapReadContext& context, const MapInfo& map, const HashTable& table,
                   HashForm form, ContentsBuilder& builder)
    : context_(context), map_(map), table_(table), form_(form), builder_(builder) {
  builder.set_strides(round_up_8(map.key_size), round_up_8(map.value_size));
}

void HashWalk::load_slots() {
  const std::size_t count = map_.max_entries;
  const std::size_t step = std::max<std::size_t>(1, kContentStepBytes / table_.slot_bytes);
  ReadAhead ahead(context_.memory);
  ahead.put_off([&] {
    slots_.resize(count);
    owners_.reserve(count);
    builder_.append(count);
  });
  for (std::size_t first = 0; first < count; first += step) {
    const std::size_t n = std::min(step, count - first);
    ahead.read(table_.slots.wrapping_add(first * table_.slot_bytes), n * table_.slot_bytes,
               [this, first](const Result<ByteSpan>& bytes) {
                 // What of it is in use will be read on its own, and reported.
                 if (bytes) take_slots(first, *bytes);
               });
  }
  ahead.catch_up();
}

void HashWalk::take_slots(std::size_t first, ByteSpan bytes) {
  const BoundField& next = context_.model.elem[MapModel::kNext];
  const BoundField& hash = context_.model.elem[MapModel::kHash];
  for (std::size_t i = 0; i < bytes.size() / table_.slot_bytes; ++i) {
    const ByteSpan element = bytes.subspan(i * table_.slot_bytes, table_.read_bytes);
    slots_[first + i] = {.next = load_le(element.data() + next.offset, 8),
                         .hash = table_.hash_of(element, hash),
                         .readable = true};
    copy_element(element, first + i);
  }
}

void HashWalk::copy_element(ByteSpan element, std::size_t record) {
  std::ranges::copy(element.subspan(table_.key_offset, table_.key_bytes),
                    builder_.key_of(record).begin());
  if (form_ != HashForm::kPerCpu)
    std::ranges::copy(element.subspan(table_.value_offset, table_.value_bytes),
                      builder_.value_of(record, 0).begin());
}

void HashWalk::follow_buckets(std::uint64_t first, std::uint64_t count) {
  const std::size_t stride = context_.model.bucket.size();
  const std::size_t step = std::max<std::size_t>(1, kContentStepBytes / stride);
  std::vector<Chain> chains;
  ReadAhead ahead(context_.memory);
  for (const std::uint64_t end = first + count; first < end && !full_; first += step) {
    const std::size_t n = std::min<std::uint64_t>(step, end - first);
    ahead.read(table_.buckets.wrapping_add(first * stride), n * stride,
               [this, first, n, &chains](const Result<ByteSpan>& heads) {
                 if (full_) return;
                 if (heads) return take_buckets(first, *heads, chains);
                 builder_.problems().add(fmt::format("buckets {} to {}", first, first + n - 1),
                                         heads.error());
                 full_ = heads.error().code == ErrorCode::kUnreachable;
               });
    follow(std::exchange(chains, {}));
  }
  ahead.catch_up();
  follow(std::move(chains));
}

/// `chains`: gets those that are not all in the array of all elements.
void HashWalk::take_buckets(std::uint64_t first, ByteSpan heads, std::vector<Chain>& chains) {
  const std::size_t stride = context_.model.bucket.size();
  const std::size_t head = context_.model.bucket[MapModel::kFirst].offset;
  for (std::size_t i = 0; i < heads.size() / stride; ++i) {
    Chain chain{.bucket = static_cast<std::uint32_t>(first + i),
                .next = load_le(heads.data() + i * stride + head, 8)};
    if (keep(chain) && !ends_in_slots(chain)) chains.push_back(chain);
  }
}

/// Whether the chain goes on; when it has ended badly, that is reported.
bool HashWalk::keep(const Chain& chain) {
  if (!chain.ended() && chain.next != 0) return true;
  if (chain.next == 0 || chain.next >> 1 != chain.bucket)
    report(
        chain,
        "its chain ends in a foreign mark: an element has moved meanwhile, or memory is damaged");
  return false;
}

void HashWalk::follow(std::vector<Chain> chains) {
  const std::size_t step = std::max<std::size_t>(1, kContentStepBytes / table_.read_bytes);
  while (!chains.empty() && !full_) {
    std::vector<Chain> rest;
    for (std::size_t first = 0; first < chains.size() && !full_; first += step)
      read_depth(std::span(chains).subspan(first, std::min(step, chains.size() - first)), rest);
    std::erase_if(rest, [&](Chain& chain) { return ends_in_slots(chain); });
    chains = std::move(rest);
  }
}

/// Follows the chain as far as it stays in the array of all elements; true when that is its end.
bool HashWalk::ends_in_slots(Chain& chain) {
  while (!full_) {
    const auto slot = slot_at(chain.next);
    if (!slot) return false;
    if (!has_room(0) || !take(chain, *slot, slots_[*slot].hash, slots_[*slot].next)) return true;
  }
  return true;
}

bool HashWalk::has_room(std::size_t more) {
  full_ = full_ || (more != 0 && !builder_.has_room(more));
  if (!full_ && owners_.size() > map_.max_entries * 2 + kMaxCpus) {
    full_ = true;
    builder_.problems().add(
        "entries", {.code = ErrorCode::kCorrupt,
                    .message = "far more elements than max_entries: the rest is left out"});
  }
  return !full_;
}

void HashWalk::read_depth(std::span<Chain> chains, std::vector<Chain>& rest) {
  if (!has_room(chains.size())) return;
  const MapModel& model = context_.model;
  ReadBatch batch;
  batch.reserve(chains.size());
  for (const Chain& chain : chains) batch.add(GuestVirt(chain.next), table_.read_bytes);
  batch.read(context_.memory);
  const std::size_t first_record = builder_.count();
  PerCpuPointers found;
  for (std::size_t i = 0; i < chains.size(); ++i) {
    const auto element = batch[i];
    if (!element) {
      builder_.problems().add(fmt::format("bucket {}", chains[i].bucket), element.error());
      continue;
    }
    const std::size_t record = builder_.count();
    builder_.append(1);
    addresses_.push_back(chains[i].next);
    copy_element(*element, record);
    compare_hash(*element);
    if (form_ == HashForm::kPerCpu) {
      found.aligned.emplace_back(load_le(element->data() + table_.value_offset, 8));
      found.unaligned.emplace_back(
          load_le(element->data() + table_.key_offset + table_.key_bytes, 8));
      found.buckets.push_back(chains[i].bucket);
    }
    if (take(chains[i], record, table_.hash_of(*element, model.elem[MapModel::kHash]),
             load_le(element->data() + model.elem[MapModel::kNext].offset, 8)) &&
        !std::ranges::equal(builder_.key_of(record).first(table_.key_bytes), wanted_key_))
      rest.push_back(chains[i]);
  }
  if (form_ == HashForm::kPerCpu) read_per_cpu(found, first_record);
}

/// Lists the element that the chain has come to, and goes on to its successor. False when that was
/// the last one.
bool HashWalk::take(Chain& chain, std::size_t record, std::uint32_t hash, std::uint64_t next) {
  if (chain.next == chain.mark) {
    looping_.insert(chain.bucket);
    report(chain, "its chain has a cycle");
    return false;
  }
  if (context_.model.elem[MapModel::kHash].present &&
      (hash & (table_.bucket_count - 1)) != chain.bucket) {
    report(chain, "an element of another bucket: it has moved meanwhile, or memory is damaged");
    return false;
  }
  owners_.push_back({.bucket = chain.bucket, .record = static_cast<std::uint32_t>(record)});
  if (++chain.steps == chain.power) {
    chain.mark = chain.next;
    chain.power *= 2;
    chain.steps = 0;
  }
  chain.next = next;
  return keep(chain);
}

void HashWalk::compare_hash(ByteSpan element) {
  const BoundField& field = context_.model.elem[MapModel::kHash];
  if (hash_is_ours_ || !field.present || !table_.seed) return;
  hash_is_ours_ = jhash(element.subspan(table_.key_offset, table_.key_bytes), *table_.seed) ==
                  table_.hash_of(element, field);
}

void HashWalk::read_per_cpu(const PerCpuPointers& found, std::size_t first_record) {
  if (found.aligned.empty()) return;
  if (!pointer_follows_key_) pointer_follows_key_ = lead_somewhere(found.unaligned);
  const auto& pointers = *pointer_follows_key_ ? found.unaligned : found.aligned;
  read_per_cpu_values(
      context_, first_record, pointers, map_.value_size,
      [&](std::size_t i) { return fmt::format("bucket {}", found.buckets[i]); }, builder_);
}

/// Whether per-CPU pointers are where they would be if they followed the key at once. Kernels
/// once wrote them there, even unaligned; later at the next multiple of 8. No type tells which,
/// but where they are aligned, bytes from the place before make the low half of a pointer the
/// high half of an address, and that is mapped nowhere. (The reverse is not so: the high half of
/// a pointer makes a small offset, with which anything may be reached.)
bool HashWalk::lead_somewhere(std::span<const GuestVirt> pointers) {
  if (map_.key_size % 8 == 0) return false;
  const std::vector<unsigned> cpus = context_.per_cpu->possible_cpus();
  if (cpus.empty()) return false;
  const std::size_t sample = std::min<std::size_t>(pointers.size(), 8);
  Bytes ignored(sample);
  std::vector<VirtRead> reads;
  for (std::size_t i = 0; i < sample; ++i)
    reads.push_back({.address = context_.per_cpu->on_cpu(pointers[i], cpus.front()),
                     .into = std::span(ignored).subspan(i, 1)});
  context_.memory.read(reads);
  const auto mapped = std::ranges::count_if(reads, [](const auto& read) { return !read.error; });
  return static_cast<std::size_t>(mapped) * 2 > sample;
}

std::optional<std::size_t> HashWalk::slot_at(std::uint64_t address) const {
  if (slots_.empty()) return std::nullopt;
  const std::uint64_t offset = address - table_.slots.value();
  const std::uint64_t slot = offset / table_.slot_bytes;
  if (offset % table_.slot_bytes != 0 || slot >= slots_.size() || !slots_[slot].readable)
    return std::nullopt;
  return slot;
}

std::uint64_t HashWalk::address_of(std::size_t record) const {
  if (record < slots_.size()) return table_.slots.value() + record * table_.slot_bytes;
  return addresses_[record - slots_.size()];
}

void HashWalk::report(const Chain& chain, const char* what) {
  builder_.problems().add(
      fmt::format("bucket {}", chain.bucket),
      {.code = ErrorCode::kCorrupt, .message = what, .path = {}, .address = chain.next});
}

void HashWalk::finish() {
  std::vector<Owner> order = std::move(owners_);
  std::set<std::uint64_t> seen;
  std::erase_if(order, [&](const Owner& owner) {
    return looping_.contains(owner.bucket) && !seen.insert(address_of(owner.record)).second;
  });
  if (!std::ranges::is_sorted(order, {}, &Owner::bucket))
    std::ranges::stable_sort(order, {}, &Owner::bucket);
  drop_replaced(order);
  cut(order);
  std::vector<std::uint32_t> records;
  records.reserve(order.size());
  for (const Owner& owner : order) records.push_back(owner.record);
  builder_.set_order(std::move(records));
}

/// Of elements with one key, the first counts, as in a look-up: an update puts the new element in
/// front before it takes the old one out (htab_map_update_elem()).
void HashWalk::drop_replaced(std::vector<Owner>& order) {
  const auto key_at = [&](const Owner& owner) {
    const std::span<std::byte> key = builder_.key_of(owner.record);
    return std::string_view(reinterpret_cast<const char*>(key.data()), key.size());
  };
  // Chains are short, but for those of a table that somebody has filled on purpose.
  constexpr std::ptrdiff_t kShort = 8;
  std::set<std::string_view> seen;
  auto kept = order.begin();
  for (auto first = order.begin(); first != order.end();) {
    const auto last = std::find_if(
        first, order.end(), [&](const Owner& owner) { return owner.bucket != first->bucket; });
    const bool is_short = last - first <= kShort;
    const auto kept_here = kept;
    seen.clear();
    for (; first != last; ++first) {
      const std::string_view key = key_at(*first);
      const bool is_new =
          is_short ? std::none_of(kept_here, kept,
                                  [&](const Owner& owner) { return key_at(owner) == key; })
                   : seen.insert(key).second;
      if (is_new) *kept++ = *first;
    }
  }
  order.erase(kept, order.end());
}

void HashWalk::cut(std::vector<Owner>& order) {
  const MapPart& part = builder_.part();
  if (part.from.after != 0) {
    const auto last = std::ranges::find_if(order, [&](const Owner& owner) {
      return owner.bucket == part.from.position && address_of(owner.record) == part.from.after;
    });
    if (last != order.end()) order.erase(order.begin(), last + 1);
  }
  if (order.size() <= part.limit) return;
  std::size_t end = part.limit;
  while (end > 0 && order[end - 1].bucket == order[end].bucket) --end;
  if (end != 0) {
    builder_.stop_at({.position = order[end].bucket});
  } else if (part.limit != 0) {  // not even one bucket fits
    end = part.limit;
    builder_.stop_at({.position = order[end].bucket, .after = address_of(order[end - 1].record)});
  }
  order.resize(end);
}

}  // namespace guestscope
