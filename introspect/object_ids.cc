#include "introspect/object_ids.h"

#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

enum Prog : std::size_t { kAux };
constexpr FieldNeed kProgFields[] = {{"aux"}};
constexpr StructNeed kProg = {"bpf_prog", kProgFields};

enum Id : std::size_t { kId, kName };
constexpr FieldNeed kIdFields[] = {{"id"}, {"name"}};
constexpr StructNeed kAuxIds = {"bpf_prog_aux", kIdFields};
constexpr StructNeed kMapIds = {"bpf_map", kIdFields};

std::vector<Result<ObjectId>> read_ids(KernelMemory& memory, Layouts& layouts,
                                       const StructNeed& need,
                                       std::span<const GuestVirt> pointers) {
  std::vector<Result<ObjectId>> ids(pointers.size());
  const auto layout = layouts.get(need);
  if (!layout) {
    ids.assign(pointers.size(), std::unexpected(layout.error()));
    return ids;
  }
  read_structs(memory, **layout, pointers, [&](std::size_t i, const Result<StructView>& view) {
    if (view)
      ids[i] = ObjectId{.id = view->u64(kId), .name = std::string(view->text(kName))};
    else
      ids[i] = std::unexpected(view.error());
  });
  return ids;
}

}  // namespace

std::vector<Result<ObjectId>> read_prog_ids(KernelMemory& memory, Layouts& layouts,
                                            std::span<const GuestVirt> pointers) {
  const auto layout = layouts.get(kProg);
  if (!layout) return {pointers.size(), std::unexpected(layout.error())};
  std::vector<GuestVirt> details(pointers.size());
  std::vector<std::optional<Error>> errors(pointers.size());
  read_structs(memory, **layout, pointers, [&](std::size_t i, const Result<StructView>& view) {
    if (view)
      details[i] = view->pointer(kAux);
    else
      errors[i] = view.error();
  });
  auto ids = read_ids(memory, layouts, kAuxIds, details);
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (errors[i]) ids[i] = std::unexpected(*std::move(errors[i]));
  return ids;
}

std::vector<Result<ObjectId>> read_map_ids(KernelMemory& memory, Layouts& layouts,
                                           std::span<const GuestVirt> pointers) {
  return read_ids(memory, layouts, kMapIds, pointers);
}

}  // namespace guestscope
