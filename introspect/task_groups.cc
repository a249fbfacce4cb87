#include "introspect/task_groups.h"

namespace guestscope {

namespace {

enum Group : std::size_t { kCgroup, kAutogroup };
constexpr FieldNeed kGroupFields[] = {{"css.cgroup"}, {"autogroup", kOptional}};
constexpr StructNeed kGroupNeed = {"task_group", kGroupFields};
enum Cgroup : std::size_t { kNode };
constexpr FieldNeed kCgroupFields[] = {{"kn"}};
constexpr StructNeed kCgroupNeed = {"cgroup", kCgroupFields};
enum Autogroup : std::size_t { kId };
constexpr FieldNeed kAutogroupFields[] = {{"id"}};
constexpr StructNeed kAutogroupNeed = {"autogroup", kAutogroupFields};

}  // namespace

TaskGroups::TaskGroups(const Needed& needed, CgroupPaths paths)
    : groups_(needed.group),
      cgroups_(needed.cgroup),
      autogroups_(needed.autogroup),
      paths_(std::move(paths)) {}

Result<TaskGroups> TaskGroups::create(KernelMemory& memory, Layouts& layouts) {
  GS_ASSIGN(const StructLayout* group, layouts.get(kGroupNeed));
  GS_ASSIGN(const StructLayout* cgroup, layouts.get(kCgroupNeed));
  GS_ASSIGN(CgroupPaths paths, CgroupPaths::create(memory, layouts));
  // A kernel without autogroups has no pointer to one, and nothing is read by this layout.
  static const StructLayout kNone;
  const StructLayout* autogroup = &kNone;
  if ((*group)[kAutogroup].present) {
    GS_ASSIGN(autogroup, layouts.get(kAutogroupNeed));
  }
  return TaskGroups({.group = *group, .cgroup = *cgroup, .autogroup = *autogroup},
                    std::move(paths));
}

void TaskGroups::add(GuestVirt group) {
  if (!group.is_null() && entries_.emplace(group.value(), Entry{}).second)
    groups_.add(group, group);
}

bool TaskGroups::busy() const {
  return groups_.busy() || cgroups_.busy() || autogroups_.busy() || paths_.busy();
}

void TaskGroups::announce(std::vector<VirtRead>& reads) {
  groups_.announce(reads);
  cgroups_.announce(reads);
  autogroups_.announce(reads);
  paths_.announce(reads);
}

void TaskGroups::failed(GuestVirt group, const Error& error) {
  entries_.at(group.value()) = std::unexpected(error);
}

void TaskGroups::take(std::span<VirtRead>& reads) {
  groups_.take(reads);
  cgroups_.take(reads);
  autogroups_.take(reads);
  paths_.take(reads);
  groups_.each([&](GuestVirt, GuestVirt group, const Result<StructView>& view) {
    if (!view)
      failed(group, view.error());
    else if (!view->pointer(kAutogroup).is_null())
      autogroups_.add(view->pointer(kAutogroup), group);
    else
      cgroups_.add(view->pointer(kCgroup), group);
  });
  cgroups_.each([&](GuestVirt, GuestVirt group, const Result<StructView>& view) {
    if (!view) return failed(group, view.error());
    const GuestVirt node = view->pointer(kNode);
    entries_.at(group.value())->node = node;
    paths_.add(node);
  });
  autogroups_.each([&](GuestVirt, GuestVirt group, const Result<StructView>& view) {
    if (!view) return failed(group, view.error());
    entries_.at(group.value())->autogroup = view->u64(kId);
  });
}

Result<std::string> TaskGroups::name(GuestVirt group) const {
  const auto found = entries_.find(group.value());
  if (found == entries_.end())
    return fail_at(group.value(), ErrorCode::kNotMapped, "null pointer instead of a group");
  if (!found->second) return std::unexpected(found->second.error());
  const Entry& entry = *found->second;
  if (entry.autogroup) return fmt::format("/autogroup-{}", *entry.autogroup);
  return paths_.path(entry.node);
}

}  // namespace guestscope
