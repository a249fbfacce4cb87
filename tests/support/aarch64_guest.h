// Aarch64Guest: guest memory in which an arm64 kernel in miniature boots, one step at a time, as
// the test says; MiniGuest's sibling.
//
// The kernel file is assembled in memory: symbols as kallsyms has them, types from the miniature
// kernel's BTF (structures are the same on both machines). Nothing happens by itself: memory is
// empty until a step fills it.
#pragma once

#include <doctest/doctest.h>

#include <string>

#include "arch/aarch64.h"
#include "tests/support/aarch64_tables.h"
#include "tests/support/mini_guest.h"

namespace guestscope::test {

class Aarch64Guest {
 public:
  static constexpr std::uint64_t kMiB = 1 << 20;
  static constexpr std::uint64_t kRam = 0x40000000;  // where it begins
  static constexpr std::uint64_t kImageSize = 4 * kMiB;
  static constexpr std::uint64_t kTextSize = 2 * kMiB;
  static constexpr std::uint64_t kHeader = 0x10000;  // _stext - _text
  static constexpr std::uint64_t kEarlyRoot = 0x50000000;
  static constexpr std::uint64_t kRoot = 0x51000000;  // swapper_pg_dir

  struct Where {
    Aarch64Format format{};
    int kernel_va_bits = 48;  ///< CONFIG_ARM64_VA_BITS; the format's may be fewer
    std::uint64_t slide = 0x2a00000;
    std::uint64_t phys = 0x48200000;
  };

  explicit Aarch64Guest(Where at) : where(at), model(make_model(at)) {
    registers.machine = Machine::kAarch64;
  }

  /// All steps, with two CPUs.
  void boot() {
    turn_mmu_on();
    map_image(kRoot, true);
    registers.values[kTtbr1] = kRoot;
    fill_image();
    set_voffset();
    set_canary();
    set_memstart();
    map_linear();
    set_cpus();
  }

  // Steps of a boot.
  void turn_mmu_on() {  ///< tables that map nothing of a kernel
    registers.values = {where.format.tcr(), kEarlyRoot, 1};
  }
  /// Early, and before 5.11 always, from _text on; else from _stext on, with data not executable.
  void map_image(std::uint64_t root, bool at_stext) {
    Aarch64Tables& to = tables(root);
    const std::uint64_t from = at_stext ? kHeader : 0;
    to.map_pages(text() + from, where.phys + from, kTextSize - from, 0);
    to.map_pages(text() + kTextSize, where.phys + kTextSize, kImageSize - kTextSize,
                 at_stext ? Aarch64Tables::kNoExecute : 0);
  }
  void fill_image() {  ///< notes and banner are in place, and variables as they are linked
    memory.write_text(phys_of("__start_notes"), std::string("\4\0\0\0\24\0\0\0\3\0\0\0GNU\0", 16) +
                                                    std::string(20, kBuildIdByte));
    memory.write_text(phys_of("linux_banner"), "Linux version 6.99.1-mini (builder@host) #1");
    poke("memstart_addr", ~std::uint64_t{0});
  }
  void set_voffset() { poke("kimage_voffset", text() - where.phys); }
  void set_canary() {
    poke("init_task", 0x5eed0000 + where.slide, offsetof(mini::task_struct, stack_canary));
  }
  /// arm64_memblock_init(): a kernel for 52 bits puts its memory where fewer bits reach it.
  void set_memstart() { poke("memstart_addr", memstart()); }
  void map_linear() {
    tables(kRoot).map_pages(linear(where.phys), where.phys, kImageSize, Aarch64Tables::kNoExecute);
  }
  void set_cpus() {
    poke("__cpu_possible_mask", 0b11);
    poke("__cpu_online_mask", 0b11);
    for (const unsigned cpu : {0U, 1U}) set_per_cpu_offset(cpu);
  }
  void set_per_cpu_offset(unsigned cpu) {
    poke("__per_cpu_offset", linear(area(cpu)) - (link("runqueues") + where.slide), cpu * 8UL);
  }

