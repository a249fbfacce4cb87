// Names of programs and of their functions.
//
// The kernel keeps 15 characters of a program's name. The whole of it stands in the symbol of the
// machine code, bpf_prog_TAG_NAME, and, where there is none (no JIT), in the program's types.
#include "introspect/limits.h"
#include "introspect/prog_reader.h"
#include "introspect/text.h"

namespace guestscope {

namespace {

constexpr std::size_t kKeptNameBytes = 15;                      // BPF_OBJ_NAME_LEN - 1
constexpr std::size_t kSymbolPrefix = sizeof("bpf_prog_") - 1;  // before the tag
constexpr std::size_t kTagDigits = 16;
constexpr std::uint64_t kTypeBytes = 12;  // sizeof(struct btf_type)

constexpr FieldNeed kSymbolFields[] = {{"ksym.name"}};
constexpr StructNeed kSymbol = {"bpf_prog_aux", kSymbolFields};

enum Types : std::size_t { kTypes, kStrings, kStringBytes, kTypeCount };
constexpr FieldNeed kTypesFields[] = {{"types"}, {"strings"}, {"hdr.str_len"}, {"nr_types"}};
constexpr StructNeed kTypesNeed = {"btf", kTypesFields};

/// "on_switch" of "bpf_prog_6deef7357e7b4530_on_switch"; "F" is what nameless ones are called.
std::string_view name_in(std::string_view symbol) {
  const std::size_t start = kSymbolPrefix + kTagDigits + 1;
  return symbol.size() > start && symbol[start - 1] == '_' ? symbol.substr(start)
                                                           : std::string_view();
}

/// The struct btf_type that each record names.
ReadBatch read_types(KernelMemory& memory, const ReadBatch& records, const StructBatch& objects) {
  ReadBatch places;
  for (std::size_t i = 0; i < records.size(); ++i) {
    const std::uint64_t type = records[i] ? load_le(records[i]->data() + 4, 4) : 0;
    const bool there = type != 0 && objects[i] && type <= objects[i]->u64(kTypeCount);
    places.add(there ? objects[i]->pointer(kTypes).wrapping_add(type * 8) : GuestVirt(), 8);
  }
  places.read(memory);
  ReadBatch types;
  for (std::size_t i = 0; i < records.size(); ++i)
    types.add(places[i] ? GuestVirt(load_le(places[i]->data(), 8)) : GuestVirt(), kTypeBytes);
  types.read(memory);
  return types;
}

}  // namespace

const BoundField* find_symbol_field(Layouts& layouts) {
  const auto layout = layouts.get(kSymbol);
  return layout ? &(**layout)[0] : nullptr;
}

std::size_t ProgReader::add_symbol(TextBatch& texts, GuestVirt aux) const {
  if (symbol_ == nullptr || aux.is_null()) return texts.add(GuestVirt(), 0);
  return texts.add(aux.wrapping_add(symbol_->offset), symbol_->size);
}

/// The symbols of functions are their own; that of the first one is the program's on kernels that
/// make none for it.
void ProgReader::read_function_names() {
  TextBatch symbols;
  for (const Pending& prog : progs_)
    for (const GuestVirt aux : prog.function_details) add_symbol(symbols, aux);
  symbols.read(memory_);
  std::size_t next = 0;
  for (Pending& prog : progs_) {
    for (std::size_t n = 0; n < prog.function_details.size(); ++n) {
      const auto symbol = symbols[next++];
      if (symbol)
        prog.info.functions[n].symbol = *symbol;
      else if (symbol_ != nullptr)
        problem(prog, "subprograms", symbol.error());
    }
  }
  name_functions();
}

void ProgReader::name_functions() {
  // A symbol that fills its place may have been cut off.
  const std::size_t room = symbol_ == nullptr ? 0 : symbol_->size;
  for (Pending& prog : progs_) {
    auto& functions = prog.info.functions;
    if (!functions.empty() && functions.front().symbol.empty())
      functions.front().symbol = prog.symbol;
    for (ProgFunction& function : functions) function.name = name_in(function.symbol);
    if (prog.info.name.size() < kKeptNameBytes || prog.symbol.size() + 1 >= room) continue;
    const std::string_view whole = name_in(prog.symbol);
    if (!whole.starts_with(prog.info.name)) continue;
    prog.info.name = whole;
    prog.name_record = {};
  }
}

/// Through the kernel's own index of the types: record, place of the type, its name's offset, name.
/// What is wrong on the way leaves the short name, as it leaves bpftool's.
void ProgReader::read_long_names() {
  const auto layout = layouts_.get(kTypesNeed);
  std::vector<Pending*> wanted;
  for (Pending& prog : progs_)
    if (prog.info.name.size() == kKeptNameBytes && !prog.name_record.is_null() &&
        !prog.btf.is_null())
      wanted.push_back(&prog);
  if (wanted.empty() || !layout) return;
  ReadBatch records;
  StructBatch objects(**layout);
  for (const Pending* prog : wanted) {
    records.add(prog->name_record, 8);
    objects.add(prog->btf);
  }
  read_together(memory_, records, objects);
  TextBatch names;
  const ReadBatch types = read_types(memory_, records, objects);
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const std::uint64_t offset = types[i] ? load_le(types[i]->data(), 4) : 0;
    const bool there = objects[i] && offset != 0 && offset < objects[i]->u64(kStringBytes);
    names.add(there ? objects[i]->pointer(kStrings).wrapping_add(offset) : GuestVirt(),
              kMaxNameBytes);
  }
  names.read(memory_);
  for (std::size_t i = 0; i < wanted.size(); ++i)
    if (const auto name = names[i]; name && is_text(*name)) wanted[i]->info.name = *name;
}

}  // namespace guestscope
