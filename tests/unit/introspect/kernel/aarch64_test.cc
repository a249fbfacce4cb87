// The boot of an arm64 kernel, played step by step; see boot_test.cc for x86-64.
#include <doctest/doctest.h>

#include "tests/support/aarch64_guest.h"

namespace guestscope {
namespace {

using test::Aarch64Format;
using test::Aarch64Guest;
using Where = Aarch64Guest::Where;

constexpr Aarch64Format k4k48{12, 48, false, false};

/// Kernels and what they run on: the processor's address size may be smaller than the kernel's.
constexpr Where kVariants[] = {
    {.format = k4k48},
    {.format = k4k48, .kernel_va_bits = 52},
    {.format = {12, 52, false, true}, .kernel_va_bits = 52},
    {.format = {12, 39, false, false}, .kernel_va_bits = 39},
    {.format = {14, 36, false, false}, .kernel_va_bits = 36},
    {.format = {14, 47, false, false}, .kernel_va_bits = 47},
    {.format = {14, 47, false, false}, .kernel_va_bits = 52},
    {.format = {14, 48, false, false}, .kernel_va_bits = 48},
    {.format = {14, 52, false, true}, .kernel_va_bits = 52},
    {.format = {16, 42, false, false}, .kernel_va_bits = 42},
    {.format = {16, 48, false, false}, .kernel_va_bits = 48},
    {.format = {16, 48, false, false}, .kernel_va_bits = 52},
    {.format = {16, 52, true, false}, .kernel_va_bits = 52},
};

struct Watch {
  explicit Watch(std::shared_ptr<const KernelModel> model)
      : kernel(std::move(model), [this](std::string_view name, const AccessorStatus&) {
          warned.emplace_back(name);
        }) {}

  /// "w" waiting, "r" ready, "f" failed: maps, programs, per-CPU offsets.
  std::string after(Aarch64Guest& guest) {
    kernel.registers().store(guest.registers);
    kernel.refresh(guest.memory);
    const KernelSummary summary = kernel.summary();
    std::string text;
    for (const AccessorStatus* status : {&summary.maps, &summary.progs, &summary.per_cpu})
      text += "wrf"[static_cast<int>(status->state)];
    return text;
  }
  std::string last_error() const {
    return kernel.summary().per_cpu.last_error.value_or(Error{}).message;
  }

