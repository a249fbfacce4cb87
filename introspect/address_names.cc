#include "introspect/address_names.h"

#include <algorithm>
#include <array>
#include <optional>

#include "introspect/limits.h"
#include "introspect/struct_batch.h"
#include "introspect/text_batch.h"

namespace guestscope {

namespace {

enum LatchRoot : std::size_t { kSequence, kTrees };
constexpr FieldNeed kRootFields[] = {{"seq.seqcount.sequence|seq.sequence"}, {"tree"}};
constexpr StructNeed kRoot = {"latch_tree_root", kRootFields};

enum RbNode : std::size_t { kLeft, kRight };
constexpr FieldNeed kNodeFields[] = {{"rb_left"}, {"rb_right"}};
constexpr StructNeed kNode = {"rb_node", kNodeFields};

/// What a tree consists of: a range of addresses and its nodes, one for each of the two trees.
enum Range : std::size_t { kStart, kEnd, kSize, kNodes, kModule, kText };
constexpr FieldNeed kBpfFields[] = {
    {"start"}, {"end"}, {"size", kOptional}, {"tnode.node"}, {"none", kOptional}, {"name"}};
constexpr StructNeed kBpf = {"bpf_ksym", kBpfFields};
constexpr FieldNeed kPartFields[] = {
    {"base"}, {"end", kOptional}, {"size"}, {"mtn.node.node"}, {"mtn.mod"}};
constexpr StructNeed kModulePart = {"module_memory", kPartFields};    // since 6.4
constexpr StructNeed kModuleLayout = {"module_layout", kPartFields};  // before

enum Module : std::size_t { kModuleName, kSymbols };
constexpr FieldNeed kModuleFields[] = {{"name"}, {"kallsyms"}};
constexpr StructNeed kModuleNeed = {"module", kModuleFields};

enum ModuleSymbols : std::size_t { kSymtab, kSymbolCount, kStrtab };
constexpr FieldNeed kSymbolsFields[] = {{"symtab"}, {"num_symtab"}, {"strtab"}};
constexpr StructNeed kModuleSymbols = {"mod_kallsyms", kSymbolsFields};

struct WireSymbol {  // Elf64_Sym
  le32 name;
  std::byte info;
  std::byte other;
  le16 section;
  le64 value;
  le64 size;
};
static_assert(sizeof(WireSymbol) == 24);

/// Levels of a red-black tree: twice the logarithm of its size.
constexpr unsigned kMaxTreeDepth = 64;
/// Symbols of one module; the largest have 50,000.
constexpr std::size_t kMaxModuleSymbols = 1U << 18;
constexpr std::size_t kMaxModules = 256;
/// Symbols at one place that are tried for a name: what marks a piece of code or data for tools is
/// at the same place as its function.
constexpr std::size_t kSamePlace = 4;

struct Hit {
  GuestVirt object;  // the structure whose range has the address
  std::uint64_t start = 0;
  GuestVirt module;
};

/// Looks for addresses in one of the kernel's latched trees, all of them side by side.
class LatchSearch {
 public:
  LatchSearch(KernelMemory& memory, const StructLayout& object, const StructLayout& node)
      : memory_(memory), object_(object), node_(node) {}

  std::map<std::uint64_t, Hit> run(GuestVirt root, const StructLayout& layout,
                                   std::span<const std::uint64_t> addresses) {
    StructBatch batch(layout);
    batch.add(root);
    batch.read(memory_);
    const auto view = batch[0];
    const BoundField& nodes = object_[kNodes];
    if (!view || nodes.size != 2 * node_.size() || layout[kTrees].size != 16) return {};
    // Writers change one tree after the other; readers take that which the sequence says.
    const std::size_t tree = view->u64(kSequence) & 1;
    to_object_ = nodes.offset + tree * node_.size();
    const ByteSpan roots = view->bytes(kTrees);
    std::vector<Step> steps;
    for (const std::uint64_t address : addresses)
      steps.push_back({.address = address, .node = load_le(roots.data() + tree * 8, 8)});
    for (unsigned depth = 0; depth < kMaxTreeDepth && !steps.empty(); ++depth) descend(steps);
    return std::move(hits_);
  }

 private:
  struct Step {
    std::uint64_t address = 0;
    std::uint64_t node = 0;
  };

