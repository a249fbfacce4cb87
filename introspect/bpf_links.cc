#include "introspect/bpf_links.h"

#include <algorithm>

#include "introspect/limits.h"
#include "introspect/link_readers.h"
#include "introspect/object_ids.h"
#include "introspect/text.h"
#include "introspect/text_batch.h"

namespace guestscope {

namespace {

enum Link : std::size_t { kType, kProg, kRefcount };
constexpr FieldNeed kLinkFields[] = {{"type"}, {"prog"}, {"refcnt.counter|refcnt"}};
constexpr StructNeed kLink = {"bpf_link", kLinkFields};
enum Prog : std::size_t { kProgType, kProgAux };
constexpr FieldNeed kProgFields[] = {{"type"}, {"aux"}};
constexpr StructNeed kProgNeed = {"bpf_prog", kProgFields};

const LinkReader* find_reader(std::string_view type) {
  for (const auto readers :
       {tracing_link_readers(), event_link_readers(), network_link_readers()}) {
    const auto found = std::ranges::find(readers, type, &LinkReader::type);
    if (found != readers.end()) return &*found;
  }
  return nullptr;
}

struct Links {
  std::vector<LinkInfo> links;
  std::vector<GuestVirt> progs;
};

/// The common part of each link that is not about to be freed.
Result<Links> read_heads(ProgReadContext& context, std::span<const IdrEntry> entries,
                         Problems& problems) {
  GS_ASSIGN(const StructLayout* layout, context.layouts.get(kLink));
  GS_ASSIGN(const EnumNames types,
            EnumNames::of(context.layouts.kernel().btf(), "bpf_link_type", "BPF_LINK_TYPE_"));
  std::vector<GuestVirt> pointers;
  for (const IdrEntry& entry : entries) pointers.push_back(entry.pointer);
  Links heads;
  read_structs(context.memory, *layout, pointers,
               [&](std::size_t i, const Result<StructView>& view) {
                 const std::uint64_t id = entries[i].id;
                 if (!view)
                   return problems.add(fmt::format("links with id {}.address", id), view.error());
                 if (view->u64(kRefcount) == 0) return;
                 heads.links.push_back({.id = id,
                                        .address = pointers[i],
                                        .type = types.name_or_number(view->u64(kType), "type")});
                 heads.progs.push_back(view->pointer(kProg));
               });
  return heads;
}

void take_progs(ProgReadContext& context, Links& heads, Problems& problems) {
  const auto layout = context.layouts.get(kProgNeed);
  const auto ids = read_prog_ids(context.memory, context.layouts, heads.progs);
  if (layout)
    read_structs(context.memory, **layout, heads.progs,
                 [&](std::size_t i, const Result<StructView>& view) {
                   if (view)
                     heads.links[i].prog_type =
                         context.model.types.name_or_number(view->u64(kProgType), "type");
                 });
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i])
      heads.links[i].prog_id = ids[i]->id;
    else if (!heads.progs[i].is_null())
      problems.add(fmt::format("links with id {}.prog_id", heads.links[i].id), ids[i].error());
  }
}

/// Kind by kind, in the order in which they turn up.
void take_facts(ProgReadContext& context, std::vector<LinkInfo>& links, Problems& problems) {
  std::vector<std::string> done;
  for (const LinkInfo& first : links) {
    if (std::ranges::find(done, first.type) != done.end()) continue;
    done.push_back(first.type);
    std::vector<LinkInfo*> same;
    for (LinkInfo& link : links)
      if (link.type == first.type) same.push_back(&link);
    LinkGroup group(context, problems, std::move(same));
    if (const LinkReader* reader = find_reader(first.type))
      reader->read(group);
    else
      for (std::size_t i = 0; i < group.size(); ++i)
        group.problem(i, "type",
                      {.code = ErrorCode::kUnsupported,
                       .message = "nothing is known of this kind but what all links have"});
  }
}

}  // namespace

Result<LinkList> read_links(ProgReadContext& context) {
  const auto symbol = context.layouts.kernel().symbols().find("link_idr");
  if (!symbol)
    return fail(ErrorCode::kUnsupported, "{} has no symbol link_idr",
                context.layouts.kernel().title());
  LinkList list;
  GS_ASSIGN(const auto entries,
            read_idr(context.memory, context.model.idr, context.accessor.location.at(symbol->value),
                     "links", list.problems));
  GS_ASSIGN(Links heads, read_heads(context, entries, list.problems));
  take_progs(context, heads, list.problems);
  take_facts(context, heads.links, list.problems);
  list.links = std::move(heads.links);
  return list;
}

