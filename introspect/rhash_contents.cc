// Resizable hash tables (BPF_MAP_TYPE_RHASH): a struct rhashtable, whose buckets are heads of
// chains. While it grows or shrinks there are several tables, each leading to the next, and every
// element is in one of them. A table for which there was no memory in one piece is nested: pages of
// pointers to pages, the low bits of a hash first.
//
// Chains are followed side by side, one exchange for every depth. Bit 0 of a bucket's head is its
// lock; a chain ends in an odd value, the address of its bucket. An element that is being moved may
// be in two chains for a moment, and the end of one then is that of the other.
//
// Source of truth: kernel/bpf/hashtab.c, lib/rhashtable.c, include/linux/rhashtable.h.
#include <algorithm>
#include <bit>
#include <numeric>
#include <unordered_map>

#include "introspect/contents_builder.h"
#include "introspect/jhash.h"
#include "introspect/limits.h"
#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

enum Map : std::size_t { kFirstTable, kHash };
constexpr FieldNeed kMapFields[] = {{"ht.tbl"}, {"ht.p.hashfn"}};
constexpr StructNeed kMap = {"bpf_rhtab", kMapFields};

enum Table : std::size_t { kSize, kNest, kSeed, kNextTable, kBuckets };
constexpr FieldNeed kTableFields[] = {
    {"size"}, {"nest"}, {"hash_rnd"}, {"future_tbl"}, {"buckets"}};
constexpr StructNeed kTable = {"bucket_table", kTableFields};

enum Element : std::size_t { kNext, kData };
constexpr FieldNeed kElementFields[] = {{"node.next"}, {"data"}};
constexpr StructNeed kElement = {"rhtab_elem", kElementFields};

/// Tables at a time: a real map has two, rarely three.
constexpr std::size_t kMaxTables = 8;
/// About what an element is remembered by.
constexpr std::size_t kElementOverhead = 64;

struct BucketTable {
  GuestVirt buckets;
  std::uint64_t size = 0;  // a power of two
  unsigned nest = 0;
  std::uint32_t seed = 0;
};

/// A range of a table: of pointers to further ranges, or of buckets.
struct Range {
  GuestVirt at;
  std::uint64_t count = 0;
  std::uint64_t hash = 0;  // the low bits that are the same in all of it
  unsigned bits = 0;       // how many those are
};

struct Chain {
  std::uint64_t order = 0;  // of the bucket: table and number
  std::uint64_t next = 0;
};

std::uint32_t hash_of_long(ByteSpan key, std::uint32_t seed) {
  const std::uint64_t number = load_le(key.data(), 8);
  return static_cast<std::uint32_t>(number ^ (number >> 32)) ^ seed;
}

class RhashReader {
 public:
  RhashReader(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder)
      : context_(context), map_(map), builder_(builder) {}

  Result<void> open() {
    GS_ASSIGN(const StructLayout* layout, context_.layouts.get(kMap));
    GS_ASSIGN(element_, context_.layouts.get(kElement));
    if (map_.key_size == 0 || map_.value_size == 0)
      return fail_at(map_.address.value(), ErrorCode::kCorrupt, "keys of {} bytes, values of {}",
                     map_.key_size, map_.value_size);
    value_offset_ = (*element_)[kData].offset + round_up_8(map_.key_size);
    element_bytes_ = value_offset_ + map_.value_size;
    builder_.set_strides(round_up_8(map_.key_size), round_up_8(map_.value_size));
    StructBatch batch(*layout);
    batch.add(map_.address);
    batch.read(context_.memory);
    GS_ASSIGN(const StructView view, batch[0]);
    hash_function_ = view.pointer(kHash);
    return read_tables(view.pointer(kFirstTable));
  }

  void list() {
    std::vector<Chain> chains;
    for (std::size_t table = 0; table < tables_.size(); ++table)
      for (const Range& range : ranges_of(tables_[table])) read_buckets(table, range, chains);
    follow(std::move(chains));
    std::vector<std::uint32_t> order(orders_.size());
    std::iota(order.begin(), order.end(), 0U);
    std::ranges::stable_sort(order, {}, [&](std::uint32_t record) { return orders_[record]; });
    builder_.set_order(std::move(order));
  }

  /// False when it is not known how this table hashes its keys.
  bool find(ByteSpan key) {
    const auto hash = hash_function();
    if (hash == nullptr || key.size() != map_.key_size) return false;
    std::vector<Chain> chains;
    for (std::size_t table = 0; table < tables_.size(); ++table)
      if (const auto bucket = bucket_of(tables_[table], hash(key, tables_[table].seed)))
        read_buckets(table, {.at = *bucket, .count = 1, .hash = 0, .bits = 0}, chains);
    follow(std::move(chains));
    builder_.keep_if([&](const MapContents& contents, std::size_t record) {
      return std::ranges::equal(contents.key(record), key);
    });
    return true;
  }

