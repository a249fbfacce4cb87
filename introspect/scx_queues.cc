#include "introspect/scx_queues.h"

#include <bit>
#include <unordered_set>

#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

enum Queue : std::size_t { kId, kNr, kSeq, kList, kFirst, kTree };
constexpr FieldNeed kQueueFields[] = {{"id"},   {"nr"},        {"seq", kOptional},
                                      {"list"}, {"list.next"}, {"priq.rb_node", kOptional}};
constexpr StructNeed kQueue = {"scx_dispatch_q", kQueueFields};

enum Hashed : std::size_t { kNode, kNextHashed };
constexpr FieldNeed kHashedFields[] = {{"hash_node"}, {"hash_node.next"}};
constexpr StructNeed kHashed = {"scx_dispatch_q", kHashedFields};

enum Table : std::size_t { kSize, kNest, kNextTable, kBuckets };
constexpr FieldNeed kTableFields[] = {{"size"}, {"nest"}, {"future_tbl"}, {"buckets"}};
constexpr StructNeed kTable = {"bucket_table", kTableFields};

/// While the hash table grows there are two, each leading to the next.
constexpr std::size_t kMaxTables = 8;

/// All heads of chains in a struct bucket_table and in those it leads to. Bit 0 of one is its lock.
Result<std::vector<GuestVirt>> read_heads(SchedContext& context, GuestVirt at) {
  GS_ASSIGN(const StructLayout* layout, context.layouts.get(kTable));
  std::vector<GuestVirt> heads;
  for (std::size_t tables = 0; !at.is_null(); ++tables) {
    if (tables == kMaxTables)
      return fail_at(at.value(), ErrorCode::kCorrupt, "more than {} tables", kMaxTables);
    StructBatch batch(*layout);
    batch.add(at);
    batch.read(context.memory);
    GS_ASSIGN(const StructView table, batch[0]);
    const std::uint64_t size = table.u64(kSize);
    if (!std::has_single_bit(size) || size > kMaxDispatchQueues)
      return fail_at(at.value(), ErrorCode::kCorrupt, "a hash table of {} buckets", size);
    // Only a table for which there was no memory in one piece is nested.
    if (table.u64(kNest) != 0)
      return fail_at(at.value(), ErrorCode::kUnsupported, "the hash table is a nested one");
    GS_ASSIGN(const Bytes buckets,
              context.memory.read_bytes(at.wrapping_add((*layout)[kBuckets].offset), size * 8));
    for (std::size_t i = 0; i < size; ++i)
      if (const std::uint64_t head = load_le(buckets.data() + i * 8, 8) & ~std::uint64_t{1})
        heads.push_back(GuestVirt(head));
    at = table.pointer(kNextTable);
  }
  return heads;
}

}  // namespace

std::vector<Result<ScxQueue>> read_scx_queues(SchedContext& context,
                                              std::span<const ScxQueuePlace> places) {
  std::vector<Result<ScxQueue>> queues;
  const auto layout = context.layouts.get(kQueue);
  if (!layout) {
    queues.assign(places.size(), std::unexpected(layout.error()));
    return queues;
  }
  std::vector<GuestVirt> addresses;
  for (const ScxQueuePlace& place : places) addresses.push_back(place.address);
  read_structs(
      context.memory, **layout, addresses, [&](std::size_t i, const Result<StructView>& view) {
        if (!view)
          queues.push_back(std::unexpected(view.error()));
        else
          queues.push_back(ScxQueue{.address = addresses[i],
                                    .id = view->u64(kId),
                                    .nr = view->u64(kNr),
                                    .seq = view->u64(kSeq),
                                    .priority = !view->pointer(kTree).is_null(),
                                    .head = addresses[i].wrapping_add((**layout)[kList].offset),
                                    .first = view->pointer(kFirst),
                                    .cpu = places[i].cpu,
                                    .node = places[i].node,
                                    .scheduler = places[i].scheduler});
      });
  return queues;
}

std::vector<ScxQueuePlace> find_user_queues(SchedContext& context, GuestVirt table,
                                            Problems& problems) {
  std::vector<ScxQueuePlace> found;
  const auto layout = context.layouts.get(kHashed);
  auto chains = read_heads(context, table);
  if (!layout || !chains) {
    problems.add("dsqs", layout ? chains.error() : layout.error());
    return found;
  }
  const std::uint64_t node = (**layout)[kNode].offset;
  std::unordered_set<GuestVirt> seen;
  for (std::size_t depth = 0; !chains->empty(); ++depth) {  // side by side
    if (depth == kMaxQueueChain) {
      problems.add("dsqs", {.code = ErrorCode::kCorrupt,
                            .message = "a chain of the hash table does not end",
                            .path = {},
                            .address = chains->front().value()});
      break;
    }
    StructBatch batch(**layout);
    for (const GuestVirt next : *chains) batch.add(next.wrapping_add(-node));
    chains->clear();
    batch.read(context.memory);
    for (std::size_t i = 0; i < batch.size(); ++i) {
      const auto view = batch[i];
      // While the table grows, the end of an old chain may be that of a new one.
      if (!view) problems.add("dsqs", view.error());
      if (!view || !seen.insert(batch.address(i)).second) continue;
      if (found.size() == kMaxDispatchQueues) {
        problems.add("dsqs", {.code = ErrorCode::kCorrupt,
                              .message = fmt::format("more than {} queues", kMaxDispatchQueues)});
        return found;
      }
      found.push_back({.address = batch.address(i)});
      // A chain ends in an odd value.
      const GuestVirt next = view->pointer(kNextHashed);
      if (!next.is_null() && (next.value() & 1) == 0) chains->push_back(next);
    }
  }
  return found;
}

ScxList list_of(const ScxQueue& queue, std::string place) {
  return {.kind = ScxList::Kind::kQueue,
          .head = queue.head,
          .first = queue.first,
          .expected = queue.nr,
          .place = std::move(place)};
}

}  // namespace guestscope
