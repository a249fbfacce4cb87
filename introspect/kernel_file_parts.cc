#include "introspect/kernel_file_parts.h"

#include <elf.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "introspect/debug_file.h"
#include "introspect/dwarf_types.h"
#include "introspect/elf_notes.h"
#include "introspect/image_search.h"
#include "introspect/kernel_file_image.h"
#include "introspect/kernel_payload.h"
#include "introspect/limits.h"
#include "introspect/type_cache.h"

namespace guestscope {
namespace {

constexpr std::string_view kFullFile =
    "pass the vmlinux of the kernel's -dbg (debuginfo) package, or of its build";

Machine machine_of(std::uint16_t machine) {
  if (machine == EM_X86_64) return Machine::kX86_64;
  return machine == EM_AARCH64 ? Machine::kAarch64 : Machine::kOther;
}

Result<SymbolTable> read_symbols(ElfSections& sections, const ElfSection& table,
                                 const std::string& path) {
  if (table.link >= sections.all().size())
    return fail(ErrorCode::kCorrupt, "kernel file {}: its symbols have no names", path);
  GS_ASSIGN(const ByteSpan symtab, sections.content(table));
  GS_ASSIGN(const ByteSpan strtab, sections.content(sections.all()[table.link]));
  std::vector<std::string_view> names;
  for (const ElfSection& section : sections.all()) names.push_back(section.name);
  return SymbolTable::parse(symtab, strtab, std::move(names), path);
}

class Reader {
 public:
  Reader(const std::string& path, const KernelFileOptions& options)
      : path_(path), options_(options) {
    out_.parts.origin = path;
  }

  Result<KernelFileParts> run() {
    GS_ASSIGN(InputFile file, InputFile::open(path_));
    GS_ASSIGN(const Bytes magic, file.read_at(0, std::min<std::size_t>(file.size(), SELFMAG)));
    if (text_in(magic) == ELFMAG) {
      is_elf_ = true;
      GS_ASSIGN(ElfSections elf, ElfSections::open(std::move(file)));
      GS_CHECK(use_elf(std::move(elf)));
    } else {
      GS_CHECK(use_wrapped(file));
    }
    if (is_elf_ && parts().types_from.empty() && has_dwarf(path_)) use_dwarf();
    if (is_elf_ && !is_debug_file_) use_debug_file();
    GS_CHECK(check_parts());
    return std::move(out_);
  }

  /// What a debug file has of it, to be taken over by another reader: owns its types.
  Result<KernelFileParts> run_for_another() {
    copies_types_ = true;
    is_debug_file_ = true;
    return run();
  }

 private:
  KernelFile::Parts& parts() { return out_.parts; }

  Result<void> use_wrapped(const InputFile& file) {
    if (file.size() > kMaxKernelBytes)
      return fail(ErrorCode::kInvalidArgument,
                  "kernel file {} is no kernel: {} MB and not an ELF file", path_,
                  file.size() >> 20);
    GS_ASSIGN(Bytes content, file.read_at(0, file.size()));
    GS_ASSIGN(KernelPayload payload, unwrap_kernel(std::move(content), path_));
    if (payload.kind == KernelPayload::Kind::kElf) {
      GS_ASSIGN(ElfSections elf, ElfSections::parse(std::move(payload.bytes), path_));
      return use_elf(std::move(elf));
    }
    parts().machine = Machine::kAarch64;
    GS_CHECK(check_image_is_whole(payload.bytes, path_));
    search({.bytes = std::move(payload.bytes), .address = 0});
    return {};
  }

