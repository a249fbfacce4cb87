#include "introspect/cgroup_paths.h"

#include <ranges>

#include "introspect/limits.h"

namespace guestscope {

namespace {

enum Node : std::size_t { kParent, kName, kId };
constexpr FieldNeed kNodeFields[] = {{"__parent|parent"}, {"name"}, {"id"}};
constexpr StructNeed kNode = {"kernfs_node", kNodeFields};

constexpr std::size_t kMaxFileName = 256;    // NAME_MAX and the terminator
constexpr std::size_t kMaxPathBytes = 4096;  // PATH_MAX

std::unexpected<Error> too_deep(GuestVirt node) {
  return fail_at(node.value(), ErrorCode::kCorrupt, "cgroups nested more than {} deep",
                 kMaxCgroupDepth);
}

}  // namespace

Result<CgroupPaths> CgroupPaths::create(KernelMemory& memory, Layouts& layouts) {
  GS_ASSIGN(const StructLayout* layout, layouts.get(kNode));
  return CgroupPaths(memory, *layout);
}

void CgroupPaths::want(GuestVirt node, std::size_t depth) {
  if (node.is_null()) return;
  const auto [entry, is_new] = entries_.emplace(node.value(), Entry{});
  if (!is_new) return;
  if (depth < kMaxCgroupDepth)
    nodes_.add(node, depth);
  else
    entry->second = too_deep(node);
}

void CgroupPaths::announce(std::vector<VirtRead>& reads) {
  nodes_.announce(reads);
  naming_ = std::exchange(unnamed_, {});
  names_ = {};
  for (const Unnamed& unnamed : naming_) names_.add(unnamed.name, kMaxFileName);
  names_.announce(reads);
}

void CgroupPaths::take(std::span<VirtRead>& reads) {
  nodes_.take(reads);
  names_.take(reads);
  names_.finish(*memory_);
  for (std::size_t i = 0; i < naming_.size(); ++i) entries_.at(naming_[i].node)->name = names_[i];
  nodes_.each([&](GuestVirt node, std::size_t depth, const Result<StructView>& view) {
    Result<Entry>& entry = entries_.at(node.value());
    if (!view) {
      entry = std::unexpected(view.error());
      return;
    }
    entry->id = view->u64(kId);
    entry->parent = view->pointer(kParent);
    if (entry->parent.is_null()) return;  // a root's name is in no path
    unnamed_.push_back({.node = node.value(), .name = view->pointer(kName)});
    want(entry->parent, depth + 1);
  });
}

Result<const CgroupPaths::Entry*> CgroupPaths::find(GuestVirt node) const {
  if (node.is_null())
    return fail_at(0, ErrorCode::kNotMapped, "null pointer instead of a cgroup's node");
  const Result<Entry>& entry = entries_.at(node.value());
  if (!entry) return std::unexpected(entry.error());
  return &*entry;
}

Result<std::uint64_t> CgroupPaths::id(GuestVirt node) const {
  GS_ASSIGN(const Entry* entry, find(node));
  return entry->id;
}

Result<std::string> CgroupPaths::path(GuestVirt node) const {
  GS_ASSIGN(const Entry* at, find(node));
  std::vector<std::string_view> names;
  while (!at->parent.is_null()) {
    if (!at->name) return std::unexpected(at->name.error());
    if (names.size() == kMaxCgroupDepth) return too_deep(node);
    names.push_back(*at->name);
    GS_ASSIGN(at, find(at->parent));
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

}  // namespace guestscope
