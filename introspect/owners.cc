#include "introspect/owners.h"

#include <ranges>
#include <unordered_map>

#include "introspect/limits.h"
#include "introspect/struct_batch.h"
#include "introspect/text_batch.h"

namespace guestscope {

namespace {

enum Task : std::size_t { kPid, kTgid, kComm };
constexpr FieldNeed kTaskFields[] = {{"pid"}, {"tgid"}, {"comm"}};
constexpr StructNeed kTask = {"task_struct", kTaskFields};

enum Inode : std::size_t { kNumber, kMode, kSuperBlock };
constexpr FieldNeed kInodeFields[] = {{"i_ino"}, {"i_mode"}, {"i_sb"}};
constexpr StructNeed kInode = {"inode", kInodeFields};
enum SuperBlock : std::size_t { kDev };
constexpr FieldNeed kSuperBlockFields[] = {{"s_dev"}};
constexpr StructNeed kSuperBlockNeed = {"super_block", kSuperBlockFields};

enum Cgroup : std::size_t { kKernfsNode };
constexpr FieldNeed kCgroupFields[] = {{"kn"}};
constexpr StructNeed kCgroup = {"cgroup", kCgroupFields};
enum Node : std::size_t { kParent, kName, kId };
constexpr FieldNeed kNodeFields[] = {{"__parent|parent"}, {"name"}, {"id"}};
constexpr StructNeed kNode = {"kernfs_node", kNodeFields};

constexpr std::size_t kMaxFileName = 256;    // NAME_MAX and the terminator
constexpr std::size_t kMaxPathBytes = 4096;  // PATH_MAX

/// The file types of inode(7), which file systems on disk have as well.
const char* file_type(std::uint64_t mode) {
  switch (mode & 0170000) {
    case 0100000: return "file";
    case 0040000: return "directory";
    case 0120000: return "symlink";
    case 0140000: return "socket";
    case 0010000: return "fifo";
    case 0060000: return "block_device";
    case 0020000: return "char_device";
    default: return nullptr;
  }
}

/// kernfs nodes and all that they lie in, each read once.
class NodePaths {
 public:
  NodePaths(KernelMemory& memory, const StructLayout& layout, Problems& problems)
      : memory_(memory), layout_(layout), problems_(problems) {}

  /// Level by level, up to the roots.
  void add(std::span<const GuestVirt> nodes) {
    std::vector<GuestVirt> level;
    want(nodes, level);
    for (std::size_t depth = 0; !level.empty() && depth < kMaxCgroupDepth; ++depth) {
      std::vector<GuestVirt> parents;
      read_level(level, parents);
      level.clear();
      want(parents, level);
    }
    for (const GuestVirt node : level)
      nodes_.at(node.value()) = fail_at(node.value(), ErrorCode::kCorrupt,
                                        "cgroups nested more than {} deep", kMaxCgroupDepth);
  }

  Result<Facts> facts(GuestVirt address) {
    if (address.is_null())
      return fail_at(0, ErrorCode::kNotMapped, "null pointer instead of a cgroup's node");
    const Result<Entry>& node = nodes_.at(address.value());
    if (!node) return std::unexpected(node.error());
    const auto path = path_of(*node);
    if (!path) problems_.add(fmt::format("cgroup {}.path", node->id), path.error());
    return Facts{{.name = "cgroup_id", .value = node->id},
                 {.name = "path", .value = path ? FactValue(*path) : FactValue()}};
  }

 private:
  struct Entry {
    std::uint64_t id = 0;
    GuestVirt parent;
    Result<std::string> name{};
  };

  void want(std::span<const GuestVirt> nodes, std::vector<GuestVirt>& level) {
    for (const GuestVirt node : nodes)
      if (!node.is_null() && nodes_.emplace(node.value(), Entry{}).second) level.push_back(node);
  }

  void read_level(std::span<const GuestVirt> level, std::vector<GuestVirt>& parents) {
    std::vector<GuestVirt> names;
    std::vector<Entry*> named;
    read_structs(memory_, layout_, level, [&](std::size_t i, const Result<StructView>& view) {
      Result<Entry>& entry = nodes_.at(level[i].value());
      if (!view) {
        entry = std::unexpected(view.error());
        return;
      }
      entry = Entry{.id = view->u64(kId), .parent = view->pointer(kParent), .name = {}};
      parents.push_back(entry->parent);
      names.push_back(view->pointer(kName));
      named.push_back(&*entry);
    });
    auto texts = read_strings(memory_, names, kMaxFileName);
    for (std::size_t i = 0; i < texts.size(); ++i) named[i]->name = std::move(texts[i]);
  }

