// Tables of functions that the kernel calls (BPF_MAP_TYPE_STRUCT_OPS): one value, as user space has
// written it, with program ids in place of functions. The kernel keeps a second copy for itself,
// with pointers to code. As a system call does, the table's state is shown from there, and how
// often it is in use: from there as well, or (since 6.4) from the map's own counts.
// Source of truth: kernel/bpf/bpf_struct_ops.c.
#include <algorithm>
#include <unordered_map>

#include "introspect/contents_builder.h"
#include "introspect/enum_names.h"
#include "introspect/limits.h"
#include "introspect/object_ids.h"
#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

// The programs: pointers to them, or, later, to links of theirs; as many as the table has
// members, or (since 6.12) functions.
enum Programs : std::size_t { kProgs, kLinks, kCount };
constexpr FieldNeed kProgramsFields[] = {
    {"progs", kOptional}, {"links", kOptional}, {"funcs_cnt", kOptional}};
constexpr StructNeed kPrograms = {"bpf_struct_ops_map", kProgramsFields};
enum Link : std::size_t { kProg };
constexpr FieldNeed kLinkFields[] = {{"prog"}};
constexpr StructNeed kLink = {"bpf_link", kLinkFields};

/// A field of the kernel's copy: its bytes in the value.
std::span<std::byte> place_of(const StructLayout& layout, MapModel::StructOps field,
                              std::span<std::byte> value) {
  const std::size_t offset = layout[field].offset - layout[MapModel::kKernelValue].offset;
  if (offset > value.size() || layout[field].size > value.size() - offset) return {};
  return value.subspan(offset, layout[field].size);
}

std::uint64_t uses(const StructView& map) {
  if (const std::uint64_t counted = map.u64(MapModel::kUses); counted != 0) return counted;
  const std::int64_t others = map.s64(MapModel::kReferences) - map.s64(MapModel::kUserReferences);
  return static_cast<std::uint64_t>(std::max<std::int64_t>(0, others));
}

/// A function that a program stands for.
struct Operation {
  std::string_view name;  // borrows from the types
  std::uint64_t prog_id = 0;
};

/// The table itself: the member `data` of the value.
Result<MemberPlace> table_in(const Btf& btf, TypeId value_type) {
  GS_ASSIGN(const TypeId type, btf.resolve(value_type));
  for (const BtfMember member : btf.members(type))
    if (member.name == "data") return btf.place(member);
  return fail(ErrorCode::kCorrupt, "{} has no table of functions", btf.describe(type));
}

/// The table's pointers to functions; the kernel keeps the id of a program in place of each.
std::vector<Operation> operations_in(const Btf& btf, const MemberPlace& table, ByteSpan value) {
  std::vector<Operation> operations;
  for (const BtfMember member : btf.members(table.type)) {
    const auto place = btf.place(member);
    if (!place || place->size != 8 || btf.kind(place->type) != BtfKind::kPtr) continue;
    const auto target = btf.resolve(btf.type(place->type).target);
    if (!target || btf.kind(*target) != BtfKind::kFuncProto) continue;
    const auto id = ByteReader(value).number(std::uint64_t{table.offset} + place->offset, 8);
    if (id && *id != 0) operations.push_back({.name = member.name, .prog_id = *id});
  }
  return operations;
}

/// The names of the programs by their ids. Empty where that cannot be told.
Result<std::unordered_map<std::uint64_t, std::string>> program_names(MapReadContext& context,
                                                                     const MapInfo& map,
                                                                     std::size_t members) {
  GS_ASSIGN(const StructLayout* layout, context.layouts.get(kPrograms));
  StructBatch batch(*layout);
  batch.add(map.address);
  batch.read(context.memory);
  GS_ASSIGN(const StructView view, batch[0]);
  const std::size_t n =
      view.has(kCount) ? std::min<std::uint64_t>(view.u64(kCount), members) : members;
  GS_ASSIGN(const Bytes raw,
            context.memory.read_bytes(view.pointer(view.has(kLinks) ? kLinks : kProgs), n * 8));
  std::vector<GuestVirt> pointers;
  for (std::size_t i = 0; i < n; ++i)
    if (const GuestVirt pointer(load_le(raw.data() + i * 8, 8)); !pointer.is_null())
      pointers.push_back(pointer);
  if (view.has(kLinks)) {
    GS_ASSIGN(const StructLayout* link, context.layouts.get(kLink));
    std::vector<GuestVirt> progs(pointers.size());
    read_structs(context.memory, *link, pointers, [&](std::size_t i, const auto& read) {
      if (read) progs[i] = read->pointer(kProg);
    });
    pointers = std::move(progs);
  }
  std::unordered_map<std::uint64_t, std::string> names;
  for (auto& program : read_prog_ids(context.memory, context.layouts, pointers))
    if (program) names.emplace(program->id, std::move(program->name));
  return names;
}

