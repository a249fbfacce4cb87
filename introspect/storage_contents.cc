// Local storage: values that belong to a socket, a task, an inode or a cgroup. Each owner has a
// struct bpf_local_storage with the elements of all maps; each map has a hash table of its own
// elements, which is walked here. To user space the key is a file descriptor of the owner, so that
// there is none to show. Source of truth: kernel/bpf/bpf_local_storage.c, bpf_task_storage.c,
// bpf_inode_storage.c, bpf_cgrp_storage.c, net/core/bpf_sk_storage.c.
#include <algorithm>

#include "introspect/hlist_walk.h"
#include "introspect/limits.h"
#include "introspect/map_slots.h"
#include "introspect/owners.h"
#include "introspect/sockets.h"
#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

enum Map : std::size_t { kBuckets, kBucketLog };
constexpr FieldNeed kMapFields[] = {{"buckets"}, {"bucket_log"}};
constexpr StructNeed kMap = {"bpf_local_storage_map", kMapFields};
enum Bucket : std::size_t { kFirst };
constexpr FieldNeed kBucketFields[] = {{"list.first"}};
constexpr StructNeed kBucket = {"bpf_local_storage_map_bucket", kBucketFields};
enum Element : std::size_t { kNode, kStorage, kElementMap, kData };
constexpr FieldNeed kElementFields[] = {
    {"map_node.next"}, {"local_storage"}, {"sdata.smap"}, {"sdata.data"}};
constexpr StructNeed kElement = {"bpf_local_storage_elem", kElementFields};
enum Storage : std::size_t { kOwner };
constexpr FieldNeed kStorageFields[] = {{"owner"}};
constexpr StructNeed kStorageNeed = {"bpf_local_storage", kStorageFields};

constexpr unsigned kMaxBucketLog = 30;

using DescribeOwners = std::vector<Result<Facts>> (*)(MapReadContext&, std::span<const GuestVirt>,
                                                      Problems&);

std::vector<Result<Facts>> describe_task_owners(MapReadContext& context,
                                                std::span<const GuestVirt> owners, Problems&) {
  return describe_tasks(context.memory, context.layouts, owners);
}

std::vector<Result<Facts>> describe_inode_owners(MapReadContext& context,
                                                 std::span<const GuestVirt> owners,
                                                 Problems& problems) {
  return describe_inodes(context.memory, context.layouts, owners, problems);
}

std::vector<Result<Facts>> describe_cgroup_owners(MapReadContext& context,
                                                  std::span<const GuestVirt> owners,
                                                  Problems& problems) {
  return describe_cgroups(context.memory, context.layouts, owners, problems);
}

std::vector<Result<Facts>> describe_socket_owners(MapReadContext& context,
                                                  std::span<const GuestVirt> owners,
                                                  Problems& problems) {
  auto described = describe_sockets(context.memory, context.layouts, owners, problems);
  for (auto& facts : described)
    if (facts) facts = Facts{{.name = "socket", .value = *std::move(facts)}};
  return described;
}

Result<HlistTable> table_of(MapReadContext& context, const MapInfo& map,
                            const StructLayout& element) {
  GS_ASSIGN(const StructLayout* layout, context.layouts.get(kMap));
  GS_ASSIGN(const StructLayout* bucket, context.layouts.get(kBucket));
  StructBatch batch(*layout);
  batch.add(map.address);
  batch.read(context.memory);
  GS_ASSIGN(const StructView view, batch[0]);
  if (view.u64(kBucketLog) > kMaxBucketLog)
    return fail_at(map.address.value(), ErrorCode::kCorrupt, "a hash table of 2^{} buckets",
                   view.u64(kBucketLog));
  return HlistTable{.buckets = view.pointer(kBuckets),
                    .count = std::uint64_t{1} << view.u64(kBucketLog),
                    .bucket_stride = bucket->size(),
                    .head = (*bucket)[kFirst].offset,
                    .node = element[kNode].offset,
                    .element_bytes = std::max<std::size_t>(element.extent(),
                                                           element[kData].offset + map.value_size)};
}

/// Sets the fact `owner` of every record, through the struct bpf_local_storage of each.
Result<void> add_owners(MapReadContext& context, std::span<const GuestVirt> storages,
                        DescribeOwners describe, ContentsBuilder& builder) {
  GS_ASSIGN(const StructLayout* layout, context.layouts.get(kStorageNeed));
  std::vector<GuestVirt> owners(storages.size());
  read_structs(context.memory, *layout, storages,
               [&](std::size_t i, const Result<StructView>& view) {
                 if (view) owners[i] = view->pointer(kOwner);
               });
  describe_in_steps(
      context, owners, builder,
      [&](std::span<const GuestVirt> some) { return describe(context, some, builder.problems()); },
      [&](std::size_t i, Result<Facts> facts) {
        if (!facts)
          builder.problems().add(fmt::format("storage at {:#x}.owner", storages[i].value()),
                                 facts.error());
        builder.set_facts(
            i, {{.name = "owner", .value = facts ? FactValue(*std::move(facts)) : FactValue()}});
      });
  return {};
}

Result<void> list_storage(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder,
                          DescribeOwners describe) {
  GS_ASSIGN(const StructLayout* element, context.layouts.get(kElement));
  GS_ASSIGN(const HlistTable table, table_of(context, map, *element));
  if (map.value_size == 0)
    return fail_at(map.address.value(), ErrorCode::kCorrupt, "values of 0 bytes");
  builder.set_keys(KeyForm::kNone);
  builder.set_strides(0, round_up_8(map.value_size));
  std::vector<GuestVirt> storages;
  const auto take = [&](GuestVirt at, ByteSpan bytes) {
    const auto field = [&](Element index) {
      return load_le(bytes.data() + (*element)[index].offset, 8);
    };
    if (field(kElementMap) != map.address.value()) {
      builder.problems().add(
          fmt::format("element at {:#x}", at.value()),
          {.code = ErrorCode::kCorrupt, .message = "it says that it belongs to another map"});
    }
    if (!take_entry(context, builder)) return false;
    builder.add({}, bytes.subspan((*element)[kData].offset, map.value_size));
    storages.emplace_back(field(kStorage));
    return true;
  };
  GS_ASSIGN(auto order, walk_hlists(context.memory, table, take, builder.problems()));
  GS_CHECK(add_owners(context, storages, describe, builder));
  builder.set_order(std::move(order));
  return {};
}

template <DescribeOwners describe>
Result<void> list(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder) {
  return list_storage(context, map, builder, describe);
}

}  // namespace

std::span<const MapReader> storage_readers() {
  static constexpr MapReader kReaders[] = {
      {.type = "sk_storage", .list = list<describe_socket_owners>, .find = nullptr},
      {.type = "task_storage", .list = list<describe_task_owners>, .find = nullptr},
      {.type = "inode_storage", .list = list<describe_inode_owners>, .find = nullptr},
      {.type = "cgrp_storage", .list = list<describe_cgroup_owners>, .find = nullptr}};
  return kReaders;
}

}  // namespace guestscope
