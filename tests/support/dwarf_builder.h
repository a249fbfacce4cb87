// DwarfBuilder: DWARF put together entry by entry, in an ELF file, for what no compiler emits:
// circles and damage.
//
// One unit of DWARF 5; each entry has an abbreviation of its own.
#pragma once

#include <dwarf.h>
#include <elf.h>

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "arch/bytes.h"

namespace guestscope {

class DwarfBuilder {
 public:
  using Entry = std::size_t;

  explicit DwarfBuilder(std::uint64_t language = DW_LANG_C11) {
    open(DW_TAG_compile_unit);
    number(DW_AT_language, language);
    children();
  }

  /// Begins an entry. Its attributes follow, then its children between children() and end(), or
  /// the next entry.
  Entry open(unsigned tag) {
    finish_abbreviation(false);
    entries_.push_back(info_.size());
    uleb(info_, entries_.size());
    uleb(abbreviations_, entries_.size());
    uleb(abbreviations_, tag);
    has_children_at_ = abbreviations_.size();
    abbreviations_.push_back(std::byte{0});
    is_open_ = true;
    return entries_.size() - 1;
  }
  Entry open(unsigned tag, std::string_view name) {
    const Entry entry = open(tag);
    text(DW_AT_name, name);
    return entry;
  }
  DwarfBuilder& text(unsigned attribute, std::string_view value) {
    declare(attribute, DW_FORM_string);
    for (const char c : value) info_.push_back(static_cast<std::byte>(c));
    info_.push_back(std::byte{0});
    return *this;
  }
  DwarfBuilder& number(unsigned attribute, std::uint64_t value) {
    declare(attribute, DW_FORM_udata);
    uleb(info_, value);
    return *this;
  }
  DwarfBuilder& flag(unsigned attribute) {
    declare(attribute, DW_FORM_flag_present);
    return *this;
  }
  /// An attribute that takes these bytes.
  DwarfBuilder& raw(unsigned attribute, unsigned form, std::initializer_list<unsigned> bytes) {
    declare(attribute, form);
    for (const unsigned byte : bytes) info_.push_back(static_cast<std::byte>(byte));
    return *this;
  }
  /// To an entry that may come later: they are numbered from 0, the unit, in the order of open().
  DwarfBuilder& refer(Entry target, unsigned attribute = DW_AT_type) {
    declare(attribute, DW_FORM_ref4);
    fixups_.emplace_back(info_.size(), target);
    info_.resize(info_.size() + 4);
    return *this;
  }
  DwarfBuilder& children() {
    finish_abbreviation(true);
    return *this;
  }
  DwarfBuilder& end() {
    finish_abbreviation(false);
    info_.push_back(std::byte{0});
    return *this;
  }
  Entry next() const { return entries_.size(); }

  Bytes elf() {
    end();
    abbreviations_.push_back(std::byte{0});
    Bytes unit;
    le(unit, kHeader - 4 + info_.size(), 4), le(unit, 5, 2), le(unit, DW_UT_compile, 1);
    le(unit, 8, 1), le(unit, 0, 4);
    for (const auto& [at, target] : fixups_) {
      const std::uint64_t to = target < entries_.size() ? kHeader + entries_[target] : target;
      for (std::size_t i = 0; i < 4; ++i)
        info_[at + i] = static_cast<std::byte>(to >> (8 * i) & 0xff);
    }
    unit.insert(unit.end(), info_.begin(), info_.end());
    return file(unit);
  }

 private:
  static constexpr std::size_t kHeader = 12;

  static void le(Bytes& into, std::uint64_t value, unsigned size) {
    for (unsigned i = 0; i < size; ++i)
      into.push_back(static_cast<std::byte>(value >> (8 * i) & 0xff));
  }
  static void uleb(Bytes& into, std::uint64_t value) {
    for (; value >= 0x80; value >>= 7)
      into.push_back(static_cast<std::byte>((value & 0x7f) | 0x80));
    into.push_back(static_cast<std::byte>(value));
  }

  void declare(unsigned attribute, unsigned form) {
    uleb(abbreviations_, attribute);
    uleb(abbreviations_, form);
  }
  void finish_abbreviation(bool has_children) {
    if (!is_open_) return;
    is_open_ = false;
    abbreviations_[has_children_at_] = static_cast<std::byte>(has_children);
    abbreviations_.insert(abbreviations_.end(), 2, std::byte{0});
  }

  Bytes file(const Bytes& unit) const {
    static constexpr std::string_view kNames("\0.debug_info\0.debug_abbrev\0.shstrtab\0", 37);
    const auto names = std::as_bytes(std::span(kNames));
    const std::pair<ByteSpan, Elf64_Word> sections[] = {
        {unit, 1}, {abbreviations_, 13}, {names, 27}};
    Bytes body;
    std::vector<Elf64_Shdr> headers(1);
    for (const auto& [content, name] : sections) {
      Elf64_Shdr header{};
      header.sh_name = name;
      header.sh_type = name == 27 ? SHT_STRTAB : SHT_PROGBITS;
      header.sh_offset = sizeof(Elf64_Ehdr) + body.size();
      header.sh_size = content.size();
      header.sh_addralign = 1;
      headers.push_back(header);
      body.insert(body.end(), content.begin(), content.end());
      body.resize((body.size() + 7) & ~std::size_t{7});
    }
    Elf64_Ehdr elf{};
    const unsigned char magic[] = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT};
    std::copy(std::begin(magic), std::end(magic), elf.e_ident);
    elf.e_type = ET_EXEC;
    elf.e_machine = EM_X86_64;
    elf.e_version = EV_CURRENT;
    elf.e_ehsize = sizeof(Elf64_Ehdr);
    elf.e_shentsize = sizeof(Elf64_Shdr);
    elf.e_shoff = sizeof(Elf64_Ehdr) + body.size();
    elf.e_shnum = static_cast<Elf64_Half>(headers.size());
    elf.e_shstrndx = static_cast<Elf64_Half>(headers.size() - 1);
    Bytes result;
    const auto add = [&](ByteSpan bytes) {
      result.insert(result.end(), bytes.begin(), bytes.end());
    };
    add(std::as_bytes(std::span(&elf, 1)));
    add(body);
    add(std::as_bytes(std::span(headers)));
    return result;
  }

  Bytes info_;
  Bytes abbreviations_;
  std::vector<std::size_t> entries_;
  std::vector<std::pair<std::size_t, Entry>> fixups_;
  std::size_t has_children_at_ = 0;
  bool is_open_ = false;
};

}  // namespace guestscope
