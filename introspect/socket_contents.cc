// Maps of sockets: sockmap and sockhash, which redirect messages, and reuseport_sockarray. The
// system call gives a socket's cookie when values have 8 bytes; the kernel makes one when it is
// asked for the first time, so that a socket may be without here.
// Source of truth: net/core/sock_map.c, kernel/bpf/reuseport_array.c.
#include <algorithm>
#include <cerrno>

#include "introspect/hlist_walk.h"
#include "introspect/map_slots.h"
#include "introspect/sockets.h"
#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

enum Table : std::size_t { kSockets };
constexpr FieldNeed kTableFields[] = {{"sks"}};
constexpr StructNeed kTable = {"bpf_stab", kTableFields};

enum Hash : std::size_t { kBuckets, kBucketCount };
constexpr FieldNeed kHashFields[] = {{"buckets"}, {"buckets_num"}};
constexpr StructNeed kHash = {"bpf_shtab", kHashFields};
enum Bucket : std::size_t { kFirst };
constexpr FieldNeed kBucketFields[] = {{"head.first"}};
constexpr StructNeed kBucket = {"bpf_shtab_bucket", kBucketFields};
enum Element : std::size_t { kNode, kSocket, kKey };
constexpr FieldNeed kElementFields[] = {{"node.next"}, {"sk"}, {"key"}};
constexpr StructNeed kElement = {"bpf_shtab_elem", kElementFields};

enum Reuseport : std::size_t { kPointers };
constexpr FieldNeed kReuseportFields[] = {{"ptrs"}};
constexpr StructNeed kReuseport = {"reuseport_array", kReuseportFields};

constexpr std::size_t kCookieBytes = 8;

bool gives_cookies(const MapInfo& map, ContentsBuilder& builder) {
  if (map.value_size == kCookieBytes) return true;
  builder.set_lookup_error(ENOSPC);
  return false;
}

/// The facts, and what the system call gives: both of one socket.
void fill(std::size_t record, Result<Facts> facts, const std::string& place,
          ContentsBuilder& builder) {
  if (!facts) {
    builder.problems().add(place, facts.error());
    builder.unreadable(record, 0);
    return;
  }
  const auto cookie = number_in(*facts, "cookie");
  const auto value = builder.value_of(record, 0);
  if (!cookie) builder.unreadable(record, 0);
  for (std::size_t i = 0; i < value.size() && i < kCookieBytes; ++i)
    value[i] = static_cast<std::byte>(cookie.value_or(0) >> (8 * i) & 0xff);
  builder.set_facts(record, *std::move(facts));
}

auto describe_with(MapReadContext& context, ContentsBuilder& builder) {
  return [&](std::span<const GuestVirt> sockets) {
    return describe_sockets(context.memory, context.layouts, sockets, builder.problems());
  };
}

void list_table(MapReadContext& context, const MapInfo& map, GuestVirt table,
                ContentsBuilder& builder) {
  begin_slots(map, gives_cookies(map, builder), builder);
  const auto slots = read_slots(context, map, table, builder);
  for (const Slot& slot : slots) add_slot(slot, 0, {}, builder);
  describe_in_steps(context, pointers_of(slots), builder, describe_with(context, builder),
                    [&](std::size_t i, Result<Facts> facts) {
                      fill(i, std::move(facts), place_of(slots[i]), builder);
                    });
}

Result<void> list_sockmap(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder) {
  GS_ASSIGN(const StructLayout* layout, context.layouts.get(kTable));
  StructBatch batch(*layout);
  batch.add(map.address);
  batch.read(context.memory);
  GS_ASSIGN(const StructView view, batch[0]);
  list_table(context, map, view.pointer(kSockets), builder);
  return {};
}

Result<void> list_reuseport(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder) {
  GS_ASSIGN(const StructLayout* layout, context.layouts.get(kReuseport));
  list_table(context, map, map.address.wrapping_add((*layout)[kPointers].offset), builder);
  return {};
}

Result<void> list_sockhash(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder) {
  GS_ASSIGN(const StructLayout* layout, context.layouts.get(kHash));
  GS_ASSIGN(const StructLayout* bucket, context.layouts.get(kBucket));
  GS_ASSIGN(const StructLayout* element, context.layouts.get(kElement));
  StructBatch batch(*layout);
  batch.add(map.address);
  batch.read(context.memory);
  GS_ASSIGN(const StructView view, batch[0]);
  begin_slots(map, gives_cookies(map, builder), builder);
  builder.set_keys(KeyForm::kBytes);
  const std::size_t key = (*element)[kKey].offset;
  const HlistTable chains{
      .buckets = view.pointer(kBuckets),
      .count = view.u64(kBucketCount),
      .bucket_stride = bucket->size(),
      .head = (*bucket)[kFirst].offset,
      .node = (*element)[kNode].offset,
      .element_bytes = std::max<std::size_t>(element->extent(), key + map.key_size)};
  std::vector<GuestVirt> sockets;
  GS_ASSIGN(auto order,
            walk_hlists(
                context.memory, chains,
                [&](GuestVirt, ByteSpan bytes) {
                  if (!take_entry(context, builder)) return false;
                  builder.add(bytes.subspan(key, map.key_size), {});
                  sockets.emplace_back(load_le(bytes.data() + (*element)[kSocket].offset, 8));
                  return true;
                },
                builder.problems()));
  describe_in_steps(context, sockets, builder, describe_with(context, builder),
                    [&](std::size_t i, Result<Facts> facts) {
                      fill(i, std::move(facts), fmt::format("socket at {:#x}", sockets[i].value()),
                           builder);
                    });
  builder.set_order(std::move(order));
  return {};
}

}  // namespace

std::span<const MapReader> socket_readers() {
  static constexpr MapReader kReaders[] = {
      {.type = "sockmap", .list = list_sockmap, .find = find_by_index},
      {.type = "sockhash", .list = list_sockhash, .find = find_by_listing},
      {.type = "reuseport_sockarray", .list = list_reuseport, .find = find_by_index}};
  return kReaders;
}

}  // namespace guestscope
