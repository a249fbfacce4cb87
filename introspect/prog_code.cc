#include "introspect/prog_code.h"

#include <algorithm>

#include "introspect/limits.h"
#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

// struct bpf_insn: code, two registers of four bits each, offset (16 bits), immediate (32 bits).
constexpr std::size_t kInsnBytes = 8;
constexpr std::size_t kRegisters = 1;
constexpr std::size_t kOffset = 2;
constexpr std::size_t kImmediate = 4;

enum Class : unsigned { kLdx = 0x01, kSt = 0x02, kStx = 0x03 };
enum Mode : unsigned { kMem = 0x60, kProbeMem = 0x20, kProbeMem32 = 0xa0 };
constexpr unsigned kClassMask = 0x07;
constexpr unsigned kModeMask = 0xe0;

constexpr unsigned kCall = 0x85;               // BPF_JMP | BPF_CALL
constexpr unsigned kCallArgs = 0xe5;           // BPF_JMP | BPF_CALL_ARGS
constexpr unsigned kTailCall = 0xf5;           // BPF_JMP | BPF_TAIL_CALL
constexpr std::uint32_t kTailCallHelper = 12;  // BPF_FUNC_tail_call
constexpr unsigned kLoad64 = 0x18;             // BPF_LD | BPF_IMM | BPF_DW
constexpr unsigned kPseudoCall = 1;            // BPF_PSEUDO_CALL
constexpr unsigned kPseudoMapFd = 1;           // BPF_PSEUDO_MAP_FD
constexpr unsigned kPseudoMapValue = 2;        // BPF_PSEUDO_MAP_VALUE

enum Map : std::size_t { kMapType, kMapMax, kMapOps };
constexpr FieldNeed kMapFields[] = {{"map_type"}, {"max_entries"}, {"ops"}};
constexpr StructNeed kMapNeed = {"bpf_map", kMapFields};
constexpr FieldNeed kOpsFields[] = {{"map_direct_value_meta"}};
constexpr StructNeed kOpsNeed = {"bpf_map_ops", kOpsFields};
enum Array : std::size_t { kElemSize, kValues };
constexpr FieldNeed kArrayFields[] = {{"elem_size"}, {"value|pptrs|ptrs"}};
constexpr StructNeed kArrayNeed = {"bpf_array", kArrayFields};

std::uint32_t immediate(std::span<const std::byte> insn) {
  return static_cast<std::uint32_t>(load_le(insn.data() + kImmediate, 4));
}

void set_immediate(std::span<std::byte> insn, std::uint64_t value) {
  for (unsigned i = 0; i < 4; ++i)
    insn[kImmediate + i] = static_cast<std::byte>(value >> (8 * i) & 0xff);
}

void set_source(std::span<std::byte> insn, unsigned reg) {
  insn[kRegisters] = (insn[kRegisters] & std::byte{0x0f}) | static_cast<std::byte>(reg << 4);
}

/// A call of another function, at instruction `at`, holds the function's number and how far away it
/// is: the distance in the 16 bits and the number in the 32, or (since the distance got more room)
/// the other way round. User space sees the former, with 0 for a distance that does not fit.
void show_call(std::span<std::byte> insn, std::uint64_t at,
               std::span<const std::uint64_t> functions) {
  const std::uint64_t number = load_le(insn.data() + kOffset, 2);
  const auto distance = static_cast<std::int32_t>(immediate(insn));
  if (number >= functions.size() ||
      functions[number] != at + 1 + static_cast<std::uint64_t>(std::int64_t{distance}))
    return;
  const bool fits = distance == static_cast<std::int16_t>(distance);
  const auto shown = static_cast<std::uint64_t>(fits ? distance : 0);
  set_immediate(insn, number);
  insn[kOffset] = static_cast<std::byte>(shown & 0xff);
  insn[kOffset + 1] = static_cast<std::byte>(shown >> 8 & 0xff);
}

/// An address that stands in two instructions: that of a map, or inside a map's value.
void show_address(std::span<std::byte> first, std::span<std::byte> second,
                  std::span<const UsedMap> maps) {
  const std::uint64_t address = std::uint64_t{immediate(second)} << 32 | immediate(first);
  for (const UsedMap& map : maps) {
    const bool is_map = address == map.address.value();
    const std::uint64_t offset = address - map.value.value();
    if (!is_map && (map.value.is_null() || offset >= map.value_bytes)) continue;
    set_source(first, is_map ? kPseudoMapFd : kPseudoMapValue);
    set_immediate(first, map.id);
    set_immediate(second, is_map ? 0 : offset);
    return;
  }
}

/// The value's address, of maps whose values programs may address: arrays of one element (those of
/// each CPU: by the per-CPU pointer).
void find_values(ProgReadContext& context, std::vector<UsedMap>& maps, const StructBatch& heads,
                 const StructBatch& ops, const EnumNames& types) {
  const auto layout = context.layouts.get(kArrayNeed);
  if (!layout) return;
  const std::uint32_t values = (**layout)[kValues].offset;
  StructBatch arrays(**layout);
  ReadBatch pointers;
  std::vector<UsedMap*> wanted;
  for (std::size_t i = 0; i < maps.size(); ++i) {
    if (!heads[i] || !ops[i] || ops[i]->u64(0) == 0 || heads[i]->u64(kMapMax) != 1) continue;
    const auto type = types.name(heads[i]->u64(kMapType));
    const bool per_cpu = type == "percpu_array";
    if (type != "array" && !per_cpu) continue;
    arrays.add(maps[i].address);
    const GuestVirt place = maps[i].address.wrapping_add(values);
    pointers.add(per_cpu ? place : GuestVirt(), 8);
    if (!per_cpu) maps[i].value = place;
    wanted.push_back(&maps[i]);
  }
  read_together(context.memory, arrays, pointers);
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (arrays[i]) wanted[i]->value_bytes = arrays[i]->u64(kElemSize);
    if (pointers[i]) wanted[i]->value = GuestVirt(load_le(pointers[i]->data(), 8));
  }
}