  std::vector<std::string> warned;
  GuestKernel kernel;
};

TEST_CASE("each accessor fills at the first step of an arm64 boot that allows it") {
  for (const Where& where : kVariants) {
    CAPTURE(where.format.granule_bits);
    CAPTURE(where.format.va_bits);
    CAPTURE(where.kernel_va_bits);
    Aarch64Guest guest(where);
    Watch watch(guest.model);

    CHECK(watch.after(guest) == "www");
    CHECK(watch.last_error() == "paging is off: the guest has not entered its kernel yet");
    guest.turn_mmu_on();
    CHECK(watch.after(guest) == "www");
    CHECK(watch.last_error() == "these page tables map no kernel image");
    guest.map_image(Aarch64Guest::kEarlyRoot, false);
    CHECK(watch.after(guest) == "www");
    CHECK(watch.last_error() ==
          "the image mapped there does not (yet) carry the kernel file's build id");
    guest.fill_image();
    CHECK(watch.after(guest) == "www");
    CHECK(watch.last_error().starts_with("kimage_voffset is 0x0"));
    guest.poke("kimage_voffset", guest.text() - guest.where.phys + 0x200000);
    CHECK(watch.after(guest) == "www");
    CHECK(watch.last_error().starts_with("kimage_voffset is 0x"));
    guest.set_voffset();
    CHECK(watch.after(guest) == "www");
    CHECK(watch.last_error() == "the kernel is in its first steps (start_kernel)");
    guest.set_canary();
    CHECK(watch.after(guest) == "www");
    CHECK(watch.last_error() == "memstart_addr is not set yet");
    guest.set_memstart();
    CHECK(watch.after(guest) == "www");
    CHECK(watch.last_error().starts_with("the linear map does not reach the kernel image yet"));

    guest.map_image(Aarch64Guest::kRoot, true);
    guest.map_linear();
    CHECK(watch.after(guest) == "www");  // the tables in use are still the early ones
    guest.registers.values[Aarch64Guest::kTtbr1] = Aarch64Guest::kRoot;
    CHECK(watch.after(guest) == "rrw");
    CHECK(watch.last_error() == "the kernel has not counted its CPUs yet");
    guest.poke("__cpu_possible_mask", 0b11);
    guest.set_per_cpu_offset(0);
    CHECK(watch.after(guest) == "rrw");
    CHECK(watch.last_error() == "the per-CPU offset of CPU 1 is not set yet");
    guest.set_per_cpu_offset(1);
    CHECK(watch.after(guest) == "rrr");
    CHECK(watch.kernel.summary().boots == 1);
  }
}

TEST_CASE("a kernel whose header is not mapped is one that boots, not another one") {
  // From 6.9 on its first tables leave [_text, _stext) out already.
  Aarch64Guest guest({.format = k4k48});
  Watch watch(guest.model);
  guest.turn_mmu_on();
  guest.map_image(Aarch64Guest::kEarlyRoot, true);
  CHECK(watch.after(guest) == "www");
  guest.fill_image();
  CHECK(watch.after(guest) == "www");
  CHECK(watch.last_error().starts_with("kimage_voffset is 0x0"));
  guest.set_voffset();
  CHECK(watch.after(guest) == "www");
  CHECK(watch.last_error() == "the kernel is in its first steps (start_kernel)");
  guest.set_canary();
  guest.set_memstart();
  CHECK(watch.after(guest) == "www");
  CHECK(watch.warned.empty());
  guest.boot();
  CHECK(watch.after(guest) == "rrr");
}

TEST_CASE("an arm64 kernel's place is told for every page size and address size") {
  for (const Where& where : kVariants) {
    CAPTURE(where.format.granule_bits);
    CAPTURE(where.format.va_bits);
    CAPTURE(where.kernel_va_bits);
    Aarch64Guest guest(where);
    guest.boot();
    Watch watch(guest.model);
    REQUIRE(watch.after(guest) == "rrr");
    const KernelLocation location = *watch.kernel.summary().location;
    CHECK(location.text_base == GuestVirt(guest.text()));
    CHECK(location.slide == where.slide);
    CHECK(location.image_size == Aarch64Guest::kImageSize);
    CHECK(location.root == GuestPhys(Aarch64Guest::kRoot));
    CHECK(location.va_bits == where.format.va_bits);
    CHECK(location.page_size == where.format.page());
    CHECK(location.page_offset == GuestVirt(Aarch64Guest::page_offset(where.kernel_va_bits)));
    CHECK(location.phys_base == guest.memstart());
    // Whatever the bits, memory begins where the processor's upper half does.
    CHECK(location.linear[1].begin == GuestVirt(where.format.first_address()));
    CHECK(location.linear[1].phys == GuestPhys(Aarch64Guest::kRam));
  }
}

TEST_CASE("run queues of arm64 are found by image addresses and per-CPU offsets") {
  for (const Where& where : kVariants) {
    Aarch64Guest guest(where);
    guest.boot();
    mini::task_struct task{};
    task.pid = 42;
    guest.put(0x4a000000, task);
    for (const unsigned cpu : {0U, 1U}) {
      mini::rq rq{};
      rq.nr_running = cpu + 5;
      rq.curr = guest.linear(0x4a000000);
      rq.cpu = cpu;
      guest.put(Aarch64Guest::area(cpu), rq);
    }
    Watch watch(guest.model);
    REQUIRE(watch.after(guest) == "rrr");
    const auto list = watch.kernel.run_queues(guest.memory, false);
    REQUIRE(list.has_value());
    REQUIRE(list->run_queues.size() == 2);
    CHECK(list->run_queues[1].nr_running == 6);
    REQUIRE(list->run_queues[1].curr);
    CHECK(list->run_queues[1].curr->pid == 42);
  }
}

TEST_CASE("user code runs with another TTBR1: the kernel's tables lie a page or two behind it") {
  for (const int granule : {12, 14, 16}) {
    CAPTURE(granule);
    Aarch64Guest guest({.format = {granule, 48, false, false}});
    guest.boot();
    const std::uint64_t page = guest.where.format.page();
    for (const std::uint64_t pages : {1U, 2U}) {
      CAPTURE(pages);
      guest.registers.values[Aarch64Guest::kTtbr1] = Aarch64Guest::kRoot - pages * page;
      Watch watch(guest.model);
      CHECK(watch.after(guest) == "rrr");
      CHECK(watch.kernel.summary().location->root == GuestPhys(Aarch64Guest::kRoot));
      const std::size_t before = guest.memory.exchanges;
      CHECK(watch.after(guest) == "rrr");
      CHECK(guest.memory.exchanges - before == 2);  // known again: the check; what changes
    }
    guest.registers.values[Aarch64Guest::kTtbr1] = Aarch64Guest::kRoot - 3 * page;
    Watch watch(guest.model);
    CHECK(watch.after(guest) == "www");
  }
}

TEST_CASE("pointers with a tag are followed where the processor ignores it, and only there") {
  for (const bool ignored : {true, false}) {
    CAPTURE(ignored);
    Aarch64Guest guest({.format = k4k48});
    guest.boot();
    if (ignored) guest.registers.values[Aarch64Guest::kTcr] |= std::uint64_t{1} << 38;  // TBI1
    mini::bpf_map map{};
    map.refcnt.counter = 1;
    guest.put(0x4a000000, map);
    const std::uint64_t tag = std::uint64_t{0xf3} << 56;
    const auto tagged = [&](std::uint64_t address) { return address << 8 >> 8 | tag; };
    // An entry without inner nodes: id 0. 0xf3 in place of 0xff, as KASAN does it.
    guest.poke("map_idr", tagged(guest.linear(0x4a000000)),
               offsetof(mini::idr, idr_rt) + offsetof(mini::xarray, xa_head));
    Watch watch(guest.model);
    REQUIRE(watch.after(guest) == "rrr");
    const auto maps = watch.kernel.maps(guest.memory);
    REQUIRE(maps.has_value());
    CHECK(maps->maps.size() == (ignored ? 1 : 0));
    CHECK(maps->problems.list().size() == (ignored ? 0 : 1));

    // Outside the linear map, where the tables are walked.
    const std::uint64_t virt = guest.text() + 0x10000000;
    guest.tables(Aarch64Guest::kRoot).map(virt, 0x4b000000, 3, test::Aarch64Tables::kNoExecute);
    guest.memory.write_u64(0x4b000008, 0x1122334455667788);
    const KernelLocation location = *watch.kernel.summary().location;
    KernelMemory kernel(guest.memory, *location.regime, location.linear);
    CHECK(kernel.read_number(GuestVirt(virt + 8), 8) == 0x1122334455667788);
    const auto through_tag = kernel.read_number(GuestVirt(tagged(virt + 8)), 8);
    CHECK(through_tag.has_value() == ignored);
    if (ignored) CHECK(through_tag == 0x1122334455667788);
  }
}

TEST_CASE("a kernel file for another processor is a mismatch that names both") {
  const auto x86 = test::load_model();
  Aarch64Guest guest({.format = k4k48});
  guest.boot();
  Watch watch(x86);
  CHECK(watch.after(guest) == "fff");
  CHECK(watch.last_error().find("the guest is aarch64, but kernel file ") == 0);
  CHECK(watch.last_error().ends_with("mini.vmlinux is for x86_64"));
  CHECK(watch.kernel.waits_for_reboot());

  test::MiniGuest other = test::MiniGuest::booted(x86);
  GuestKernel kernel(guest.model, [](std::string_view, const AccessorStatus&) {});
  refresh(kernel, other);
  CHECK(kernel.summary().maps.last_error->message ==
        "the guest is x86_64, but arm64.vmlinux is for aarch64");
}

TEST_CASE("another arm64 kernel is named, wherever its image begins") {
  for (const bool at_stext : {false, true}) {
    CAPTURE(at_stext);
    Aarch64Guest guest({.format = k4k48});
    guest.turn_mmu_on();
    guest.map_image(Aarch64Guest::kRoot, at_stext);
    guest.registers.values[Aarch64Guest::kTtbr1] = Aarch64Guest::kRoot;
    guest.fill_image();
    guest.memory.write_text(guest.phys_of("__start_notes") + 16, "twenty other bytes!!");
    guest.memory.write_text(guest.phys_of("linux_banner"), "Linux version 5.10.0-foreign (x@y) #1");
    Watch watch(guest.model);
    CHECK(watch.after(guest) == "fff");
    CHECK(watch.last_error().find("the guest runs 5.10.0-foreign") == 0);
    CHECK(watch.kernel.waits_for_reboot());
  }
}

TEST_CASE("an arm64 guest that reboots to another place is ready again there") {
  Aarch64Guest guest({.format = k4k48});
  guest.boot();
  Watch watch(guest.model);
  REQUIRE(watch.after(guest) == "rrr");
  guest.memory.clear();
  guest.registers.values = {};
  CHECK(watch.after(guest) == "www");
  Aarch64Guest again({.format = k4k48, .slide = 0x4600000, .phys = 0x4c200000});
  again.boot();
  CHECK(watch.after(again) == "rrr");
  CHECK(watch.kernel.summary().boots == 2);
  CHECK(watch.kernel.summary().location->slide == 0x4600000);
}

}  // namespace
}  // namespace guestscope