  Result<std::string> path_of(const Entry& node) const {
    std::vector<std::string_view> names;
    const Entry* at = &node;
    while (!at->parent.is_null()) {
      if (!at->name) return std::unexpected(at->name.error());
      if (names.size() == kMaxCgroupDepth)
        return fail(ErrorCode::kCorrupt, "cgroups nested more than {} deep", kMaxCgroupDepth);
      names.push_back(*at->name);
      const Result<Entry>& parent = nodes_.at(at->parent.value());
      if (!parent) return std::unexpected(parent.error());
      at = &*parent;
    }
    if (names.empty()) return "/";
    std::string path;
    for (const auto name : std::views::reverse(names)) {
      (path += '/') += name;
      if (path.size() > kMaxPathBytes)
        return fail(ErrorCode::kCorrupt, "a path of more than {} bytes", kMaxPathBytes);
    }
    return path;
  }

  KernelMemory& memory_;
  const StructLayout& layout_;
  Problems& problems_;
  std::unordered_map<std::uint64_t, Result<Entry>> nodes_;
};

std::vector<Result<Facts>> all_failed(std::size_t n, const Error& error) {
  return {n, std::unexpected(error)};
}

}  // namespace

std::string device_number(std::uint64_t dev) {
  // MINORBITS of include/linux/kdev_t.h.
  return fmt::format("{}:{}", dev >> 20 & 0xfff, dev & 0xfffff);
}

std::vector<Result<Facts>> describe_tasks(KernelMemory& memory, Layouts& layouts,
                                          std::span<const GuestVirt> pointers) {
  const auto layout = layouts.get(kTask);
  if (!layout) return all_failed(pointers.size(), layout.error());
  std::vector<Result<Facts>> described(pointers.size());
  read_structs(memory, **layout, pointers, [&](std::size_t i, const Result<StructView>& view) {
    if (!view)
      described[i] = std::unexpected(view.error());
    else
      described[i] = Facts{{.name = "pid", .value = view->s64(kPid)},
                           {.name = "tgid", .value = view->s64(kTgid)},
                           {.name = "comm", .value = std::string(view->text(kComm))}};
  });
  return described;
}

std::vector<Result<Facts>> describe_inodes(KernelMemory& memory, Layouts& layouts,
                                           std::span<const GuestVirt> pointers,
                                           Problems& problems) {
  const auto inode = layouts.get(kInode);
  if (!inode) return all_failed(pointers.size(), inode.error());
  const auto super_block = layouts.get(kSuperBlockNeed);
  if (!super_block) return all_failed(pointers.size(), super_block.error());
  std::vector<Result<Facts>> described(pointers.size());
  std::vector<const char*> types(pointers.size());
  std::vector<GuestVirt> file_systems(pointers.size());
  read_structs(memory, **inode, pointers, [&](std::size_t i, const Result<StructView>& view) {
    if (!view) {
      described[i] = std::unexpected(view.error());
      return;
    }
    described[i] = Facts{{.name = "inode", .value = view->u64(kNumber)}};
    types[i] = file_type(view->u64(kMode));
    file_systems[i] = view->pointer(kSuperBlock);
  });
  read_structs(
      memory, **super_block, file_systems, [&](std::size_t i, const Result<StructView>& view) {
        if (!described[i]) return;
        if (!view)
          problems.add(fmt::format("inode at {:#x}.dev", pointers[i].value()), view.error());
        Facts& facts = *described[i];
        facts.push_back({.name = "dev",
                         .value = view ? FactValue(device_number(view->u64(kDev))) : FactValue()});
        if (types[i] != nullptr) facts.push_back({.name = "type", .value = types[i]});
      });
  return described;
}

std::vector<Result<Facts>> describe_cgroups(KernelMemory& memory, Layouts& layouts,
                                            std::span<const GuestVirt> pointers,
                                            Problems& problems) {
  const auto layout = layouts.get(kCgroup);
  if (!layout) return all_failed(pointers.size(), layout.error());
  std::vector<GuestVirt> nodes(pointers.size());
  std::vector<std::optional<Error>> errors(pointers.size());
  read_structs(memory, **layout, pointers, [&](std::size_t i, const Result<StructView>& view) {
    if (view)
      nodes[i] = view->pointer(kKernfsNode);
    else
      errors[i] = view.error();
  });
  auto described = describe_cgroup_nodes(memory, layouts, nodes, problems);
  for (std::size_t i = 0; i < described.size(); ++i)
    if (errors[i]) described[i] = std::unexpected(*std::move(errors[i]));
  return described;
}

std::vector<Result<Facts>> describe_cgroup_nodes(KernelMemory& memory, Layouts& layouts,
                                                 std::span<const GuestVirt> pointers,
                                                 Problems& problems) {
  const auto layout = layouts.get(kNode);
  if (!layout) return all_failed(pointers.size(), layout.error());
  NodePaths paths(memory, **layout, problems);
  paths.add(pointers);
  std::vector<Result<Facts>> described;
  described.reserve(pointers.size());
  for (const GuestVirt pointer : pointers) described.push_back(paths.facts(pointer));
  return described;
}

}  // namespace guestscope
