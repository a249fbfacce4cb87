// Storage of the programs of cgroups (the deprecated cgroup_storage and percpu_cgroup_storage): a
// value for each cgroup, or for each cgroup and way of attaching.
//
// All storages of a map are in a list, whose order is the kernel's, and in a red-black tree, by
// which they are found here: level by level, in a few exchanges. Those of a cgroup are in a ring
// with its struct cgroup, which is how its path is found. Source of truth:
// kernel/bpf/local_storage.c.
#include <algorithm>
#include <unordered_map>

#include "introspect/enum_names.h"
#include "introspect/limits.h"
#include "introspect/map_slots.h"
#include "introspect/owners.h"
#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

enum Map : std::size_t { kRoot, kFirst };
constexpr FieldNeed kMapFields[] = {{"root.rb_node"}, {"list.next"}};
constexpr StructNeed kMap = {"bpf_cgroup_storage_map", kMapFields};
enum Storage : std::size_t {
  kBuffer,
  kKey,
  kCgroupId,
  kAttachType,
  kNext,
  kRing,
  kLeft,
  kRight,
  kNode
};
constexpr FieldNeed kStorageFields[] = {
    {"buf|percpu_buf"},  {"key"},           {"key.cgroup_inode_id"},
    {"key.attach_type"}, {"list_map.next"}, {"list_cg.next"},
    {"node.rb_left"},    {"node.rb_right"}, {"node"}};
constexpr StructNeed kStorage = {"bpf_cgroup_storage", kStorageFields};
enum Buffer : std::size_t { kData };
constexpr FieldNeed kBufferFields[] = {{"data"}};
constexpr StructNeed kBufferNeed = {"bpf_storage_buffer", kBufferFields};

enum Cgroup : std::size_t { kKernfsNode, kStorages };
constexpr FieldNeed kCgroupFields[] = {{"kn"}, {"bpf.storages.next"}};
constexpr StructNeed kCgroup = {"cgroup", kCgroupFields};
enum Node : std::size_t { kNodeId };
constexpr FieldNeed kNodeFields[] = {{"id"}};
constexpr StructNeed kNodeNeed = {"kernfs_node", kNodeFields};

/// One storage of the map.
struct Stored {
  GuestVirt address;
  GuestVirt buffer;
  std::uint64_t cgroup_id = 0;
  std::uint64_t attach_type = 0;
  Bytes key;
  std::uint64_t next = 0;  // in the map's list: another one's list_map
  std::uint64_t ring = 0;  // in the cgroup's ring: the cgroup, or another one's list_cg
};

class StorageTree {
 public:
  StorageTree(MapReadContext& context, const StructLayout& layout, ContentsBuilder& builder)
      : context_(context), layout_(layout), builder_(builder) {}

  /// All storages below `root`, in the order of the list that begins with `first`.
  std::vector<Stored> read(GuestVirt root, std::uint64_t first) {
    std::vector<GuestVirt> level;
    want(root, level);
    while (!level.empty() && !full_) {
      std::vector<GuestVirt> below;
      read_structs(context_.memory, layout_, level,
                   [&](std::size_t i, const Result<StructView>& view) {
                     if (!view)
                       builder_.problems().add("entries", view.error());
                     else
                       take(level[i], *view, below);
                   });
      level = std::move(below);
    }
    return in_order(first);
  }

 private:
  void want(GuestVirt node, std::vector<GuestVirt>& level) {
    if (node.is_null()) return;
    const GuestVirt storage = node.wrapping_add(-std::uint64_t{layout_[kNode].offset});
    if (seen_.emplace(storage.value(), found_.size()).second)
      level.push_back(storage);
    else
      builder_.problems().add("entries", {.code = ErrorCode::kCorrupt,
                                          .message = "the tree of storages has a cycle",
                                          .path = {},
                                          .address = storage.value()});
  }

  void take(GuestVirt address, const StructView& view, std::vector<GuestVirt>& below) {
    if (full_ || !take_entry(context_, builder_, found_.size())) {
      full_ = true;
      return;
    }
    const ByteSpan key = view.bytes(kKey);
    found_.push_back({.address = address,
                      .buffer = view.pointer(kBuffer),
                      .cgroup_id = view.u64(kCgroupId),
                      .attach_type = view.u64(kAttachType),
                      .key = Bytes(key.begin(), key.end()),
                      .next = view.u64(kNext),
                      .ring = view.u64(kRing)});
    want(view.pointer(kLeft), below);
    want(view.pointer(kRight), below);
  }