  Result<void> use_elf(ElfSections elf) {
    if (elf.type() == ET_REL)
      return fail(ErrorCode::kInvalidArgument,
                  "kernel file {} is no kernel but an object file or a kernel module", path_);
    parts().machine = machine_of(elf.machine());
    parts().build_id = read_build_id(elf);
    const ElfSection* table = elf.of_type(SHT_SYMTAB);
    const ElfSection* types = elf.named(".BTF");
    const bool has_symbols = table != nullptr && table->size != 0;
    const bool has_types = types != nullptr && types->type != SHT_NOBITS && types->size != 0;
    if (has_symbols) {
      auto kept = std::make_unique<ElfSections>(std::move(elf));
      GS_CHECK(use_symbols(*kept, *kept->of_type(SHT_SYMTAB)));
      if (has_types) GS_CHECK(use_types(*kept, *kept->named(".BTF"), copies_types_));
      out_.elf = std::move(kept);
      return {};
    }
    if (has_types) GS_CHECK(use_types(elf, *types, true));
    GS_ASSIGN(LoadedImage image, loaded_image(elf, path_));
    // The file's own bytes, when it came unpacked, are not needed twice.
    {
      const ElfSections gone = std::move(elf);
    }
    search(std::move(image));
    return {};
  }

  Result<void> use_symbols(ElfSections& elf, const ElfSection& table) {
    GS_ASSIGN(parts().symbols, read_symbols(elf, table, path_));
    parts().symbols_from = "ELF symbols";
    parts().has_link_addresses = true;
    const auto banner = parts().symbols.find("linux_banner");
    if (!banner)
      return fail(ErrorCode::kInvalidArgument,
                  "kernel file {} is no Linux kernel: its symbols have no linux_banner", path_);
    const auto text = elf.bytes_at(banner->value, std::min(banner->size, kMaxBannerBytes));
    if (text) parts().release = release_in(text_in(*text));
    return {};
  }

  Result<void> use_types(ElfSections& elf, const ElfSection& section, bool copy) {
    GS_ASSIGN(const ByteSpan bytes, elf.content(section));
    if (copy) {
      GS_ASSIGN(parts().types, Btf::parse(Bytes(bytes.begin(), bytes.end()), path_));
    } else {
      GS_ASSIGN(parts().types, Btf::parse(bytes, path_));
    }
    parts().types_from = "BTF";
    return {};
  }

  // A kernel without BTF whose file has debug information.
  void use_dwarf() {
    const DwarfTypesOptions how{.cache_folder = options_.type_cache_folder,
                                .on_slow = [&](std::chrono::seconds estimate) {
                                  if (options_.on_slow) options_.on_slow(path_, estimate);
                                }};
    auto made = types_from_dwarf(path_, parts().build_id, how);
    auto types = made ? Btf::parse(std::move(made->btf), path_)
                      : Result<Btf>(std::unexpected(std::move(made).error()));
    if (!types) return remark(types.error().to_string());
    parts().types = *std::move(types);
    parts().types_from = "DWARF";
    remark(fmt::format("types of {} from {}, in {} ms", path_,
                       made->from_cache ? "the copy made from its DWARF" : "its DWARF",
                       made->took.count()));
    if (made->cache_error)
      remark(fmt::format("no copy is kept of the types made from DWARF: {}",
                         made->cache_error->to_string()));
  }

  void remark(std::string text) { parts().remarks.push_back(std::move(text)); }

  // What was taken out of the file into a debug file of its own.
  void use_debug_file() {
    const bool no_symbols = parts().symbols_from.empty();
    const bool no_types = parts().types_from.empty();
    if (!no_symbols && !no_types) return;
    const auto searched = find_debug_file(path_, parts().build_id);
    if (!searched) return remark(searched.error().to_string());
    const std::optional<std::string>& path = *searched;
    if (!path) return;
    auto debug = Reader(*path, options_).run_for_another();
    if (!debug) return remark(debug.error().to_string());
    KernelFile::Parts& found = debug->parts;
    if (no_symbols && !found.symbols_from.empty()) {
      parts().symbols = std::move(found.symbols);
      parts().symbols_from = fmt::format("{} of {}", found.symbols_from, *path);
      parts().has_link_addresses = found.has_link_addresses;
      out_.elf = std::move(debug->elf);
    }
    if (no_types && !found.types_from.empty()) {
      parts().types = std::move(found.types);
      parts().types_from = fmt::format("{} of {}", found.types_from, *path);
    }
    std::ranges::move(found.remarks, std::back_inserter(parts().remarks));
  }