/// {"ssthresh": {"prog_id": 9, "name": "slow_ssthresh"}, …}
Result<Facts> describe_operations(MapReadContext& context, const MapInfo& map, ByteSpan value) {
  GS_ASSIGN(const auto btf, types_of(context, map));
  GS_ASSIGN(const MemberPlace table, table_in(*btf, map.btf_vmlinux_value_type_id));
  const auto names = program_names(context, map, btf->members(table.type).size());
  Facts described;
  for (const Operation& operation : operations_in(*btf, table, value)) {
    Facts facts{{.name = "prog_id", .value = operation.prog_id}};
    if (names) {
      const auto name = names->find(operation.prog_id);
      if (name != names->end()) facts.push_back({.name = "name", .value = name->second});
    }
    described.push_back({.name = std::string(operation.name), .value = std::move(facts)});
  }
  return described;
}

/// Beside the value: its state by name, and its programs.
void add_facts(MapReadContext& context, const MapInfo& map, std::uint64_t state,
               std::optional<ByteSpan> value, ContentsBuilder& builder) {
  Facts facts;
  if (const auto names = EnumNames::of(context.layouts.kernel().btf(), "bpf_struct_ops_state",
                                       "BPF_STRUCT_OPS_STATE_"))
    facts.push_back({.name = "state", .value = names->name_or_number(state, "state")});
  if (value) {
    auto operations = describe_operations(context, map, *value);
    // Without types, the value's own problem says why.
    if (operations) facts.push_back({.name = "operations", .value = *std::move(operations)});
  }
  builder.set_facts(0, std::move(facts));
}

Result<void> list_struct_ops(MapReadContext& context, const MapInfo& map,
                             ContentsBuilder& builder) {
  constexpr std::uint64_t kUnset = 0;  // BPF_STRUCT_OPS_STATE_INIT
  if (!context.model.struct_ops)
    return fail(ErrorCode::kUnsupported, "the kernel's types have no struct bpf_struct_ops_map");
  const StructLayout& layout = *context.model.struct_ops;
  StructBatch batch(layout);
  batch.add(map.address);
  batch.read(context.memory);
  GS_ASSIGN(const StructView view, batch[0]);
  builder.set_indexed(0);
  if (map.value_size == 0)
    return fail_at(map.address.value(), ErrorCode::kCorrupt, "values of 0 bytes");
  builder.set_strides(0, round_up_8(map.value_size));
  if (!builder.has_room(1)) return {};
  const std::span<std::byte> value = builder.append(1).first(map.value_size);
  const std::span<std::byte> state = place_of(layout, MapModel::kState, value);
  const std::span<std::byte> count = place_of(layout, MapModel::kUses, value);
  if (state.empty() || count.empty())
    return fail_at(map.address.value(), ErrorCode::kCorrupt, "a value of {} bytes has no state",
                   map.value_size);
  if (view.u64(MapModel::kState) == kUnset) {
    add_facts(context, map, kUnset, std::nullopt, builder);
    return {};
  }
  if (auto read = context.memory.read_one(view.pointer(MapModel::kUserValue), value); !read) {
    builder.unreadable(0, 0);
    builder.problems().add("entries[0]", std::move(read).error());
    return {};
  }
  std::ranges::copy(view.bytes(MapModel::kState), state.begin());
  for (std::size_t i = 0; i < count.size() && i < 8; ++i)
    count[i] = static_cast<std::byte>(uses(view) >> (8 * i) & 0xff);
  add_facts(context, map, view.u64(MapModel::kState), value, builder);
  return {};
}

}  // namespace

std::span<const MapReader> struct_ops_readers() {
  static constexpr MapReader kReaders[] = {
      {.type = "struct_ops", .list = list_struct_ops, .find = find_by_index}};
  return kReaders;
}

}  // namespace guestscope
