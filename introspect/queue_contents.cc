// Maps without keys that keep values in one array: queues and stacks, and Bloom filters, which keep
// bits only.
//
// A queue and a stack are the same ring, with one slot more than it can hold: values are put in at
// `head`; a queue takes them out at `tail`, a stack at `head`. Source of truth:
// kernel/bpf/queue_stack_maps.c, kernel/bpf/bloom_filter.c.
#include <algorithm>
#include <bit>
#include <numeric>

#include "introspect/contents_builder.h"
#include "introspect/limits.h"
#include "introspect/read_pages.h"
#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

enum Ring : std::size_t { kHead, kTail, kSlots, kElements };
constexpr FieldNeed kRingFields[] = {{"head"}, {"tail"}, {"size"}, {"elements"}};
constexpr StructNeed kRing = {"bpf_queue_stack", kRingFields};

enum Bloom : std::size_t { kBitsetMask, kHashFunctions, kBitset };
constexpr FieldNeed kBloomFields[] = {{"bitset_mask"}, {"nr_hash_funcs"}, {"bitset"}};
constexpr StructNeed kBloom = {"bpf_bloom_filter", kBloomFields};

constexpr int kNotSupported = 95;  // EOPNOTSUPP

struct Slots {
  GuestVirt elements;
  std::uint64_t count = 0;  // of the ring
  std::uint64_t head = 0;
  std::uint64_t used = 0;
};

Result<Slots> read_ring(MapReadContext& context, const MapInfo& map) {
  GS_ASSIGN(const StructLayout* layout, context.layouts.get(kRing));
  StructBatch batch(*layout);
  batch.add(map.address);
  batch.read(context.memory);
  GS_ASSIGN(const StructView view, batch[0]);
  const std::uint64_t head = view.u64(kHead);
  const std::uint64_t tail = view.u64(kTail);
  const std::uint64_t slots = view.u64(kSlots);
  if (slots != map.max_entries + 1 || head >= slots || tail >= slots || map.value_size == 0)
    return fail_at(map.address.value(), ErrorCode::kCorrupt,
                   "a ring of {} slots from {} to {}, for {} values of {} bytes", slots, tail, head,
                   map.max_entries, map.value_size);
  return Slots{.elements = map.address.wrapping_add((*layout)[kElements].offset),
               .count = slots,
               .head = head,
               .used = (head + slots - tail) % slots};
}

/// `n` slots from `first` on, which may pass the ring's end, as records in this order.
void read_slots(MapReadContext& context, const MapInfo& map, const Slots& ring, std::uint64_t first,
                std::uint64_t n, ContentsBuilder& builder) {
  const std::size_t step = std::max<std::size_t>(1, kContentStepBytes / map.value_size);
  while (n != 0) {
    const std::uint64_t now = std::min<std::uint64_t>({step, n, ring.count - first});
    const std::size_t record = builder.count();
    read_pages(context.memory, ring.elements.wrapping_add(first * map.value_size),
               builder.append(now), [&](std::size_t offset, std::size_t size, Error error) {
                 const std::size_t from = offset / map.value_size;
                 const std::size_t to = (offset + size - 1) / map.value_size;
                 builder.problems().add(fmt::format("slot {}", first + from), std::move(error));
                 for (std::size_t slot = from; slot <= to; ++slot)
                   builder.unreadable(record + slot, 0);
               });
    first = (first + now) % ring.count;
    n -= now;
  }
}

/// Entries in the order in which they would be taken out. Nothing is.
Result<void> list_ring(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder,
                       bool newest_first) {
  GS_ASSIGN(const Slots ring, read_ring(context, map));
  builder.set_keys(KeyForm::kNone);
  builder.set_strides(0, map.value_size);
  const std::uint64_t first = std::min(builder.part().from.position, ring.used);
  const std::uint64_t n = builder.room(ring.used - first);
  if (n < ring.used - first) builder.stop_at({.position = first + n});
  const std::uint64_t back = newest_first ? first + n : ring.used - first;  // from the head
  read_slots(context, map, ring, (ring.head + ring.count - back) % ring.count, n, builder);
  if (newest_first) {
    std::vector<std::uint32_t> order(builder.count());
    std::iota(order.rbegin(), order.rend(), 0U);
    builder.set_order(std::move(order));
  }
  return {};
}

Result<void> list_queue(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder) {
  return list_ring(context, map, builder, false);
}

Result<void> list_stack(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder) {
  return list_ring(context, map, builder, true);
}

/// How many bits are set, from `at` on. Nothing, with a problem, when not all can be read.
FactValue count_bits(KernelMemory& memory, GuestVirt at, std::uint64_t bytes,
                     ContentsBuilder& builder) {
  std::uint64_t set = 0;
  for (std::uint64_t done = 0; done < bytes;) {
    const std::size_t now = std::min<std::uint64_t>(kContentStepBytes, bytes - done);
    const auto piece = memory.read_bytes(at.wrapping_add(done), now);
    if (!piece) {
      builder.problems().add("bits_set", piece.error());
      return {};
    }
    for (std::size_t i = 0; i < now; i += 8)
      set += static_cast<unsigned>(
          std::popcount(load_le(piece->data() + i, std::min<std::size_t>(8, now - i))));
    done += now;
  }
  return set;
}

/// A Bloom filter tells what is in it of what it is asked about, and cannot list it.
Result<void> list_bloom(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder) {
  GS_ASSIGN(const StructLayout* layout, context.layouts.get(kBloom));
  builder.set_keys(KeyForm::kNone);
  builder.set_lookup_error(kNotSupported);
  StructBatch batch(*layout);
  batch.add(map.address);
  batch.read(context.memory);
  GS_ASSIGN(const StructView view, batch[0]);
  const std::uint64_t mask = view.u64(kBitsetMask);
  if ((mask & (mask + 1)) != 0)
    return fail_at(map.address.value(), ErrorCode::kCorrupt, "a filter whose mask is {:#x}", mask);
  // The kernel has whole words of 64 bits.
  const std::uint64_t bytes = round_up_8(mask / 8 + 1);
  const bool counted = bytes <= kMaxContentBytes;
  if (!counted)
    builder.problems().add("bits_set", {.code = ErrorCode::kUnsupported,
                                        .message = fmt::format("{} bytes of bits", bytes)});
  builder.add_map_fact(
      "bits_set",
      counted ? count_bits(context.memory, map.address.wrapping_add((*layout)[kBitset].offset),
                           bytes, builder)
              : FactValue());
  builder.add_map_fact("bits", mask + 1);
  builder.add_map_fact("hash_count", view.u64(kHashFunctions));
  builder.add_map_fact("bitset_bytes", bytes);
  return {};
}

}  // namespace

std::span<const MapReader> queue_readers() {
  static constexpr MapReader kReaders[] = {
      {.type = "queue", .list = list_queue, .find = nullptr},
      {.type = "stack", .list = list_stack, .find = nullptr},
      {.type = "bloom_filter", .list = list_bloom, .find = nullptr}};
  return kReaders;
}

}  // namespace guestscope