  void descend(std::vector<Step>& steps) {
    std::erase_if(steps, [](const Step& step) { return step.node == 0; });
    std::map<std::uint64_t, std::size_t> known;  // of neighbours, most go the same way
    StructBatch batch(object_);
    for (const Step& step : steps)
      if (!known.contains(step.node))
        known[step.node] = batch.add(GuestVirt(step.node - to_object_));
    batch.read(memory_);
    for (Step& step : steps) {
      const std::size_t index = known[step.node];
      const auto view = batch[index];
      step.node = view ? next(step.address, batch.address(index), *view) : 0;
    }
  }

  std::uint64_t next(std::uint64_t address, GuestVirt object, const StructView& view) {
    const std::uint64_t start = view.u64(kStart);
    const std::uint64_t end = view.has(kEnd) ? view.u64(kEnd) : start + view.u64(kSize);
    const ByteSpan node = view.bytes(kNodes).subspan(to_object_ - object_[kNodes].offset);
    if (address < start) return load_le(node.data() + node_[kLeft].offset, 8);
    if (address >= end) return load_le(node.data() + node_[kRight].offset, 8);
    hits_.emplace(address, Hit{.object = object, .start = start, .module = view.pointer(kModule)});
    return 0;
  }

  KernelMemory& memory_;
  const StructLayout& object_;
  const StructLayout& node_;
  std::uint64_t to_object_ = 0;  // from an object to its node in the tree that is searched
  std::map<std::uint64_t, Hit> hits_;
};

/// Of what a symbol's type may be, those that stand for variables.
constexpr unsigned kObject = 1, kThreadLocal = 6;  // STT_OBJECT, STT_TLS

/// Sizes are not known of all places in assembly code.
bool is_in_function(const WireSymbol& symbol, std::uint64_t offset) {
  const unsigned type = std::to_integer<unsigned>(symbol.info) & 15;
  return type != kObject && type != kThreadLocal && (offset == 0 || offset < symbol.size);
}

/// Of some toolchains: "$x", "$d.3", ".L12".
bool marks_code(std::string_view name) {
  return name.empty() || name.starts_with('$') || name.starts_with(".L");
}

}  // namespace

std::vector<std::string> AddressNames::of(std::span<const GuestVirt> addresses) {
  const Names names = find(addresses);
  std::vector<std::string> list;
  list.reserve(addresses.size());
  for (const GuestVirt address : addresses) {
    std::string& text = list.emplace_back();
    const auto found = names.find(address.value());
    if (found == names.end() || found->second.name.empty()) continue;
    const Place& place = found->second;
    text = fmt::format("{}+{:#x}", place.name, place.offset);
    if (!place.owner.empty()) text += fmt::format(" [{}]", place.owner);
  }
  return list;
}

FunctionNames AddressNames::functions(std::span<const GuestVirt> addresses) {
  FunctionNames functions;
  for (auto& [address, place] : find(addresses)) {
    if (place.name.empty() || !place.in_function) continue;
    functions[address] =
        place.offset == 0 ? place.name : fmt::format("{}+{:#x}", place.name, place.offset);
  }
  return functions;
}

AddressNames::Names AddressNames::find(std::span<const GuestVirt> addresses) {
  Names names;
  for (const GuestVirt address : addresses)
    if (is_kernel(address)) names.try_emplace(address.value());
  name_image(names);
  name_bpf(names);
  name_modules(names);
  return names;
}

namespace {

template <typename Names>
std::vector<std::uint64_t> nameless(const Names& names) {
  std::vector<std::uint64_t> list;
  for (const auto& [address, place] : names)
    if (place.name.empty()) list.push_back(address);
  return list;
}

}  // namespace

void AddressNames::name_image(Names& names) const {
  std::vector<std::uint64_t> linked;
  for (const auto& [address, place] : names)
    if (address - location_->text_base.value() < location_->image_size)
      linked.push_back(address - location_->slide);
  if (linked.empty()) return;
  const auto symbols = layouts_->kernel().symbols().containing(linked);
  for (std::size_t i = 0; i < linked.size(); ++i)
    if (symbols[i])
      names[linked[i] + location_->slide] = {.name = std::string(symbols[i]->name),
                                             .offset = linked[i] - symbols[i]->value,
                                             .in_function = symbols[i]->code};
}

void AddressNames::name_bpf(Names& names) {
  const std::vector<std::uint64_t> sought = nameless(names);
  const auto tree = layouts_->kernel().symbols().find("bpf_tree");
  const auto root = layouts_->get(kRoot);
  const auto node = layouts_->get(kNode);
  const auto object = layouts_->get(kBpf);
  if (sought.empty() || !tree || !root || !node || !object) return;
  const auto hits =
      LatchSearch(*memory_, **object, **node).run(location_->at(tree->value), **root, sought);
  TextBatch texts;
  for (const auto& [address, hit] : hits)
    texts.add(hit.object.wrapping_add((**object)[kText].offset), (**object)[kText].size);
  texts.read(*memory_);
  std::size_t index = 0;
  for (const auto& [address, hit] : hits)
    if (const auto text = texts[index++])
      names[address] = {
          .name = *text, .offset = address - hit.start, .owner = "bpf", .in_function = true};
}

void AddressNames::name_modules(Names& names) {
  const std::vector<std::uint64_t> sought = nameless(names);
  const auto tree = layouts_->kernel().symbols().find("mod_tree");
  const auto root = layouts_->get(kRoot);
  const auto node = layouts_->get(kNode);
  auto object = layouts_->get(kModulePart);
  if (!object) object = layouts_->get(kModuleLayout);
  if (sought.empty() || !tree || !root || !node || !object) return;
  // The root is the first member of struct mod_tree_root.
  const auto hits =
      LatchSearch(*memory_, **object, **node).run(location_->at(tree->value), **root, sought);
  std::map<GuestVirt, std::vector<std::uint64_t>> modules;
  for (const auto& [address, hit] : hits) modules[hit.module].push_back(address);
  std::size_t count = 0;
  for (const auto& [module, addresses] : modules)
    if (++count <= kMaxModules) name_in_module(module, addresses, names);
}

namespace {

/// The symbols at or before the address that are nearest, the nearest first.
std::array<std::size_t, kSamePlace> nearest(std::span<const WireSymbol> symbols,
                                            std::uint64_t address) {
  std::array<std::size_t, kSamePlace> best{};  // 0 is the null symbol of every table
  for (std::size_t i = 1; i < symbols.size(); ++i) {
    if (symbols[i].section == 0 || symbols[i].value > address) continue;
    std::size_t at = i;
    for (std::size_t& place : best)
      if (place == 0 || symbols[at].value > symbols[place].value) {
        std::swap(place, at);
        if (at == 0) break;
      }
  }
  return best;
}

}  // namespace

void AddressNames::name_in_module(GuestVirt module, std::span<const std::uint64_t> addresses,
                                  Names& names) {
  const auto layout = layouts_->get(kModuleNeed);
  const auto symbols_layout = layouts_->get(kModuleSymbols);
  if (!layout || !symbols_layout) return;
  StructBatch batch(**layout);
  batch.add(module);
  batch.read(*memory_);
  const auto view = batch[0];
  if (!view) return;
  StructBatch tables(**symbols_layout);
  tables.add(view->pointer(kSymbols));
  tables.read(*memory_);
  const auto table = tables[0];
  if (!table || table->u64(kSymbolCount) > kMaxModuleSymbols) return;
  std::vector<WireSymbol> symbols(table->u64(kSymbolCount));
  if (!memory_->read_one(table->pointer(kSymtab), std::as_writable_bytes(std::span(symbols))))
    return;
  std::vector<std::array<std::size_t, kSamePlace>> candidates;
  TextBatch texts;
  for (const std::uint64_t address : addresses) {
    candidates.push_back(nearest(symbols, address));
    for (const std::size_t candidate : candidates.back())
      texts.add(table->pointer(kStrtab).wrapping_add(
                    symbols.empty() ? 0 : std::uint32_t{symbols[candidate].name}),
                kMaxFunctionNameBytes);
  }
  texts.read(*memory_);
  for (std::size_t i = 0; i < addresses.size(); ++i)
    for (std::size_t j = 0; j < kSamePlace && names[addresses[i]].name.empty(); ++j) {
      const auto text = texts[i * kSamePlace + j];
      if (candidates[i][j] == 0 || !text || marks_code(*text)) continue;
      const WireSymbol& symbol = symbols[candidates[i][j]];
      const std::uint64_t offset = addresses[i] - symbol.value;
      names[addresses[i]] = {.name = *text,
                             .offset = offset,
                             .owner = std::string(view->text(kModuleName)),
                             .in_function = is_in_function(symbol, offset)};
    }
}

}  // namespace guestscope
