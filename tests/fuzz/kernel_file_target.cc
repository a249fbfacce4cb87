// Input: a kernel file: ELF, or wrapped.
#include <elf.h>

#include <algorithm>
#include <string>

#include "introspect/kernel_file.h"
#include "tests/fuzz/fuzz_targets.h"
#include "tests/support/btf_builder.h"
#include "tests/support/kernel_wrapping.h"
#include "tests/support/memory_file.h"

namespace guestscope::fuzz {

namespace {

constexpr std::uint64_t kText = 0xffffffff81000000;
constexpr std::string_view kBanner = "Linux version 6.99.1-fuzz (builder@host) #1\n";

/// An ELF file put together section by section.
class ElfBuilder {
 public:
  ElfBuilder() { add("", {}, {}); }

  std::size_t add(std::string_view name, Elf64_Shdr header, ByteSpan content) {
    header.sh_name = static_cast<Elf64_Word>(names_.size());
    names_ += name;
    names_ += '\0';
    header.sh_offset = sizeof(Elf64_Ehdr) + body_.size();
    header.sh_size = content.size();
    body_.insert(body_.end(), content.begin(), content.end());
    body_.resize((body_.size() + 7) & ~std::size_t{7});
    headers_.push_back(header);
    return headers_.size() - 1;
  }

  Bytes finish() {
    const std::string names = names_ + std::string(".shstrtab") + '\0';
    Elf64_Ehdr elf{};
    Elf64_Shdr header{};
    header.sh_type = SHT_STRTAB;
    elf.e_shstrndx =
        static_cast<Elf64_Half>(add(".shstrtab", header, std::as_bytes(std::span(names))));
    const unsigned char magic[] = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT};
    std::copy(std::begin(magic), std::end(magic), elf.e_ident);
    elf.e_type = ET_EXEC;
    elf.e_machine = EM_X86_64;
    elf.e_version = EV_CURRENT;
    elf.e_ehsize = sizeof elf;
    elf.e_shentsize = sizeof(Elf64_Shdr);
    elf.e_shnum = static_cast<Elf64_Half>(headers_.size());
    elf.e_shoff = sizeof elf + body_.size();
    Bytes file;
    append(file, std::as_bytes(std::span(&elf, 1)));
    append(file, body_);
    append(file, std::as_bytes(std::span(headers_)));
    return file;
  }

  static void append(Bytes& to, ByteSpan bytes) { to.insert(to.end(), bytes.begin(), bytes.end()); }

 private:
  std::string names_;
  Bytes body_;
  std::vector<Elf64_Shdr> headers_;
};

Bytes kernel_seed() {
  const std::string names = std::string("\0linux_banner\0phys_base\0", 24);
  Elf64_Sym banner{};
  banner.st_name = 1;
  banner.st_info = ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT);
  banner.st_shndx = 1;
  banner.st_value = kText;
  banner.st_size = kBanner.size();
  Elf64_Sym phys_base = banner;
  phys_base.st_name = 14;
  phys_base.st_size = 8;
  const Elf64_Sym symbols[] = {{}, banner, phys_base};
  struct Note {
    Elf64_Nhdr header{.n_namesz = 4, .n_descsz = 8, .n_type = NT_GNU_BUILD_ID};
    char name[4] = {'G', 'N', 'U', '\0'};
    std::uint64_t id = 0x1122334455667788;
  };
  const Note note[1] = {};
  BtfBuilder types;
  types.aggregate(BtfKind::kStruct, "rq", 4, {{"cpu", types.integer("int", 4, 32, 1), 0}});
  Elf64_Shdr text{};
  text.sh_type = SHT_PROGBITS;
  text.sh_flags = SHF_ALLOC;
  text.sh_addr = kText;
  Elf64_Shdr other{};
  ElfBuilder elf;
  elf.add(".text", text, std::as_bytes(std::span(kBanner)));
  other.sh_type = SHT_STRTAB;
  other.sh_link =
      static_cast<Elf64_Word>(elf.add(".strtab", other, std::as_bytes(std::span(names))));
  other.sh_type = SHT_SYMTAB;
  other.sh_entsize = sizeof(Elf64_Sym);
  elf.add(".symtab", other, std::as_bytes(std::span(symbols)));
  other = {};
  other.sh_type = SHT_NOTE;
  other.sh_addralign = 4;
  elf.add(".notes", other, std::as_bytes(std::span(note)));
  other.sh_type = SHT_PROGBITS;
  elf.add(".BTF", other, types.bytes());
  return elf.finish();
}

}  // namespace

void run_kernel_file(ByteSpan input) {
  const MemoryFile file(input);
  const auto opened = KernelFile::open(file.path());
  if (!opened) {
    require(opened.error().message.find(file.path()) != std::string::npos, "errors name the file");
    return;
  }
  const KernelFile& kernel = **opened;
  static_cast<void>(kernel.machine());
  for (const char* name : {"linux_banner", "phys_base"})
    if (const auto symbol = kernel.symbols().find(name)) {
      const auto bytes = kernel.bytes_at(symbol->value, 64);
      require(!bytes || bytes->size() == 64, "as many bytes as were asked for");
    }
  static_cast<void>(kernel.btf().find(BtfKind::kStruct, "rq"));
}

std::vector<Bytes> kernel_file_seeds() {
  Bytes seed = kernel_seed();
  const MemoryFile file(seed);
  const auto opened = KernelFile::open(file.path());
  require(opened.has_value() && (*opened)->release() == "6.99.1-fuzz" &&
              (*opened)->build_id() == "8877665544332211" &&
              (*opened)->btf().find(BtfKind::kStruct, "rq").has_value(),
          "the seed is a good kernel file");
  std::vector<Bytes> seeds = {seed};
  const Bytes image = test::kernel_image(test::KallsymsShape::all().back(), test::kWrappedText);
  const Bytes elf = test::elf_around(image, test::kWrappedText, EM_X86_64);
  const Bytes flat = test::aarch64_image(image);
  const Bytes wrapped[] = {elf, flat,
                           test::bz_image(test::with_size_word(test::lz4_legacy(elf), elf.size())),
                           test::zboot_image(test::lz4_legacy(flat), "lz4")};
  for (const Bytes& bytes : wrapped) {
    const MemoryFile kernel(bytes);
    const auto whole = KernelFile::open(kernel.path());
    require(whole.has_value() && (*whole)->is_complete(), "the seed is a whole kernel");
    seeds.push_back(bytes);
  }
  return seeds;
}

}  // namespace guestscope::fuzz