  /// What the list does not lead to comes last.
  std::vector<Stored> in_order(std::uint64_t first) {
    std::unordered_map<std::uint64_t, std::size_t> by_link;
    for (std::size_t i = 0; i < found_.size(); ++i)
      by_link.emplace(found_[i].address.wrapping_add(layout_[kNext].offset).value(), i);
    std::vector<Stored> ordered;
    std::vector<bool> listed(found_.size());
    for (auto at = by_link.find(first); at != by_link.end(); at = by_link.find(first)) {
      const std::size_t i = at->second;
      by_link.erase(at);
      listed[i] = true;
      first = found_[i].next;
      ordered.push_back(found_[i]);
    }
    for (std::size_t i = 0; i < found_.size(); ++i)
      if (!listed[i]) ordered.push_back(found_[i]);
    return ordered;
  }

  MapReadContext& context_;
  const StructLayout& layout_;
  ContentsBuilder& builder_;
  std::unordered_map<std::uint64_t, std::size_t> seen_;
  std::vector<Stored> found_;
  bool full_ = false;
};

/// Finds the struct cgroup in the ring of each storage: the member whose cgroup would have the id
/// that the storage has. Null where it is not found.
class RingSearch {
 public:
  RingSearch(MapReadContext& context, std::span<const Stored> stored)
      : context_(context), stored_(stored), cgroups_(stored.size()) {
    for (const Stored& each : stored) at_.emplace_back(each.ring);
  }

  std::vector<GuestVirt> run() {
    const auto cgroup = context_.layouts.get(kCgroup);
    const auto node = context_.layouts.get(kNodeNeed);
    if (!cgroup || !node) return std::move(cgroups_);
    for (std::size_t steps = 0; steps < kMaxCgroupStorages; ++steps)
      if (!step(**cgroup, **node)) break;
    return std::move(cgroups_);
  }

 private:
  /// False when all have been found or given up.
  bool step(const StructLayout& cgroup, const StructLayout& node) {
    std::vector<std::size_t> open;
    std::vector<GuestVirt> candidates;
    for (std::size_t i = 0; i < at_.size(); ++i) {
      if (at_[i].is_null() || !cgroups_[i].is_null()) continue;
      open.push_back(i);
      candidates.push_back(at_[i].wrapping_add(-std::uint64_t{cgroup[kStorages].offset}));
    }
    if (open.empty()) return false;
    std::vector<GuestVirt> nodes(open.size());
    read_structs(context_.memory, cgroup, candidates,
                 [&](std::size_t i, const Result<StructView>& view) {
                   at_[open[i]] = view ? view->pointer(kStorages) : GuestVirt();
                   if (view) nodes[i] = view->pointer(kKernfsNode);
                 });
    read_structs(context_.memory, node, nodes, [&](std::size_t i, const Result<StructView>& view) {
      const std::size_t at = open[i];
      if (view && view->u64(kNodeId) == stored_[at].cgroup_id) cgroups_[at] = candidates[i];
    });
    return true;
  }

  MapReadContext& context_;
  std::span<const Stored> stored_;
  std::vector<GuestVirt> cgroups_;
  std::vector<GuestVirt> at_;
};

void add_values(MapReadContext& context, const MapInfo& map, std::span<const Stored> stored,
                std::size_t data, ContentsBuilder& builder) {
  ReadBatch values;
  for (const Stored& each : stored)
    values.add(each.buffer.is_null() ? each.buffer : each.buffer.wrapping_add(data),
               map.value_size);
  values.read(context.memory);
  for (std::size_t i = 0; i < stored.size(); ++i) {
    const auto value = values[i];
    if (value) {
      std::ranges::copy(*value, builder.value_of(i, 0).begin());
      continue;
    }
    builder.unreadable(i, 0);
    builder.problems().add(fmt::format("entries[{}].value", i), value.error());
  }
}