  static std::string read_build_id(ElfSections& elf) {
    for (const ElfSection& section : elf.all()) {
      if (section.type != SHT_NOTE || section.size > kMaxNoteBytes) continue;
      const auto notes = elf.content(section);
      if (!notes) continue;
      if (std::string id = find_build_id(*notes); !id.empty()) return id;
    }
    for (const ElfSegment& segment : elf.segments()) {
      if (segment.type != PT_NOTE || segment.size > kMaxNoteBytes) continue;
      const auto notes = elf.read_at(segment.offset, segment.size);
      if (!notes) continue;
      if (std::string id = find_build_id(*notes); !id.empty()) return id;
    }
    return {};
  }

  // Symbols, and what else is not known yet, from the image itself.
  void search(const LoadedImage& image) {
    if (auto banner = find_banner(image.bytes)) {
      is_kernel_ = true;
      parts().release = std::move(banner->release);
    }
    if (parts().build_id.empty()) parts().build_id = find_build_id_in_image(image.bytes);
    if (parts().types_from.empty())
      if (auto types = find_types_in_image(image.bytes, path_)) {
        parts().types = *std::move(types);
        parts().types_from = "BTF";
      }
    auto symbols = find_kallsyms(image.bytes, image.address, parts().machine);
    if (!symbols) {
      no_kallsyms_ = std::move(symbols).error();
      return;
    }
    if (!symbols->has_data) {
      no_kallsyms_ = {.code = ErrorCode::kUnsupported,
                      .message = "its kallsyms list functions only: CONFIG_KALLSYMS_ALL is off"};
      return;
    }
    parts().symbols_from = "kallsyms";
    parts().has_link_addresses = image.address != 0;
    parts().symbols = SymbolTable::from_kallsyms(*std::move(symbols), "kernel file " + path_);
  }

  Result<void> check_parts() {
    const bool no_symbols = parts().symbols_from.empty();
    const bool no_types = parts().types_from.empty();
    if (no_symbols && no_types && !is_kernel_)
      return fail(
          ErrorCode::kInvalidArgument,
          "kernel file {} is no Linux kernel: it has neither symbols nor types nor a banner",
          path_);
    if (no_symbols && no_types)
      return fail(ErrorCode::kUnsupported,
                  "kernel file {} has neither symbols nor types ({}, no BTF); {}", path_,
                  no_kallsyms_.message, kFullFile);
    if (no_symbols)
      parts().missing_symbols =
          Error{.code = no_kallsyms_.code == ErrorCode::kCorrupt ? ErrorCode::kCorrupt
                                                                 : ErrorCode::kUnsupported,
                .message = fmt::format("kernel file {} has no symbols of variables ({}); {}", path_,
                                       no_kallsyms_.message, kFullFile)};
    if (no_types)
      parts().missing_types =
          Error{.code = ErrorCode::kUnsupported,
                .message = fmt::format("kernel file {} has no types, neither BTF "
                                       "(CONFIG_DEBUG_INFO_BTF) nor DWARF; {}",
                                       path_, kFullFile)};
    return {};
  }

  const std::string& path_;
  const KernelFileOptions& options_;
  KernelFileParts out_;
  bool is_elf_ = false;
  bool is_debug_file_ = false;
  bool copies_types_ = false;
  bool is_kernel_ = false;
  Error no_kallsyms_{.code = ErrorCode::kNotFound, .message = "no kallsyms"};
};

}  // namespace

Result<KernelFileParts> read_kernel_file(const std::string& path,
                                         const KernelFileOptions& options) {
  return Reader(path, options).run();
}

}  // namespace guestscope
