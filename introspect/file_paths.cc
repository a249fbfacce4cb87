#include "introspect/file_paths.h"

#include <algorithm>
#include <ranges>

#include "introspect/limits.h"
#include "introspect/struct_batch.h"
#include "introspect/text_batch.h"

namespace guestscope {

namespace {

enum Dentry : std::size_t { kName, kParent };
constexpr FieldNeed kDentryFields[] = {{"d_name.name|__d_name.name"}, {"d_parent"}};
constexpr StructNeed kDentry = {"dentry", kDentryFields};
enum Mount : std::size_t { kVfsMount, kRoot, kMountPoint, kMountParent };
constexpr FieldNeed kMountFields[] = {
    {"mnt"}, {"mnt.mnt_root"}, {"mnt_mountpoint"}, {"mnt_parent"}};
constexpr StructNeed kMount = {"mount", kMountFields};

constexpr std::size_t kMaxFileName = 256;  // NAME_MAX and the terminator

/// One path on its way from the file up to the root.
struct Climb {
  GuestVirt mount;
  GuestVirt dentry;
  std::vector<GuestVirt> names{};
  bool done = false;
  std::optional<Error> error{};

  void fail_with(Error why) {
    error = std::move(why);
    done = true;
  }

  /// To the parent, or through the root of a mount to where that lies.
  void step(const StructView& entry, const StructView& mounted) {
    if (dentry == mounted.pointer(kRoot)) {
      done = mounted.pointer(kMountParent) == mount;
      dentry = mounted.pointer(kMountPoint);
      mount = mounted.pointer(kMountParent);
    } else if (entry.pointer(kParent) == dentry) {
      done = true;  // in a mount that is mounted nowhere any more
    } else {
      names.push_back(entry.pointer(kName));
      dentry = entry.pointer(kParent);
    }
  }
};

void climb_all(KernelMemory& memory, const StructLayout& dentry, const StructLayout& mount,
               std::span<Climb> climbs) {
  for (std::size_t depth = 0; depth < kMaxPathDepth; ++depth) {
    StructBatch entries(dentry);
    StructBatch mounts(mount);
    std::vector<Climb*> live;
    for (Climb& climb : climbs) {
      if (climb.done) continue;
      entries.add(climb.dentry);
      mounts.add(climb.mount);
      live.push_back(&climb);
    }
    if (live.empty()) return;
    read_together(memory, entries, mounts);
    for (std::size_t i = 0; i < live.size(); ++i) {
      if (!entries[i])
        live[i]->fail_with(entries[i].error());
      else if (!mounts[i])
        live[i]->fail_with(mounts[i].error());
      else
        live[i]->step(*entries[i], *mounts[i]);
    }
  }
  for (Climb& climb : climbs)
    if (!climb.done)
      climb.fail_with({.code = ErrorCode::kCorrupt,
                       .message = fmt::format("a path of more than {} parts", kMaxPathDepth)});
}

Result<std::string> join(std::span<const Result<std::string>> names) {
  std::string path;
  for (const auto& name : std::views::reverse(names)) {
    if (!name) return std::unexpected(name.error());
    (path += '/') += *name;
  }
  return path.empty() ? "/" : path;
}

}  // namespace

std::vector<Result<std::string>> read_paths(KernelMemory& memory, Layouts& layouts,
                                            std::span<const FilePlace> places) {
  const auto dentry = layouts.get(kDentry);
  const auto mount = layouts.get(kMount);
  if (!dentry || !mount)
    return {places.size(), std::unexpected(!dentry ? dentry.error() : mount.error())};
  std::vector<Climb> climbs;
  for (const FilePlace& place : places)
    climbs.push_back({.mount = place.mount.is_null() ? GuestVirt()
                                                     : place.mount.wrapping_add(-std::uint64_t{
                                                           (**mount)[kVfsMount].offset}),
                      .dentry = place.dentry});
  climb_all(memory, **dentry, **mount, climbs);
  std::vector<GuestVirt> names;
  for (const Climb& climb : climbs)
    names.insert(names.end(), climb.names.begin(), climb.names.end());
  const auto texts = read_strings(memory, names, kMaxFileName);
  std::vector<Result<std::string>> paths;
  std::size_t next = 0;
  for (const Climb& climb : climbs) {
    const auto own = std::span(texts).subspan(next, climb.names.size());
    next += climb.names.size();
    if (climb.error)
      paths.emplace_back(std::unexpected(*climb.error));
    else
      paths.push_back(join(own));
  }
  return paths;
}

}  // namespace guestscope