 private:
  using HashFunction = std::uint32_t (*)(ByteSpan, std::uint32_t);

  /// By the name of the function that the table was set up with. (jhash2() over words gives the
  /// same as jhash() over their bytes.)
  HashFunction hash_function() const {
    const auto symbol = context_.layouts.kernel().symbols().containing(hash_function_.value() -
                                                                       context_.location.slide);
    if (!symbol) return nullptr;
    if (symbol->name == "jhash" || symbol->name == "rhashtable_jhash2") return jhash;
    if (symbol->name == "rhtab_hashfn_long" && map_.key_size == 8) return hash_of_long;
    return nullptr;
  }

  Result<void> read_tables(GuestVirt at) {
    GS_ASSIGN(const StructLayout* layout, context_.layouts.get(kTable));
    for (; !at.is_null(); at = next_table_) {
      if (tables_.size() == kMaxTables)
        return fail_at(at.value(), ErrorCode::kCorrupt, "more than {} tables", kMaxTables);
      StructBatch batch(*layout);
      batch.add(at);
      batch.read(context_.memory);
      GS_ASSIGN(const StructView view, batch[0]);
      const BucketTable table{.buckets = at.wrapping_add((*layout)[kBuckets].offset),
                              .size = view.u64(kSize),
                              .nest = static_cast<unsigned>(view.u64(kNest)),
                              .seed = static_cast<std::uint32_t>(view.u64(kSeed))};
      if (!std::has_single_bit(table.size) || table.nest > 16 || table.size >> table.nest == 0)
        return fail_at(at.value(), ErrorCode::kCorrupt, "a table of {} buckets, nested by {} bits",
                       table.size, table.nest);
      if (table.size > kMaxContentBytes / 8)
        return fail_at(at.value(), ErrorCode::kUnsupported, "a table of {} buckets is too large",
                       table.size);
      tables_.push_back(table);
      next_table_ = view.pointer(kNextTable);
    }
    return {};
  }

  unsigned page_bits() const {  // pointers that a page of a nested table has
    return static_cast<unsigned>(std::countr_zero(context_.location.page_size / 8));
  }

  /// The parts of a table where buckets lie. Those of a nested one that were never needed are not
  /// there.
  std::vector<Range> ranges_of(const BucketTable& table) {
    if (table.nest == 0) return {{.at = table.buckets, .count = table.size, .hash = 0, .bits = 0}};
    std::vector<Range> level;
    if (auto top = pointer_at(table.buckets); top && !top->is_null())
      level.push_back({.at = *top, .count = std::uint64_t{1} << table.nest, .hash = 0, .bits = 0});
    for (std::uint64_t below = table.size >> table.nest; below != 0;) {
      const std::uint64_t count = std::min(below, std::uint64_t{1} << page_bits());
      level = descend(level, count);
      below = below > count ? below >> page_bits() : 0;
    }
    return level;
  }

  /// What the pointers in the ranges lead to.
  std::vector<Range> descend(std::span<const Range> level, std::uint64_t count) {
    ReadBatch batch;
    for (const Range& range : level) batch.add(range.at, range.count * 8);
    batch.read(context_.memory);
    std::vector<Range> below;
    for (std::size_t i = 0; i < level.size(); ++i) {
      const auto bytes = batch[i];
      if (!bytes) {
        report(bytes.error());
        continue;
      }
      const auto bits = static_cast<unsigned>(std::countr_zero(level[i].count));
      for (std::uint64_t j = 0; j < level[i].count; ++j)
        if (const std::uint64_t at = load_le(bytes->data() + j * 8, 8); at != 0)
          below.push_back({.at = GuestVirt(at),
                           .count = count,
                           .hash = level[i].hash | j << level[i].bits,
                           .bits = level[i].bits + bits});
    }
    return below;
  }

  std::optional<GuestVirt> bucket_of(const BucketTable& table, std::uint64_t hash) {
    if (table.nest == 0) return table.buckets.wrapping_add((hash & (table.size - 1)) * 8);
    auto at = pointer_at(table.buckets);
    std::uint64_t count = std::uint64_t{1} << table.nest;
    for (std::uint64_t below = table.size >> table.nest; at && !at->is_null();) {
      at = at->wrapping_add((hash & (count - 1)) * 8);
      if (below == 0) return at;
      hash >>= std::countr_zero(count);
      count = std::min(below, std::uint64_t{1} << page_bits());
      below = below > count ? below >> page_bits() : 0;
      at = pointer_at(*at);
    }
    return std::nullopt;
  }

