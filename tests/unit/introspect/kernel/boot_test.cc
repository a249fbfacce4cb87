// The boot, played step by step: each cache goes from empty to filled at the first step that allows
// it, and not back.
#include <doctest/doctest.h>

#include "tests/support/mini_guest.h"

namespace guestscope {
namespace {

using test::load_model;
using test::MiniGuest;
using test::refresh;

struct Watch {
  explicit Watch(std::shared_ptr<const KernelModel> model)
      : kernel(std::move(model), [this](std::string_view name, const AccessorStatus&) {
          warned.emplace_back(name);
        }) {}

  /// "w" waiting, "r" ready, "f" failed: maps, programs, per-CPU offsets.
  std::string states() const {
    const KernelSummary summary = kernel.summary();
    std::string text;
    for (const AccessorStatus* status : {&summary.maps, &summary.progs, &summary.per_cpu})
      text += "wrf"[static_cast<int>(status->state)];
    return text;
  }
  std::string after(MiniGuest& guest) {
    refresh(kernel, guest);
    return states();
  }
  std::string last_error() const {
    return kernel.summary().per_cpu.last_error.value_or(Error{}).message;
  }

  std::vector<std::string> warned;
  GuestKernel kernel;
};

TEST_CASE("each accessor fills at the first step of the boot that allows it") {
  for (const bool five : {false, true}) {
    CAPTURE(five);
    const auto model = load_model();
    MiniGuest guest(model, {.page_offset = five ? 0xff11c5d340000000 : 0xffff9c5340000000,
                            .five_levels = five});
    Watch watch(model);

    CHECK(watch.after(guest) == "www");
    CHECK(watch.last_error() == "paging is off: the guest has not entered its kernel yet");
    guest.turn_paging_on();
    CHECK(watch.after(guest) == "www");
    CHECK(watch.last_error() == "these page tables map no kernel image");
    guest.map_image();
    CHECK(watch.after(guest) == "www");
    CHECK(watch.last_error() ==
          "the image mapped there does not (yet) carry the kernel file's build id");
    guest.fill_image();
    CHECK(watch.after(guest) == "www");
    CHECK(watch.last_error().starts_with("phys_base is 0x0"));
    guest.set_phys_base();
    CHECK(watch.after(guest) == "www");
    CHECK(watch.last_error() == "the kernel is in its first steps (start_kernel)");
    guest.set_canary();
    CHECK(watch.after(guest) == "www");
    CHECK(watch.last_error().starts_with("the direct map does not reach the kernel image yet"));
    CHECK(watch.kernel.summary().maps.attempts == 6);
    CHECK(watch.kernel.summary().boots == 0);

    guest.build_direct_map();
    CHECK(watch.after(guest) == "rrw");
    CHECK(watch.last_error() == "the kernel has not counted its CPUs yet");
    CHECK(watch.kernel.summary().boots == 1);
    // CPU 0 is possible from the start; its slot still holds the load address, slid or not.
    guest.set_possible(0b1);
    guest.set_per_cpu_offset(0, guest.link("__per_cpu_load"));
    CHECK(watch.after(guest) == "rrw");
    CHECK(watch.last_error() == "the per-CPU offset of CPU 0 is not set yet");
    guest.set_per_cpu_offset(0, guest.link("__per_cpu_load") + guest.where.slide);
    CHECK(watch.after(guest) == "rrw");
    guest.set_possible(0b101);
    guest.set_per_cpu_offset(0, guest.area_offset(0));
    CHECK(watch.after(guest) == "rrw");
    CHECK(watch.last_error() == "the per-CPU offset of CPU 2 is not set yet");
    guest.set_per_cpu_offset(2, guest.area_offset(0));
    CHECK(watch.after(guest) == "rrw");
    CHECK(watch.last_error() == "two CPUs share a per-CPU offset: the table is not set yet");
    guest.set_per_cpu_offset(2, guest.area_offset(2));
    CHECK(watch.after(guest) == "rrr");

    const KernelSummary summary = watch.kernel.summary();
    CHECK(summary.possible_cpus == 2);
    CHECK(summary.location->paging_levels == (five ? 5 : 4));
    CHECK(summary.location->slide == guest.where.slide);
    CHECK(summary.location->page_offset == GuestVirt(guest.where.page_offset));
    CHECK(summary.location->root == GuestPhys(guest.phys_of("init_top_pgt")));
    CHECK(summary.location->release == "6.99.1-mini");
    CHECK(summary.boots == 1);
  }
}

TEST_CASE(
    "the static page_offset_base is not taken for the final one, though early tables map it") {
  const auto model = load_model();
  MiniGuest::Where early;
  early.page_offset =
      0xffff888000000000;  // as the image is linked; its tables map it for Xen and PVH
  MiniGuest guest(model, early);
  guest.turn_paging_on();
  guest.map_image();
  guest.fill_image();
  guest.set_phys_base();
  guest.build_direct_map();
  Watch watch(model);
  CHECK(watch.after(guest) == "www");
  guest.where.page_offset = 0xffff9c5340000000;
  guest.build_direct_map();
  guest.set_canary();
  CHECK(watch.after(guest) == "rrw");
  CHECK(watch.kernel.summary().location->page_offset == GuestVirt(guest.where.page_offset));
  CHECK(watch.kernel.summary().boots == 1);
}

TEST_CASE("a filled accessor stays filled and is not attempted again") {
  const auto model = load_model();
  MiniGuest guest = MiniGuest::booted(model);
  Watch watch(model);
  CHECK(watch.after(guest) == "rrr");
  guest.set_per_cpu_offset(1, 0);  // would not be accepted now
  CHECK(watch.after(guest) == "rrr");
  CHECK(watch.kernel.summary().per_cpu.attempts == 1);
}

TEST_CASE(
    "every attempt takes the registers of its own time: a root table that has gone is not used") {
  const auto model = load_model();
  MiniGuest guest = MiniGuest::booted(model);
  const x86_64::PagingRegisters good = guest.registers;
  Watch watch(model);
  guest.registers.cr3 = 0x7000000;  // a page of zeros
  CHECK(watch.after(guest) == "www");
  guest.registers = good;
  CHECK(watch.after(guest) == "rrr");
}

TEST_CASE("under page-table isolation the user's half leads to the kernel's half") {
  const auto model = load_model();
  MiniGuest guest = MiniGuest::booted(model);
  guest.registers.cr3 |=
      0x1000 | 0x8000000000000802;  // user half, with a PCID and the no-flush hint
  Watch watch(model);
  CHECK(watch.after(guest) == "rrr");
}

TEST_CASE("a reboot empties all three at once, and the new boot fills them again") {
  const auto model = load_model();
  MiniGuest guest = MiniGuest::booted(model);
  Watch watch(model);
  CHECK(watch.after(guest) == "rrr");

  guest.reset_machine();
  CHECK(watch.after(guest) == "www");
  CHECK_FALSE(watch.kernel.summary().location.has_value());
  CHECK(watch.kernel.summary().per_cpu.attempts == 1);  // counted anew

  MiniGuest again(model,
                  {.slide = 0x3000000, .phys = 0x3400000, .page_offset = 0xffff888000000000});
  again.turn_paging_on();
  again.map_image();
  CHECK(watch.after(again) == "www");
  again.fill_image();
  again.set_phys_base();
  again.set_canary();
  again.build_direct_map();
  CHECK(watch.after(again) == "rrw");
  CHECK(watch.kernel.summary().boots == 2);
  CHECK(watch.kernel.summary().location->slide == 0x3000000);
}

TEST_CASE("in doubt, what looks like another boot changes nothing") {
  const auto model = load_model();
  MiniGuest guest = MiniGuest::booted(model);
  Watch watch(model);
  REQUIRE(watch.after(guest) == "rrr");
  const std::uint64_t attempts = watch.kernel.summary().maps.attempts;
  watch.kernel.doubt();
  CHECK(watch.kernel.refresh(guest.memory));
  guest.poke("init_task", 1, offsetof(mini::task_struct, stack_canary));
  CHECK_FALSE(watch.kernel.refresh(guest.memory));
  watch.kernel.settle(false);
  CHECK(watch.states() == "rrr");
  CHECK(watch.kernel.summary().maps.attempts == attempts);
  CHECK(watch.kernel.summary().boots == 1);
  watch.after(guest);
  CHECK(watch.kernel.summary().boots == 2);
}

TEST_CASE("a vCPU whose GS base is the boot's needs no page tables looked at") {
  for (const std::uint64_t page_offset : {0xffff9c5340000000UL, 0xffff888000000000UL}) {
    CAPTURE(page_offset);
    const auto model = load_model();
    MiniGuest guest(model, {.page_offset = page_offset});
    guest.boot();
    Watch watch(model);
    REQUIRE(watch.after(guest) == "rrr");
    // The tables of some process, elsewhere; under KASLR alone no other boot has these offsets.
    PagingRegisters registers = watch.kernel.registers().load();
    const bool random = page_offset != 0xffff888000000000UL;
    registers.values[1] = 0x7777000;  // CR3
    for (const std::size_t base : {4UL, 5UL}) {
      registers.values[4] = registers.values[5] = 0;
      registers.values[base] = guest.area_offset(1);
      watch.kernel.registers().store(registers);
      watch.kernel.doubt();
      CHECK(watch.kernel.refresh(guest.memory) == random);
      watch.kernel.settle(false);
    }
    registers.values[4] = registers.values[5] = 0;
    watch.kernel.registers().store(registers);
    watch.kernel.doubt();
    CHECK_FALSE(watch.kernel.refresh(guest.memory));
    watch.kernel.settle(false);
  }
}

TEST_CASE("a reboot to the very same addresses is told by the boot's own random number") {
  const auto model = load_model();
  MiniGuest guest = MiniGuest::booted(model);
  Watch watch(model);
  CHECK(watch.after(guest) == "rrr");
  guest.poke("init_task", 0x1234, offsetof(mini::task_struct, stack_canary));
  CHECK(watch.after(guest) == "rrr");
  CHECK(watch.kernel.summary().boots == 2);
}

TEST_CASE("a boot that is known costs two exchanges to be known again, whatever process runs") {
  const auto model = load_model();
  MiniGuest guest = MiniGuest::booted(model);
  Watch watch(model);
  watch.after(guest);
  // A process with tables of its own: its top entry for the image is the kernel's.
  const std::uint64_t entry = ((guest.model->boot->text + guest.where.slide) >> 39 & 511) * 8;
  Bytes raw(8);
  REQUIRE(guest.memory.read_one(GuestPhys(guest.registers.cr3 + entry), raw).has_value());
  guest.memory.write_u64(guest.phys_of("init_top_pgt") + entry, load_le(raw.data(), 8));
  guest.memory.write_u64(0x6000000 + entry, load_le(raw.data(), 8));
  guest.registers.cr3 = 0x6000000;
  const std::size_t before = guest.memory.exchanges;
  CHECK(watch.after(guest) == "rrr");
  CHECK(guest.memory.exchanges - before == 2);  // the check; online mask and boot stage
  guest.registers.cr3 = 0x7000000;
  CHECK(watch.after(guest) == "www");
}

TEST_CASE(
    "another kernel than the file's is named with both versions and tried no more before a "
    "reboot") {
  const auto other = load_model("other.vmlinux");
  MiniGuest guest = MiniGuest::booted(other);
  Watch watch(load_model());
  CHECK(watch.after(guest) == "fff");
  const std::string error = watch.last_error();
  CHECK(error.find("6.98.0-other") != std::string::npos);
  CHECK(error.find("6.99.1-mini") != std::string::npos);
  CHECK(error.find("ffeeddccbbaa99887766554433221100ffeeddcc") != std::string::npos);
  CHECK(watch.kernel.waits_for_reboot());
  CHECK_FALSE(watch.kernel.wants_attempt());
  CHECK(watch.warned == std::vector<std::string>{"maps", "progs", "per_cpu_offsets"});
  CHECK(watch.after(guest) == "fff");
  CHECK(watch.kernel.summary().maps.attempts == 1);

  MiniGuest right = MiniGuest::booted(load_model());
  CHECK(watch.after(right) == "rrr");
}

TEST_CASE("another kernel whose marks lie elsewhere is known by the banner in its read-only data") {
  MiniGuest guest(load_model());
  guest.turn_paging_on();
  guest.map_image();
  guest.memory.write_text(guest.where.phys + (2 << 20) + 0x5678,
                          "Linux version 5.10.0-foreign (x@y) #1");
  Watch watch(load_model());
  CHECK(watch.after(guest) == "fff");
  CHECK(watch.last_error().find("5.10.0-foreign") != std::string::npos);
}

TEST_CASE("a missing symbol is permanent for what needs it, and only for that") {
  MiniGuest guest = MiniGuest::booted(load_model("nomaps.vmlinux"));
  Watch watch(load_model("nomaps.vmlinux"));
  CHECK(watch.after(guest) == "frr");
  CHECK(watch.kernel.summary().maps.last_error->message.find("has no symbol map_idr") !=
        std::string::npos);
  CHECK(watch.warned == std::vector<std::string>{"maps"});
  CHECK_FALSE(watch.kernel.wants_attempt());
}

TEST_CASE("after ten failed attempts each accessor is warned about once") {
  const auto model = load_model();
  MiniGuest guest(model);
  Watch watch(model);
  for (int i = 0; i < 9; ++i) watch.after(guest);
  CHECK(watch.warned.empty());
  for (int i = 0; i < 20; ++i) watch.after(guest);
  CHECK(watch.warned == std::vector<std::string>{"maps", "progs", "per_cpu_offsets"});
}

TEST_CASE("three accessors that prove the kernel pay for its reading once") {
  const auto model = load_model();
  MiniGuest guest = MiniGuest::booted(model);
  Watch watch(model);
  watch.after(guest);
  const std::size_t all = guest.memory.exchanges;
  MiniGuest single = MiniGuest::booted(model);
  PagingRegisterCell cell;
  cell.store(single.paging_registers());
  REQUIRE(try_init_per_cpu_offsets(single.memory, *model, cell).has_value());
  CHECK(all <= single.memory.exchanges + 2);  // the online mask and the boot stage come on top
}

}  // namespace
}  // namespace guestscope
