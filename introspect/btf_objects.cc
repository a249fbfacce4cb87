#include "introspect/btf_objects.h"

#include <unordered_map>

#include "introspect/limits.h"
#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

enum Object : std::size_t { kData, kSize, kBase, kKernel, kName, kRefcount };
constexpr FieldNeed kObjectFields[] = {{"data"},
                                       {"data_size"},
                                       {"base_btf", kOptional},
                                       {"kernel_btf", kOptional},
                                       {"name", kOptional},
                                       {"refcnt.refs.counter|refcnt.refs|refcnt", kOptional}};
constexpr StructNeed kObject = {"btf", kObjectFields};

constexpr FieldNeed kProgFields[] = {{"aux"}};
constexpr StructNeed kProg = {"bpf_prog", kProgFields};
constexpr FieldNeed kTypesField[] = {{"btf"}};
constexpr StructNeed kAux = {"bpf_prog_aux", kTypesField};
constexpr StructNeed kMap = {"bpf_map", kTypesField};

/// Who uses which object, by the objects' addresses.
class Users {
 public:
  Users(ProgReadContext& context, std::vector<BtfInfo>& objects, Problems& problems)
      : context_(context), problems_(problems) {
    for (BtfInfo& object : objects) objects_.emplace(object.address.value(), &object);
  }

  void add_progs() {
    const auto entries = list_progs(context_, problems_);
    if (!entries) return problems_.add("prog_ids", entries.error());
    std::vector<GuestVirt> progs;
    for (const IdrEntry& entry : *entries) progs.push_back(entry.pointer);
    add(follow(kProg, *entries, progs, "prog_ids"), *entries, kAux, &BtfInfo::prog_ids, "prog_ids");
  }

  void add_maps() {
    const auto symbol = context_.layouts.kernel().symbols().find("map_idr");
    if (!symbol) return;
    const auto entries = read_idr(context_.memory, context_.model.idr,
                                  context_.accessor.location.at(symbol->value), "maps", problems_);
    if (!entries) return problems_.add("map_ids", entries.error());
    std::vector<GuestVirt> maps;
    for (const IdrEntry& entry : *entries) maps.push_back(entry.pointer);
    add(maps, *entries, kMap, &BtfInfo::map_ids, "map_ids");
  }

 private:
  /// The one field of each structure, a pointer; null where it cannot be read.
  std::vector<GuestVirt> follow(const StructNeed& need, std::span<const IdrEntry> entries,
                                std::span<const GuestVirt> at, std::string_view what) {
    std::vector<GuestVirt> found(at.size());
    const auto layout = context_.layouts.get(need);
    if (!layout) {
      problems_.add(std::string(what), layout.error());
      return found;
    }
    read_structs(context_.memory, **layout, at, [&](std::size_t i, const Result<StructView>& view) {
      if (view)
        found[i] = view->pointer(0);
      else if (!at[i].is_null())
        problems_.add(fmt::format("{} of {}", what, entries[i].id), view.error());
    });
    return found;
  }

  void add(std::span<const GuestVirt> at, std::span<const IdrEntry> entries, const StructNeed& need,
           std::vector<std::uint64_t> BtfInfo::* list, std::string_view what) {
    const std::vector<GuestVirt> used = follow(need, entries, at, what);
    for (std::size_t i = 0; i < used.size(); ++i)
      if (const auto object = objects_.find(used[i].value()); object != objects_.end())
        (object->second->*list).push_back(entries[i].id);
  }

  ProgReadContext& context_;
  Problems& problems_;
  std::unordered_map<std::uint64_t, BtfInfo*> objects_;
};

void take_bases(std::vector<BtfInfo>& objects, std::span<const GuestVirt> bases) {
  std::unordered_map<std::uint64_t, std::uint64_t> ids;
  for (const BtfInfo& object : objects) ids.emplace(object.address.value(), object.id);
  for (std::size_t i = 0; i < objects.size(); ++i)
    if (const auto base = ids.find(bases[i].value()); base != ids.end())
      objects[i].base_id = base->second;
}

}  // namespace

Result<BtfObjectList> read_btf_objects(ProgReadContext& context) {
  const auto symbol = context.layouts.kernel().symbols().find("btf_idr");
  if (!symbol)
    return fail(ErrorCode::kUnsupported, "{} has no symbol btf_idr",
                context.layouts.kernel().title());
  GS_ASSIGN(const StructLayout* layout, context.layouts.get(kObject));
  BtfObjectList list;
  GS_ASSIGN(const auto entries,
            read_idr(context.memory, context.model.idr, context.accessor.location.at(symbol->value),
                     "btf", list.problems));
  std::vector<GuestVirt> pointers;
  pointers.reserve(entries.size());
  for (const IdrEntry& entry : entries) pointers.push_back(entry.pointer);
  std::vector<GuestVirt> bases;
  read_structs(context.memory, *layout, pointers,
               [&](std::size_t i, const Result<StructView>& view) {
                 if (!view)
                   return list.problems.add(fmt::format("btf with id {}.address", entries[i].id),
                                            view.error());
                 if (view->has(kRefcount) && view->u64(kRefcount) == 0)
                   return;  // about to be freed
                 list.objects.push_back({.id = entries[i].id,
                                         .address = pointers[i],
                                         .name = std::string(view->text(kName)),
                                         .size = view->u64(kSize),
                                         .kernel = view->u64(kKernel) != 0,
                                         .data = view->pointer(kData)});
                 bases.push_back(view->pointer(kBase));
               });
  take_bases(list.objects, bases);
  Users users(context, list.objects, list.problems);
  users.add_progs();
  users.add_maps();
  return list;
}

Result<Bytes> read_btf_bytes(ProgReadContext& context, const BtfInfo& object) {
  if (object.size > kMaxBtfBytes)
    return fail_at(object.address.value(), ErrorCode::kCorrupt, "{} bytes of types", object.size);
  return read_in_steps(context.memory, object.data, object.size);
}

}  // namespace guestscope
