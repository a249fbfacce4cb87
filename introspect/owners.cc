#include "introspect/owners.h"

#include "introspect/cgroup_paths.h"
#include "introspect/struct_batch.h"

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

std::vector<Result<Facts>> all_failed(std::size_t n, const Error& error) {
  return {n, std::unexpected(error)};
}

Result<Facts> node_facts(const CgroupPaths& paths, GuestVirt node, Problems& problems) {
  GS_ASSIGN(const std::uint64_t id, paths.id(node));
  const auto path = paths.path(node);
  if (!path) problems.add(fmt::format("cgroup {}.path", id), path.error());
  return Facts{{.name = "cgroup_id", .value = id},
               {.name = "path", .value = path ? FactValue(*path) : FactValue()}};
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
  auto paths = CgroupPaths::create(memory, layouts);
  if (!paths) return all_failed(pointers.size(), paths.error());
  for (const GuestVirt pointer : pointers) paths->add(pointer);
  while (paths->busy()) read_together(memory, *paths);
  std::vector<Result<Facts>> described;
  described.reserve(pointers.size());
  for (const GuestVirt pointer : pointers)
    described.push_back(node_facts(*paths, pointer, problems));
  return described;
}

}  // namespace guestscope