void add_facts(MapReadContext& context, const MapInfo& map, std::span<const Stored> stored,
               ContentsBuilder& builder) {
  EnumNames attach_types;
  if (auto names = EnumNames::of(context.layouts.kernel().btf(), "bpf_attach_type", "BPF_"))
    attach_types = *std::move(names);
  const auto cgroups = RingSearch(context, stored).run();
  // With a key of 8 bytes, one storage serves all ways of attaching.
  const bool by_type = map.key_size > sizeof(std::uint64_t);
  describe_in_steps(
      context, cgroups, builder,
      [&](std::span<const GuestVirt> some) {
        return describe_cgroups(context.memory, context.layouts, some, builder.problems());
      },
      [&](std::size_t i, Result<Facts> described) {
        Facts facts{{.name = "cgroup_id", .value = stored[i].cgroup_id}};
        if (by_type)
          facts.push_back({.name = "attach_type",
                           .value = attach_types.name_or_number(stored[i].attach_type, "type")});
        if (described)
          for (Fact& fact : *described)
            if (fact.name == "path") facts.push_back(std::move(fact));
        builder.set_facts(i, std::move(facts));
      });
}

Result<void> list_storages(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder,
                           bool per_cpu) {
  GS_ASSIGN(const StructLayout* layout, context.layouts.get(kMap));
  GS_ASSIGN(const StructLayout* storage, context.layouts.get(kStorage));
  GS_ASSIGN(const StructLayout* buffer, context.layouts.get(kBufferNeed));
  if (map.value_size == 0 || map.key_size == 0)
    return fail_at(map.address.value(), ErrorCode::kCorrupt, "keys of {} bytes, values of {}",
                   map.key_size, map.value_size);
  StructBatch batch(*layout);
  batch.add(map.address);
  batch.read(context.memory);
  GS_ASSIGN(const StructView view, batch[0]);
  builder.set_strides(round_up_8(map.key_size), round_up_8(map.value_size));
  const auto stored =
      StorageTree(context, *storage, builder).read(view.pointer(kRoot), view.u64(kFirst));
  for (const Stored& each : stored)
    builder.add(ByteSpan(each.key).first(std::min<std::uint64_t>(map.key_size, each.key.size())),
                {});
  if (per_cpu) {
    std::vector<GuestVirt> pointers;
    pointers.reserve(stored.size());
    for (const Stored& each : stored) pointers.push_back(each.buffer);
    read_per_cpu_values(
        context, 0, pointers, map.value_size,
        [](std::size_t i) { return fmt::format("entries[{}]", i); }, builder);
  } else {
    add_values(context, map, stored, (*buffer)[kData].offset, builder);
  }
  add_facts(context, map, stored, builder);
  return {};
}

Result<void> list_shared(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder) {
  return list_storages(context, map, builder, false);
}

Result<void> list_per_cpu(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder) {
  return list_storages(context, map, builder, true);
}

/// By what the kernel compares: the fields of a key, not what lies between them.
Result<void> keep_key(MapReadContext& context, ByteSpan key, ContentsBuilder& builder) {
  GS_ASSIGN(const StructLayout* storage, context.layouts.get(kStorage));
  const auto same = [&](Storage field, ByteSpan other) {
    const std::size_t begin = (*storage)[field].offset - (*storage)[kKey].offset;
    const std::size_t size = (*storage)[field].size;
    if (!ByteReader(key).contains(begin, size) || !ByteReader(other).contains(begin, size))
      return field != kCgroupId;
    return std::ranges::equal(key.subspan(begin, size), other.subspan(begin, size));
  };
  builder.keep_if([&](const MapContents& contents, std::size_t record) {
    return same(kCgroupId, contents.key(record)) && same(kAttachType, contents.key(record));
  });
  return {};
}

Result<void> find_shared(MapReadContext& context, const MapInfo& map, ByteSpan key,
                         ContentsBuilder& builder) {
  GS_CHECK(list_storages(context, map, builder, false));
  return keep_key(context, key, builder);
}

Result<void> find_per_cpu(MapReadContext& context, const MapInfo& map, ByteSpan key,
                          ContentsBuilder& builder) {
  GS_CHECK(list_storages(context, map, builder, true));
  return keep_key(context, key, builder);
}

}  // namespace

std::span<const MapReader> cgroup_storage_readers() {
  static constexpr MapReader kReaders[] = {
      {.type = "cgroup_storage", .list = list_shared, .find = find_shared},
      {.type = "percpu_cgroup_storage",
       .list = list_per_cpu,
       .find = find_per_cpu,
       .per_cpu = true}};
  return kReaders;
}

}  // namespace guestscope