Result<std::vector<UsedMap>> find_maps(ProgReadContext& context, const ProgInfo& prog) {
  std::vector<UsedMap> maps;
  for (std::size_t i = 0; i < prog.map_addresses.size(); ++i)
    maps.push_back({.address = prog.map_addresses[i], .id = prog.map_ids[i]});
  const auto head = context.layouts.get(kMapNeed);
  const auto operations = context.layouts.get(kOpsNeed);
  const auto types = EnumNames::of(context.layouts.kernel().btf(), "bpf_map_type", "BPF_MAP_TYPE_");
  if (!head || !operations || !types) return maps;
  StructBatch heads(**head);
  for (const UsedMap& map : maps) heads.add(map.address);
  heads.read(context.memory);
  StructBatch ops(**operations);
  for (std::size_t i = 0; i < maps.size(); ++i)
    ops.add(heads[i] ? heads[i]->pointer(kMapOps) : GuestVirt());
  ops.read(context.memory);
  find_values(context, maps, heads, ops, *types);
  return maps;
}

Result<Bytes> read_xlated(ProgReadContext& context, const ProgInfo& prog) {
  const BoundField& insns = context.model.prog[ProgModel::kInsns];
  if (!insns.present)
    return fail(ErrorCode::kUnsupported, "the kernel's types do not tell where instructions are");
  if (prog.xlated_bytes > kMaxProgCodeBytes)
    return fail_at(prog.address.value(), ErrorCode::kCorrupt, "{} bytes of instructions",
                   prog.xlated_bytes);
  GS_ASSIGN(Bytes code, read_in_steps(context.memory, prog.address.wrapping_add(insns.offset),
                                      prog.xlated_bytes));
  GS_ASSIGN(const std::vector<UsedMap> maps, find_maps(context, prog));
  std::vector<std::uint64_t> functions;
  std::uint64_t first = 0;
  for (const ProgFunction& function : prog.functions) {
    functions.push_back(first);
    first += function.insns;
  }
  show_insns(code, maps, functions);
  return code;
}

Result<Bytes> read_jited(ProgReadContext& context, const ProgInfo& prog) {
  if (!prog.jited)
    return fail(ErrorCode::kNotFound, "program {} is interpreted: it has no machine code", prog.id);
  if (!context.model.prog[ProgModel::kCode].present)
    return fail(ErrorCode::kUnsupported, "the kernel's types do not tell where machine code is");
  Bytes code;
  for (const ProgFunction& function : prog.functions) {
    if (function.bytes > kMaxProgCodeBytes - code.size())
      return fail_at(function.address.value(), ErrorCode::kCorrupt, "{} bytes of machine code",
                     function.bytes);
    GS_ASSIGN(const Bytes piece, read_in_steps(context.memory, function.address, function.bytes));
    code.insert(code.end(), piece.begin(), piece.end());
  }
  return code;
}

}  // namespace

void show_insns(std::span<std::byte> insns, std::span<const UsedMap> maps,
                std::span<const std::uint64_t> functions) {
  for (std::size_t at = 0; at + kInsnBytes <= insns.size(); at += kInsnBytes) {
    const std::span<std::byte> insn = insns.subspan(at, kInsnBytes);
    const unsigned code = std::to_integer<unsigned>(insn[0]);
    const unsigned instruction_class = code & kClassMask;
    const unsigned mode = code & kModeMask;
    const bool memory =
        instruction_class == kLdx || instruction_class == kSt || instruction_class == kStx;
    if (code == kTailCall) {
      insn[0] = std::byte{kCall};
      set_immediate(insn, kTailCallHelper);
    } else if (code == kCall) {
      if (std::to_integer<unsigned>(insn[kRegisters]) >> 4 == kPseudoCall)
        show_call(insn, at / kInsnBytes, functions);
    } else if (code == kCallArgs) {
      insn[0] = std::byte{kCall};
    } else if ((instruction_class == kLdx && mode == kProbeMem) ||
               (memory && mode == kProbeMem32)) {
      insn[0] = static_cast<std::byte>((code & ~kModeMask) | kMem);
    } else if (code == kLoad64 && at + 2 * kInsnBytes <= insns.size()) {
      show_address(insn, insns.subspan(at + kInsnBytes, kInsnBytes), maps);
    }
  }
}

Result<Bytes> read_prog_code(ProgReadContext& context, const ProgInfo& prog, ProgCode which) {
  if (!prog.details_read)
    return fail_at(prog.address.value(), ErrorCode::kCorrupt,
                   "the details of program {} could not be read", prog.id);
  return which == ProgCode::kXlated ? read_xlated(context, prog) : read_jited(context, prog);
}

}  // namespace guestscope