  std::uint64_t memstart() const {
    return kRam - (page_offset(where.format.va_bits) - page_offset(where.kernel_va_bits));
  }
  static std::uint64_t page_offset(int va_bits) { return ~std::uint64_t{0} << va_bits; }
  std::uint64_t linear(std::uint64_t phys) const {
    return phys - memstart() + page_offset(where.kernel_va_bits);
  }
  /// Physical address of a CPU's run queue.
  static std::uint64_t area(unsigned cpu) { return 0x49000000 + cpu * 0x10000UL; }

  std::uint64_t link(const std::string& symbol) const {
    return model->file->symbols().require(symbol).value();
  }
  std::uint64_t text() const { return link("_text") + where.slide; }
  std::uint64_t phys_of(const std::string& symbol) const {
    return link(symbol) - link("_text") + where.phys;
  }
  void poke(const std::string& symbol, std::uint64_t value, std::uint64_t offset = 0) {
    memory.write_u64(phys_of(symbol) + offset, value);
  }
  template <typename T>
  void put(std::uint64_t phys, const T& object) {
    memory.write(phys, std::as_bytes(std::span(&object, 1)));
  }
  Aarch64Tables& tables(std::uint64_t root) {
    return tables_.try_emplace(root, memory, where.format, root, root + 0x100000).first->second;
  }

  // Places in PagingRegisters::values.
  enum Register : std::size_t { kTcr, kTtbr1, kSctlr };

  Where where;
  std::shared_ptr<const KernelModel> model;
  FakeMemory memory{std::uint64_t{4} << 30};
  PagingRegisters registers;

 private:
  static constexpr char kBuildIdByte = 0x5a;

  static std::shared_ptr<const KernelModel> make_model(const Where& at);

  std::map<std::uint64_t, Aarch64Tables> tables_;
};

inline std::shared_ptr<const KernelModel> Aarch64Guest::make_model(const Where& at) {
  struct Place {
    const char* name;
    std::uint64_t offset;
  };
  // By address, as kallsyms has them.
  static constexpr Place kPlaces[] = {
      {"_text", 0},
      {"_stext", kHeader},
      {"__start_notes", kTextSize + 0x1000},
      {"__stop_notes", kTextSize + 0x1024},
      {"linux_banner", kTextSize + 0x2000},
      {"kimage_voffset", kTextSize + 0x3000},
      {"memstart_addr", kTextSize + 0x3008},
      {"map_idr", 3 * kMiB},
      {"prog_idr", 3 * kMiB + 0x100},
      {"__per_cpu_offset", 3 * kMiB + 0x200},
      {"__cpu_possible_mask", 3 * kMiB + 0x300},
      {"__cpu_online_mask", 3 * kMiB + 0x340},
      {"system_state", 3 * kMiB + 0x380},
      {"fair_sched_class", 3 * kMiB + 0x400},
      {"init_task", 3 * kMiB + 0x1000},
      {"runqueues", 3 * kMiB + 0x8000},
      {"_end", kImageSize},
  };
  Kallsyms symbols;
  symbols.has_data = true;
  // KIMAGE_VADDR: behind the linear map and 2 GiB for modules.
  const std::uint64_t base =
      aarch64::end_of_linear_map(at.format.va_bits, at.format.page()).value() + (1UL << 31);
  for (const Place& place : kPlaces) {
    const std::string name = place.name;
    symbols.symbols.push_back({.value = base + place.offset,
                               .name = static_cast<std::uint32_t>(symbols.names.size()),
                               .name_size = static_cast<std::uint16_t>(name.size()),
                               .type = 'D'});
    symbols.names += name;
  }
  KernelFile::Parts parts;
  parts.origin = "arm64.vmlinux";
  parts.machine = Machine::kAarch64;
  for (int i = 0; i < 20; ++i) parts.build_id += "5a";
  parts.release = "6.99.1-mini";
  parts.symbols = SymbolTable::from_kallsyms(std::move(symbols), parts.origin);
  auto types = Btf::parse(load_types("mini.vmlinux.btf"), parts.origin);
  REQUIRE(types.has_value());
  parts.types = std::move(*types);
  parts.symbols_from = "kallsyms";
  parts.types_from = "BTF";
  parts.has_link_addresses = true;
  return KernelModel::bind(KernelFile::assemble(std::move(parts)));
}

}  // namespace guestscope::test