void LinkGroup::problem(std::size_t i, std::string_view field, Error error) {
  problems_.add(fmt::format("links with id {}.{}", links_[i]->id, field), std::move(error));
}

void LinkGroup::unreadable(std::size_t i, const std::string& name, Error error) {
  add(i, name, {});
  problem(i, name, std::move(error));
}

bool LinkGroup::takes_functions(std::size_t i, std::uint64_t count) {
  if (count > functions_left_) {
    unreadable(i, "funcs",
               {.code = ErrorCode::kUnsupported,
                .message = fmt::format("more than {} functions in one answer", kMaxLinkFunctions)});
    return false;
  }
  functions_left_ -= count;
  return true;
}

void LinkGroup::add_attach_type(std::size_t i, std::uint64_t type) {
  add(i, "attach_type", context_.model.attach_types.name_or_number(type, "attach_type"));
}

void LinkGroup::containers(const StructNeed& need, const Use& use) {
  const auto layout = context_.layouts.get(need);
  std::vector<GuestVirt> places;
  for (std::size_t i = 0; i < size(); ++i) {
    if (layout)
      places.push_back(links_[i]->address.wrapping_add(-std::uint64_t{(**layout)[0].offset}));
    else
      problem(i, "type", layout.error());
  }
  if (!layout) return;
  read_structs(context_.memory, **layout, places,
               [&](std::size_t i, const Result<StructView>& view) {
                 if (view)
                   use(i, *view);
                 else
                   problem(i, "type", view.error());
               });
}

void LinkGroup::follow(const StructNeed& need, std::span<const GuestVirt> pointers,
                       const std::string& name, const Use& use) {
  const auto layout = context_.layouts.get(need);
  if (!layout) {
    for (std::size_t i = 0; i < pointers.size(); ++i)
      if (!pointers[i].is_null()) unreadable(i, name, layout.error());
    return;
  }
  read_structs(context_.memory, **layout, pointers,
               [&](std::size_t i, const Result<StructView>& view) {
                 if (pointers[i].is_null()) return;
                 if (view)
                   use(i, *view);
                 else
                   unreadable(i, name, view.error());
               });
}

void LinkGroup::texts(std::span<const GuestVirt> pointers, const std::string& name) {
  const auto read = read_strings(context_.memory, pointers, kMaxFunctionNameBytes);
  for (std::size_t i = 0; i < read.size(); ++i) {
    if (pointers[i].is_null()) continue;
    if (read[i])
      add(i, name, *read[i]);
    else
      unreadable(i, name, read[i].error());
  }
}

void LinkGroup::map_ids(std::span<const GuestVirt> pointers, const std::string& name) {
  const auto ids = read_map_ids(context_.memory, context_.layouts, pointers);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (pointers[i].is_null()) continue;
    if (ids[i])
      add(i, name, ids[i]->id);
    else
      unreadable(i, name, ids[i].error());
  }
}

void LinkGroup::describe(std::span<const GuestVirt> pointers, std::vector<Result<Facts>> described,
                         const std::string& name) {
  for (std::size_t i = 0; i < described.size(); ++i) {
    if (pointers[i].is_null()) continue;
    if (!described[i]) {
      unreadable(i, name, described[i].error());
      continue;
    }
    for (Fact& fact : *described[i]) links_[i]->facts.push_back(std::move(fact));
  }
}

std::string LinkGroup::symbol_at(GuestVirt address) const {
  const KernelLocation& kernel = context_.accessor.location;
  if (address < kernel.text_base || address.value() - kernel.text_base.value() >= kernel.image_size)
    return {};
  const std::uint64_t linked = address.value() - kernel.slide;
  const auto symbol = context_.layouts.kernel().symbols().containing(linked);
  if (!symbol) return {};
  const std::uint64_t offset = linked - symbol->value;
  return offset == 0 ? std::string(symbol->name) : fmt::format("{}+{:#x}", symbol->name, offset);
}

}  // namespace guestscope
