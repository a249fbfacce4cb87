// Hash tables: an array of buckets, each the head of a chain of elements. All chains are followed
// side by side, one exchange for every depth: element after element they would cost an exchange
// each.
//
// A chain does not end in a null pointer but in an odd value that names its bucket (hlist_nulls);
// an element that has moved to another bucket is noticed by that.
#include <algorithm>
#include <numeric>
#include <optional>
#include <set>

#include "introspect/contents_builder.h"
#include "introspect/limits.h"
#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

/// The end of one chain as far as it has been followed; with Brent's search for a cycle: `mark` is
/// an earlier element, moved up whenever the number of steps since then reaches a power of two.
struct Chain {
  std::uint32_t bucket = 0;
  std::uint64_t next = 0;  // address of the element to read, or the odd end value
  std::uint64_t mark = 0;
  std::uint32_t steps = 0;
  std::uint32_t power = 1;

  bool ended() const { return (next & 1) != 0; }
};

/// What may be the per-CPU pointers of some elements, from the two places where kernels put them.
struct PerCpuPointers {
  std::vector<GuestVirt> aligned;
  std::vector<GuestVirt> unaligned;
};

class HashWalk {
 public:
  HashWalk(MapReadContext& context, const MapInfo& map, bool per_cpu, ContentsBuilder& builder)
      : context_(context), map_(map), per_cpu_(per_cpu), builder_(builder) {
    key_offset_ = context.model.elem[MapModel::kKey].offset;
    value_offset_ = key_offset_ + round_up_8(map.key_size);
    elem_bytes_ = value_offset_ + (per_cpu ? 8 : map.value_size);
  }

  Result<void> run() {
    if (map_.key_size == 0 || map_.value_size == 0)
      return fail_at(map_.address.value(), ErrorCode::kCorrupt, "keys of {} bytes, values of {}",
                     map_.key_size, map_.value_size);
    StructBatch batch(context_.model.htab);
    batch.add(map_.address);
    batch.read(context_.memory);
    GS_ASSIGN(const StructView table, batch[0]);
    const std::uint64_t buckets = table.u64(MapModel::kBucketCount);
    if (buckets == 0 || (buckets & (buckets - 1)) != 0)
      return fail_at(map_.address.value(), ErrorCode::kCorrupt, "a hash table of {} buckets",
                     buckets);
    if (buckets > kMaxContentBytes / context_.model.bucket.size())
      return fail_at(map_.address.value(), ErrorCode::kUnsupported,
                     "a hash table of {} buckets is too large", buckets);
    builder_.set_strides(round_up_8(map_.key_size), round_up_8(map_.value_size));
    read_buckets(table.pointer(MapModel::kBuckets), buckets);
    while (!chains_.empty() && !full_) read_depth();
    builder_.set_order(listing_order());
    return {};
  }

 private:
  void read_buckets(GuestVirt table, std::uint64_t count) {
    const std::size_t stride = context_.model.bucket.size();
    const std::size_t head = context_.model.bucket[MapModel::kFirst].offset;
    const std::size_t step = std::max<std::size_t>(1, kContentStepBytes / stride);
    for (std::uint64_t first = 0; first < count; first += step) {
      const std::size_t n = std::min<std::uint64_t>(step, count - first);
      const auto bytes = context_.memory.read_bytes(table.wrapping_add(first * stride), n * stride);
      if (!bytes) {
        builder_.problems().add(fmt::format("buckets {} to {}", first, first + n - 1),
                                bytes.error());
        if (bytes.error().code == ErrorCode::kUnreachable) return;
        continue;
      }
      for (std::size_t i = 0; i < n; ++i)
        keep({.bucket = static_cast<std::uint32_t>(first + i),
              .next = load_le(bytes->data() + i * stride + head, 8)},
             chains_);
    }
  }

  /// Keeps the chain for the next depth unless it has ended, well or badly.
  void keep(Chain chain, std::vector<Chain>& into) {
    if (!chain.ended() && chain.next != 0) {
      into.push_back(chain);
      return;
    }
    if (chain.next == 0 || chain.next >> 1 != chain.bucket)
      report(
          chain,
          "its chain ends in a foreign mark: an element has moved meanwhile, or memory is damaged");
  }

  void read_depth() {
    std::vector<Chain> rest;
    const std::size_t step = std::max<std::size_t>(1, kContentStepBytes / elem_bytes_);
    for (std::size_t first = 0; first < chains_.size() && !full_; first += step)
      read_step(std::span(chains_).subspan(first, std::min(step, chains_.size() - first)), rest);
    chains_ = std::move(rest);
  }

