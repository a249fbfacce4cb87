// First all units are gone through for the different definitions that they have; then each is
// written once. That order lets a declaration be written as the definition that comes later.
#include "introspect/dwarf_types.h"

#include <malloc.h>

#include <unordered_set>
#include <utility>

#include "introspect/dwarf_definitions.h"
#include "introspect/dwarf_die.h"
#include "introspect/dwarf_emitter.h"
#include "introspect/dwarf_file.h"
#include "introspect/dwarf_shape.h"

namespace guestscope {
namespace {

// Absent from elfutils 0.188: languages of DWARF 6.
constexpr Dwarf_Word kLangC17 = 0x2c;
constexpr Dwarf_Word kLangC23 = 0x3e;
constexpr Dwarf_Word kLangAssembly = 0x31;

// Partial units, which dwz makes, and type units need not name their language.
bool is_c_or_assembler(Dwarf_Die& unit) {
  Dwarf_Attribute attribute;
  Dwarf_Word language = 0;
  if (dwarf_attr(&unit, DW_AT_language, &attribute) == nullptr ||
      dwarf_formudata(&attribute, &language) != 0)
    return true;
  switch (language) {
    case DW_LANG_C89:
    case DW_LANG_C:
    case DW_LANG_C99:
    case DW_LANG_C11:
    case kLangC17:
    case kLangC23:
    case DW_LANG_Mips_Assembler:
    case kLangAssembly: return true;
    default: return false;
  }
}

class Scan {
 public:
  Scan(DieReader& reader, DwarfShapes& shapes, DwarfDefinitions& definitions)
      : reader_(reader), shapes_(shapes), definitions_(definitions) {}

  void run(Dwarf* dwarf) {
    Dwarf_CU* unit = nullptr;
    for (;;) {
      Dwarf_Die top{};
      Dwarf_Die type{};
      std::uint8_t unit_type = 0;
      const int status = dwarf_get_units(dwarf, unit, &unit, nullptr, &unit_type, &top, &type);
      if (status < 0) reader_.damaged(dwarf_errmsg(-1));
      if (status != 0 || reader_.failed()) return;
      if (unit_type == DW_UT_skeleton) has_split_units_ = true;
      // An unknown version or kind of unit has no top entry.
      if (dwarf_tag(&top) == DW_TAG_invalid || !is_c_or_assembler(top)) continue;
      shapes_.enter(unit);
      reader_.for_each_child(top, [&](Dwarf_Die& die) { visit(die); });
    }
  }

  bool has_split_units() const { return has_split_units_; }

 private:
  void visit(Dwarf_Die& die) {
    const int tag = dwarf_tag(&die);
    switch (form_of(tag)) {
      case TypeForm::kAggregate:
      case TypeForm::kEnum: visit_definition(die, tag); break;
      case TypeForm::kBase:
      case TypeForm::kAlias:
        if (const Shape shape = shapes_.of(die); seen_.insert(shape).second)
          definitions_.add_other(die);
        break;
      default: break;
    }
  }

  void visit_definition(Dwarf_Die& die, int tag) {
    const DieFacts facts = reader_.facts(die);
    if (facts.is_declaration()) return;
    const std::string_view name = facts.name();
    // Anonymous structures are of use only to those that refer to them; an anonymous enum's
    // enumerators are the constants of a header.
    if (name.empty() && tag != DW_TAG_enumeration_type) return;
    const Shape shape = shapes_.of(die);
    if (!seen_.insert(shape).second) return;
    if (name.empty())
      definitions_.add_other(die);
    else
      definitions_.add(die, name_shape(tag, name), shape);
  }

  DieReader& reader_;
  DwarfShapes& shapes_;
  DwarfDefinitions& definitions_;
  std::unordered_set<Shape> seen_;
  bool has_split_units_ = false;
};

Result<Bytes> convert(const DwarfFile& file) {
  DieReader reader(file.unit_bytes());
  DwarfShapes shapes(reader);
  DwarfDefinitions definitions;
  Scan scan(reader, shapes, definitions);
  scan.run(file.get());
  if (file.shared() != nullptr && !reader.failed()) scan.run(file.shared());
  if (!reader.failed() && definitions.empty())
    return fail(
        ErrorCode::kUnsupported, "kernel file {}: its DWARF has no types of C{}", file.path(),
        scan.has_split_units() ? " (they are in separate .dwo files, which are not read)" : "");
  Result<Bytes> bytes = Bytes{};
  if (!reader.failed()) bytes = DwarfEmitter(reader, shapes, definitions).run();
  if (reader.failed())
    return fail(reader.error()->code, "kernel file {}: {}", file.path(), reader.error()->message);
  return bytes;
}

}  // namespace

Result<Bytes> btf_from_dwarf(const std::string& path) {
  auto bytes = [&]() -> Result<Bytes> {
    GS_ASSIGN(const DwarfFile file, DwarfFile::open(path));
    return convert(file);
  }();
#ifdef __GLIBC__
  // Hundreds of megabytes in small pieces, which glibc would otherwise keep.
  ::malloc_trim(0);
#endif
  return bytes;
}

bool has_dwarf(const std::string& path) {
  const auto sections = ElfSections::open(path);
  return sections && debug_info_of(*sections) != nullptr;
}

}  // namespace guestscope