  std::optional<GuestVirt> pointer_at(GuestVirt at) {
    const auto pointer = context_.memory.read_number(at, 8);
    if (!pointer) report(pointer.error());
    return pointer ? std::optional(GuestVirt(*pointer)) : std::nullopt;
  }

  void read_buckets(std::size_t table, const Range& range, std::vector<Chain>& chains) {
    const std::size_t step = kContentStepBytes / 8;
    for (std::uint64_t first = 0; first < range.count; first += step) {
      const std::size_t n = std::min<std::uint64_t>(step, range.count - first);
      const auto bytes = context_.memory.read_bytes(range.at.wrapping_add(first * 8), n * 8);
      if (!bytes) {
        report(bytes.error());
        return;
      }
      for (std::size_t i = 0; i < n; ++i) {
        // Bit 0 is the lock.
        const std::uint64_t head = load_le(bytes->data() + i * 8, 8) & ~std::uint64_t{1};
        if (head != 0)
          chains.push_back(
              {.order = table << 48 | range.hash | (first + i) << range.bits, .next = head});
      }
    }
  }

  void follow(std::vector<Chain> chains) {
    const std::size_t step = std::max<std::size_t>(1, kContentStepBytes / element_bytes_);
    while (!chains.empty() && !full_) {
      std::vector<Chain> rest;
      for (std::size_t first = 0; first < chains.size() && !full_; first += step)
        read_step(std::span(chains).subspan(first, std::min(step, chains.size() - first)), rest);
      chains = std::move(rest);
    }
  }

  void read_step(std::span<const Chain> chains, std::vector<Chain>& rest) {
    full_ = !builder_.has_room(chains.size());
    if (full_) return;
    ReadBatch batch;
    batch.reserve(chains.size());
    for (const Chain& chain : chains) batch.add(GuestVirt(chain.next), element_bytes_);
    batch.read(context_.memory);
    for (std::size_t i = 0; i < chains.size(); ++i) {
      if (const auto element = batch[i]; !element)
        report(element.error());
      else
        take(chains[i], *element, rest);
    }
  }

  void take(const Chain& chain, ByteSpan element, std::vector<Chain>& rest) {
    const auto [known, is_new] = seen_.emplace(chain.next, chain.order);
    if (!is_new) {
      if (known->second == chain.order || tables_.size() == 1)
        report({.code = ErrorCode::kCorrupt,
                .message = known->second == chain.order ? "a chain has a cycle"
                                                        : "an element is in two chains",
                .path = {},
                .address = chain.next});
      return;  // else it is being moved from one table to the next
    }
    builder_.charge(kElementOverhead);
    builder_.add(element.subspan((*element_)[kData].offset, map_.key_size),
                 element.subspan(value_offset_, map_.value_size));
    orders_.push_back(chain.order);
    const std::uint64_t next = load_le(element.data() + (*element_)[kNext].offset, 8);
    if (next == 0)
      return report({.code = ErrorCode::kCorrupt,
                     .message = "a chain ends in a null pointer",
                     .path = {},
                     .address = chain.next});
    if ((next & 1) == 0) rest.push_back({.order = chain.order, .next = next});
  }

  void report(Error error) { builder_.problems().add("entries", std::move(error)); }

  MapReadContext& context_;
  const MapInfo& map_;
  ContentsBuilder& builder_;
  const StructLayout* element_ = nullptr;
  GuestVirt hash_function_;
  GuestVirt next_table_;
  std::size_t value_offset_ = 0;
  std::size_t element_bytes_ = 0;
  std::vector<BucketTable> tables_;
  std::vector<std::uint64_t> orders_;                      // of each record
  std::unordered_map<std::uint64_t, std::uint64_t> seen_;  // elements, and the order of their chain
  bool full_ = false;
};

Result<void> list_rhash(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder) {
  RhashReader reader(context, map, builder);
  GS_CHECK(reader.open());
  reader.list();
  return {};
}

Result<void> find_rhash(MapReadContext& context, const MapInfo& map, ByteSpan key,
                        ContentsBuilder& builder) {
  RhashReader reader(context, map, builder);
  GS_CHECK(reader.open());
  if (reader.find(key)) return {};
  return find_by_listing(context, map, key, builder);
}

}  // namespace

std::span<const MapReader> rhash_readers() {
  static constexpr MapReader kReaders[] = {
      {.type = "rhash", .list = list_rhash, .find = find_rhash}};
  return kReaders;
}

}  // namespace guestscope