  void read_step(std::span<Chain> chains, std::vector<Chain>& rest) {
    full_ = !builder_.has_room(chains.size());
    if (!full_ && owners_.size() > map_.max_entries * 2 + kMaxCpus) {
      full_ = true;
      builder_.problems().add(
          "entries", {.code = ErrorCode::kCorrupt,
                      .message = "far more elements than max_entries: the rest is left out"});
    }
    if (full_) return;
    ReadBatch batch;
    batch.reserve(chains.size());
    for (const Chain& chain : chains) batch.add(GuestVirt(chain.next), elem_bytes_);
    batch.read(context_.memory);
    const std::size_t first_record = builder_.count();
    PerCpuPointers found;
    for (std::size_t i = 0; i < chains.size(); ++i) {
      const auto element = batch[i];
      if (!element)
        builder_.problems().add(fmt::format("bucket {}", chains[i].bucket), element.error());
      else
        take(chains[i], *element, found, rest);
    }
    if (per_cpu_ && !found.aligned.empty()) {
      if (!pointer_follows_key_) pointer_follows_key_ = lead_somewhere(found.unaligned);
      const auto& pointers = *pointer_follows_key_ ? found.unaligned : found.aligned;
      read_per_cpu_values(
          context_, first_record, pointers, map_.value_size,
          [&](std::size_t i) { return fmt::format("bucket {}", owners_[first_record + i].bucket); },
          builder_);
    }
  }

  /// Whether per-CPU pointers are where they would be if they followed the key at once. Kernels
  /// once wrote them there, even unaligned; later at the next multiple of 8. No type tells which,
  /// but where they are aligned, bytes from the place before make the low half of a pointer the
  /// high half of an address, and that is mapped nowhere. (The reverse is not so: the high half of
  /// a pointer makes a small offset, with which anything may be reached.)
  bool lead_somewhere(std::span<const GuestVirt> pointers) {
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

  void take(Chain chain, ByteSpan element, PerCpuPointers& found, std::vector<Chain>& rest) {
    if (chain.next == chain.mark) {
      looping_.insert(chain.bucket);
      return report(chain, "its chain has a cycle");
    }
    const std::size_t record = builder_.count();
    builder_.append(1);
    std::ranges::copy(element.subspan(key_offset_, map_.key_size), builder_.key_of(record).begin());
    if (per_cpu_) {
      found.aligned.emplace_back(load_le(element.data() + value_offset_, 8));
      found.unaligned.emplace_back(load_le(element.data() + key_offset_ + map_.key_size, 8));
    } else {
      std::ranges::copy(element.subspan(value_offset_, map_.value_size),
                        builder_.value_of(record, 0).begin());
    }
    owners_.push_back({.bucket = chain.bucket, .address = chain.next});
    if (++chain.steps == chain.power) {
      chain.mark = chain.next;
      chain.power *= 2;
      chain.steps = 0;
    }
    chain.next = load_le(element.data() + context_.model.elem[MapModel::kNext].offset, 8);
    keep(chain, rest);
  }

  /// Bucket by bucket, each in chain order; of a chain with a cycle every element once.
  std::vector<std::uint32_t> listing_order() {
    std::vector<std::uint32_t> order(owners_.size());
    std::iota(order.begin(), order.end(), 0U);
    std::set<std::uint64_t> seen;
    std::erase_if(order, [&](std::uint32_t record) {
      return looping_.contains(owners_[record].bucket) &&
             !seen.insert(owners_[record].address).second;
    });
    std::ranges::stable_sort(order, {},
                             [&](std::uint32_t record) { return owners_[record].bucket; });
    return order;
  }

  void report(const Chain& chain, const char* what) {
    builder_.problems().add(
        fmt::format("bucket {}", chain.bucket),
        {.code = ErrorCode::kCorrupt, .message = what, .path = {}, .address = chain.next});
  }

  struct Owner {
    std::uint32_t bucket = 0;
    std::uint64_t address = 0;
  };

  MapReadContext& context_;
  const MapInfo& map_;
  bool per_cpu_;
  ContentsBuilder& builder_;
  std::size_t key_offset_ = 0;
  std::size_t value_offset_ = 0;
  std::size_t elem_bytes_ = 0;
  std::vector<Chain> chains_;
  std::vector<Owner> owners_;  // of each record
  std::set<std::uint32_t> looping_;
  std::optional<bool> pointer_follows_key_;  // once there were elements to tell by
  bool full_ = false;
};

Result<void> list_hash(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder) {
  return HashWalk(context, map, false, builder).run();
}

Result<void> list_per_cpu_hash(MapReadContext& context, const MapInfo& map,
                               ContentsBuilder& builder) {
  return HashWalk(context, map, true, builder).run();
}

}  // namespace

std::span<const MapReader> hash_readers() {
  static constexpr MapReader kReaders[] = {
      {.type = "hash", .list = list_hash, .find = find_by_listing},
      {.type = "lru_hash", .list = list_hash, .find = find_by_listing},
      {.type = "percpu_hash", .list = list_per_cpu_hash, .find = find_by_listing, .per_cpu = true},
      {.type = "lru_percpu_hash",
       .list = list_per_cpu_hash,
       .find = find_by_listing,
       .per_cpu = true}};
  return kReaders;
}

}  // namespace guestscope
