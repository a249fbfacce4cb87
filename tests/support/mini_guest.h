// MiniGuest: guest memory in which a kernel in miniature boots, one step at a time, as the test
// says.
//
// Nothing happens by itself: memory is empty until a step fills it. The steps are those of a real
// boot: page tables, the image's own marks, the direct map, the per-CPU table. booted() does them
// all.
#pragma once

#include <memory>
#include <string>

#include "arch/x86_64.h"
#include "introspect/guest_kernel.h"
#include "tests/support/fake_memory.h"
#include "tests/support/mini_kernel/mini_kernel.h"

namespace guestscope::test {

std::shared_ptr<const KernelModel> load_model(const std::string& file = "mini.vmlinux");
/// A file of types beside it ("mini.vmlinux.btf").
Bytes load_types(const std::string& file);

class MiniGuest {
 public:
  static constexpr std::uint64_t kRam = 256 << 20;

  struct Where {
    std::uint64_t slide = 0x1dc00000;
    std::uint64_t phys = 0x2200000;
    std::uint64_t page_offset = 0xffff9c5340000000;
    bool five_levels = false;
  };

  explicit MiniGuest(std::shared_ptr<const KernelModel> kernel)
      : MiniGuest(std::move(kernel), Where{}) {}
  MiniGuest(std::shared_ptr<const KernelModel> kernel, Where at);

  static MiniGuest booted(std::shared_ptr<const KernelModel> kernel) {
    return MiniGuest(std::move(kernel), Booted{});
  }

  /// All steps, with two CPUs.
  void boot();

  // Steps of a boot.
  void turn_paging_on();    ///< tables that map nothing of a kernel
  void map_image();         ///< the early tables map the image's area
  void fill_image();        ///< notes and banner are in place
  void set_phys_base();     ///< the kernel has relocated itself
  void set_canary();        ///< start_kernel() is past setup_arch()
  void build_direct_map();  ///< in init_top_pgt, with page_offset_base and vmalloc_base
  void set_possible(std::uint64_t mask);
  void set_online(std::uint64_t mask);
  void set_per_cpu_offset(unsigned cpu, std::uint64_t offset);
  /// The offset of a CPU's area; areas are real memory, 64 KiB apart.
  std::uint64_t area_offset(unsigned cpu) const;

  /// Back to firmware: paging off, memory as it is.
  void reset_machine() { registers = {}; }

  std::uint64_t link(const std::string& symbol) const;
  std::uint64_t phys_of(const std::string& symbol) const { return phys_of_link(link(symbol)); }
  void poke(const std::string& symbol, std::uint64_t value, std::uint64_t offset = 0) {
    memory.write_u64(phys_of(symbol) + offset, value);
  }

  /// A new object in the direct map; its virtual address.
  template <typename T>
  std::uint64_t put(const T& object) {
    const std::uint64_t at = allocate(sizeof(T));
    write(at, std::as_bytes(std::span(&object, 1)));
    return at;
  }
  std::uint64_t allocate(std::size_t bytes);
  void write(std::uint64_t virt, ByteSpan bytes) { memory.write(virt - where.page_offset, bytes); }
  template <typename T>
  void write_object(std::uint64_t virt, const T& object) {
    write(virt, std::as_bytes(std::span(&object, 1)));
  }
  void write_u64(std::uint64_t virt, std::uint64_t value) { write_object(virt, value); }

  /// An xarray node tree with these ids; sets the IDR's head.
  void put_idr(const std::string& symbol, const std::map<std::uint64_t, std::uint64_t>& entries);

  std::shared_ptr<const KernelModel> model;
  Where where;
  FakeMemory memory{kRam};
  x86_64::PagingRegisters registers;
  /// As a session hands them over.
  PagingRegisters paging_registers() const {
    return {.machine = Machine::kX86_64,
            .values = {registers.cr0, registers.cr3, registers.cr4, registers.efer}};
  }

 private:
  struct Booted {};
  MiniGuest(std::shared_ptr<const KernelModel> kernel, Booted /*tag*/);

  std::uint64_t phys_of_link(std::uint64_t link_address) const {
    return link_address - model->boot->text + where.phys;
  }

  std::uint64_t next_object_ = 0x4000000;
};

/// Copies the registers into the cell and looks at the guest once.
void refresh(GuestKernel& kernel, MiniGuest& guest);

}  // namespace guestscope::test
