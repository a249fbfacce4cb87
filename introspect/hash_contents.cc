// Hash tables: which of their elements are wanted, and how they are best read.
#include <algorithm>

#include "introspect/hash_walk.h"
#include "introspect/jhash.h"
#include "introspect/limits.h"

namespace guestscope {

namespace {

/// What one read of an element costs a stub, in bytes of a large read.
constexpr double kBytesPerRead = 1000;
/// So much is not worth a sample.
constexpr double kSmallSlotBytes = 16 << 10;
/// Memory for each element of the array besides its record: where it leads to, and its place in
/// the order.
constexpr std::size_t kSlotOverhead = 32;

/// About how many elements there are, from the first buckets: elements are spread evenly.
double estimate_elements(MapReadContext& context, const MapInfo& map, const HashTable& table,
                         HashForm form) {
  const std::uint64_t count = std::min<std::uint64_t>(table.bucket_count, kMinBucketWindow);
  std::size_t budget = kMapPartBytes;
  ContentsBuilder builder(map, {}, budget);
  HashWalk sample(context, map, table, form, builder);
  sample.follow_buckets(0, count);
  return static_cast<double>(sample.listed()) * static_cast<double>(table.bucket_count / count);
}

/// The array of all elements is better read as a whole than element by element, and there is room.
bool slots_pay(MapReadContext& context, const MapInfo& map, const HashTable& table, HashForm form,
               const ContentsBuilder& builder) {
  if (table.slots.is_null() || form == HashForm::kPerCpu || builder.part() != MapPart{} ||
      table.slot_bytes > kContentStepBytes)
    return false;
  if (map.max_entries > builder.budget() / (builder.record_bytes() + kSlotOverhead)) return false;
  const double bytes = static_cast<double>(map.max_entries) * static_cast<double>(table.slot_bytes);
  return bytes <= kSmallSlotBytes ||
         bytes < estimate_elements(context, map, table, form) *
                     (kBytesPerRead + static_cast<double>(table.read_bytes));
}

std::uint64_t first_window(const ContentsBuilder& builder) {
  const std::uint64_t by_size = kMapPartBytes / std::max<std::size_t>(1, builder.record_bytes());
  const std::uint64_t by_limit = builder.part().limit < kMaxBucketWindow
                                     ? builder.part().limit * 2
                                     : std::uint64_t{kMaxBucketWindow};
  return std::clamp<std::uint64_t>(std::min(by_size, by_limit), kMinBucketWindow, kMaxBucketWindow);
}

/// Whether elements near the bucket have the hashes that we compute for them.
bool prove_hash(MapReadContext& context, const MapInfo& map, const HashTable& table, HashForm form,
                std::uint64_t bucket) {
  std::size_t budget = kMapPartBytes;
  ContentsBuilder builder(map, {}, budget);
  HashWalk probe(context, map, table, form, builder);
  const std::uint64_t count = std::min<std::uint64_t>(table.bucket_count, kMinBucketWindow);
  probe.follow_buckets(bucket / count * count, count);
  return probe.hash_is_ours().value_or(false);
}

/// Range after range of buckets until the part is full.
void list_ranges(const HashTable& table, ContentsBuilder& builder, HashWalk& walk) {
  std::uint64_t window = first_window(builder);
  std::uint64_t first = std::min(builder.part().from.position, table.bucket_count);
  const std::uint64_t end = std::min(table.bucket_count, first + kMaxPartBuckets);
  while (first < end && !walk.full() && !builder.part_is_full()) {
    const std::uint64_t count = std::min(window, end - first);
    const std::size_t before = walk.listed();
    walk.follow_buckets(first, count);
    first += count;
    // A sparse table is gone through in larger steps.
    if (walk.listed() - before < count / 4)
      window = std::min<std::uint64_t>(window * 2, kMaxBucketWindow);
  }
  if (first < table.bucket_count && !walk.full()) builder.stop_at({.position = first});
}

Result<void> list_hash(MapReadContext& context, const MapInfo& map, HashForm form,
                       ContentsBuilder& builder) {
  GS_ASSIGN(const HashTable table, HashTable::read(context, map, form));
  HashWalk walk(context, map, table, form, builder);
  if (slots_pay(context, map, table, form, builder)) {
    walk.load_slots();
    walk.follow_buckets(0, table.bucket_count);
  } else {
    list_ranges(table, builder, walk);
  }
  walk.finish();
  return {};
}

Result<void> find_in_hash(MapReadContext& context, const MapInfo& map, HashForm form, ByteSpan key,
                          ContentsBuilder& builder) {
  GS_ASSIGN(const HashTable table, HashTable::read(context, map, form));
  if (!table.seed) return find_by_listing(context, map, key, builder);
  const std::uint64_t bucket = jhash(key, *table.seed) & (table.bucket_count - 1);
  HashWalk walk(context, map, table, form, builder);
  walk.stop_at_key(key);
  walk.follow_buckets(bucket, 1);
  if (walk.hash_is_ours())
    context.hash_proven = *walk.hash_is_ours();
  else if (!context.hash_proven)
    context.hash_proven = prove_hash(context, map, table, form, bucket);
  walk.finish();
  builder.keep_if([&](const MapContents& contents, std::size_t record) {
    return std::ranges::equal(contents.key(record), key);
  });
  if (builder.contents().size() != 0 || context.hash_proven) return {};
  // Not there, but perhaps only because this kernel hashes otherwise than we do.
  return find_by_listing(context, map, key, builder);
}

template <HashForm form>
Result<void> list(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder) {
  return list_hash(context, map, form, builder);
}

template <HashForm form>
Result<void> find(MapReadContext& context, const MapInfo& map, ByteSpan key,
                  ContentsBuilder& builder) {
  return find_in_hash(context, map, form, key, builder);
}

constexpr MapReader values(std::string_view type) {
  return {.type = type, .list = list<HashForm::kValues>, .find = find<HashForm::kValues>};
}

constexpr MapReader per_cpu(std::string_view type) {
  return {.type = type,
          .list = list<HashForm::kPerCpu>,
          .find = find<HashForm::kPerCpu>,
          .per_cpu = true};
}

}  // namespace

std::span<const MapReader> hash_readers() {
  static constexpr MapReader kReaders[] = {values("hash"), values("lru_hash"),
                                           per_cpu("percpu_hash"), per_cpu("lru_percpu_hash")};
  return kReaders;
}

}  // namespace guestscope
