// A kernel without a file: its symbols and types are found in its own memory, slice by slice.
#include <doctest/doctest.h>

#include <algorithm>

#include "introspect/limits.h"
#include "tests/support/kallsyms_builder.h"
#include "tests/support/mini_guest.h"

namespace guestscope {
namespace {

using test::KallsymsBuilder;
using test::KallsymsShape;
using test::load_model;
using test::MiniGuest;
using test::refresh;

constexpr std::uint64_t kReadOnly = 2 << 20;  // of the image: the first slot without code
constexpr std::uint64_t kTypesAt = kReadOnly + 0x1230;
constexpr std::uint64_t kTablesAt = kReadOnly + (1 << 20) + 0x40000;  // in the second slice

const KallsymsShape& shape() {
  const auto& all = KallsymsShape::all();
  return *std::ranges::find(all, KallsymsShape::Encoding::kPerCpu, &KallsymsShape::encoding);
}

constexpr const char* kNames[] = {"map_idr",
                                  "prog_idr",
                                  "phys_base",
                                  "page_offset_base",
                                  "vmalloc_base",
                                  "init_top_pgt",
                                  "__per_cpu_offset",
                                  "__cpu_possible_mask",
                                  "__cpu_online_mask",
                                  "system_state",
                                  "init_task",
                                  "bpf_stats_enabled_key",
                                  "fair_sched_class",
                                  "rt_sched_class",
                                  "idle_sched_class",
                                  "linux_banner",
                                  "_text",
                                  "_end",
                                  "__start_notes",
                                  "__stop_notes",
                                  "__per_cpu_load",
                                  "runqueues",
                                  "vmcoreinfo_data"};

/// The tables as the kernel's own image has them: run-time addresses.
void put_symbols(MiniGuest& guest) {
  const std::uint64_t base = guest.model->boot->text + guest.where.slide;
  std::vector<std::pair<std::uint64_t, std::string>> symbols;
  for (const char* name : kNames) {
    const Symbol symbol = guest.model->file->symbols().find(name).value();
    symbols.emplace_back(symbol.value + (symbol.absolute ? 0 : guest.where.slide), name);
  }
  for (int i = 0; i < 300; ++i)
    symbols.emplace_back(base + static_cast<std::uint64_t>(i) * 16, fmt::format("func_{}", i));
  symbols.emplace_back(base + (7 << 20), "behind_all");
  std::ranges::sort(symbols);
  KallsymsBuilder builder;
  for (auto& [value, name] : symbols) builder.add(value, value < base ? 'A' : 'D', name);
  const Bytes image = builder.image(shape(), base);
  guest.memory.write(guest.where.phys + kTablesAt,
                     ByteSpan(image).subspan(KallsymsBuilder::kTables,
                                             builder.tables_end() - KallsymsBuilder::kTables));
}

void put_types(MiniGuest& guest) {
  guest.memory.write(guest.where.phys + kTypesAt, test::load_types("mini.vmlinux.btf"));
}

struct Watch {
  explicit Watch(std::shared_ptr<const KernelModel> model = nullptr)
      : kernel(std::move(model), [](std::string_view, const AccessorStatus&) {}) {}

  void look(MiniGuest& guest) {
    refresh(kernel, guest);
    kernel.digest();
    ++looks;
  }
  /// Until nothing can come any more; "wrf" as in the tests of the boot.
  std::string settle(MiniGuest& guest) {
    for (int i = 0; i < 100 && (i < 2 || kernel.discovering()); ++i) look(guest);
    look(guest);
    const KernelSummary summary = kernel.summary();
    std::string text;
    for (const AccessorStatus* status : {&summary.maps, &summary.progs, &summary.per_cpu})
      text += "wrf"[static_cast<int>(status->state)];
    return text;
  }
  std::string maps_error() const {
    return kernel.summary().maps.last_error.value_or(Error{}).message;
  }

  GuestKernel kernel;
  int looks = 0;
};

TEST_CASE("symbols and types are found in the guest's memory, a bounded slice at a look") {
  MiniGuest guest = MiniGuest::booted(load_model());
  put_symbols(guest);
  put_types(guest);
  Watch watch;
  watch.look(guest);
  CHECK(watch.kernel.discovering());
  CHECK(watch.maps_error() ==
        "reading the kernel's symbols and types from guest memory: 1024 KB so far");
  CHECK(watch.kernel.summary().maps.attempts == 0);
  for (int i = 0; i < 20 && watch.kernel.discovering(); ++i) {
    const std::size_t before = guest.memory.bytes_read;
    watch.look(guest);
    CHECK(guest.memory.bytes_read - before < kDiscoverySliceBytes + (64U << 10));
  }
  REQUIRE(watch.settle(guest) == "rrr");
  CAPTURE(watch.maps_error());
  REQUIRE(watch.kernel.ready());
  CHECK(watch.looks < 10);
  const KernelSummary summary = watch.kernel.summary();
  CHECK(summary.location->release == "6.99.1-mini");
  CHECK(summary.file->build_id() == guest.model->file->build_id());
  CHECK(summary.file->symbols_from() == "kallsyms in guest memory");
  CHECK(summary.file->types_from() == "BTF in guest memory");
  CHECK(summary.maps.attempts == 1);
  // Symbols are this boot's: the slide is not told by them.
  CHECK(summary.location->text_base == GuestVirt(guest.model->boot->text + guest.where.slide));
  CHECK(summary.kaslr_slide == std::nullopt);
  CHECK(watch.kernel.run_queues(guest.memory, false).has_value());
}

TEST_CASE("nothing is read before an image is mapped") {
  MiniGuest guest(load_model());
  Watch watch;
  watch.look(guest);
  CHECK(watch.maps_error() == "paging is off: the guest has not entered its kernel yet");
  guest.turn_paging_on();
  watch.look(guest);
  CHECK(watch.maps_error() == "these page tables map no kernel image");
  CHECK_FALSE(watch.kernel.discovering());
  CHECK(watch.kernel.wants_attempt());
  CHECK(guest.memory.bytes_read < 64 << 10);
}

TEST_CASE("a kernel without BTF is named all the same, and what is missing is said") {
  MiniGuest guest = MiniGuest::booted(load_model());
  put_symbols(guest);
  Watch watch;
  CHECK(watch.settle(guest) == "fff");
  CHECK(watch.maps_error().find("has no BTF") != std::string::npos);
  CHECK(watch.maps_error().find("--vmlinux") != std::string::npos);
  REQUIRE(watch.kernel.summary().location);
  CHECK(watch.kernel.summary().location->release == "6.99.1-mini");
}

TEST_CASE("a kernel without kallsyms is looked at again only when the guest has rebooted") {
  MiniGuest guest = MiniGuest::booted(load_model());
  put_types(guest);
  Watch watch;
  CHECK(watch.settle(guest) == "fff");
  CHECK(watch.maps_error().find("no symbols were found in guest memory") != std::string::npos);
  CHECK(watch.kernel.waits_for_reboot());
  const std::size_t before = guest.memory.bytes_read;
  watch.look(guest);
  CHECK(guest.memory.bytes_read - before < 64 << 10);

  MiniGuest again(load_model(), {.slide = 0x3000000, .phys = 0x3400000});
  again.boot();
  put_symbols(again);
  put_types(again);
  REQUIRE(watch.settle(again) == "rrr");
}

TEST_CASE("after a reboot the same kernel is known again without reading it again") {
  MiniGuest guest = MiniGuest::booted(load_model());
  put_symbols(guest);
  put_types(guest);
  Watch watch;
  REQUIRE(watch.settle(guest) == "rrr");
  MiniGuest again(load_model(), {.slide = 0x3000000, .phys = 0x3400000});
  again.boot();
  const std::size_t before = again.memory.bytes_read;
  watch.look(again);
  REQUIRE(watch.settle(again) == "rrr");
  CHECK(again.memory.bytes_read - before < 256 << 10);
  CHECK(watch.kernel.summary().boots == 2);
  CHECK(watch.kernel.summary().location->text_base ==
        GuestVirt(again.model->boot->text + again.where.slide));
}

TEST_CASE("another kernel after a reboot is discovered anew") {
  MiniGuest guest = MiniGuest::booted(load_model());
  put_symbols(guest);
  put_types(guest);
  Watch watch;
  REQUIRE(watch.settle(guest) == "rrr");
  MiniGuest other = MiniGuest::booted(load_model("other.vmlinux"));
  put_symbols(other);
  put_types(other);
  other.poke("init_task", 0x1234, offsetof(mini::task_struct, stack_canary));
  REQUIRE(watch.settle(other) == "rrr");
  CHECK(watch.kernel.summary().location->release == "6.98.0-other");
}

TEST_CASE("a reboot while the kernel is being read starts the reading anew") {
  MiniGuest guest = MiniGuest::booted(load_model());
  put_types(guest);
  Watch watch;
  watch.look(guest);
  REQUIRE(watch.kernel.discovering());
  MiniGuest again(load_model(), {.slide = 0x3000000, .phys = 0x3400000});
  again.boot();
  put_symbols(again);
  put_types(again);
  REQUIRE(watch.settle(again) == "rrr");
  CHECK(watch.kernel.summary().location->text_base ==
        GuestVirt(again.model->boot->text + again.where.slide));
}

TEST_CASE("a reboot to the very same place while the kernel is being read starts it anew, too") {
  MiniGuest guest = MiniGuest::booted(load_model());
  guest.memory.write_text(guest.where.phys + kReadOnly + 16, "first");
  put_types(guest);
  Watch watch;
  watch.look(guest);
  REQUIRE(watch.kernel.discovering());
  const x86_64::PagingRegisters registers = guest.registers;
  guest.reset_machine();
  watch.look(guest);
  // In firmware there is nothing to read, and no reason to hurry.
  CHECK_FALSE(watch.kernel.discovering());
  SUBCASE("the kernel that was being read goes on being read") {
    guest.registers = registers;
    watch.look(guest);
    CHECK(watch.kernel.discovering());
    CHECK(watch.maps_error().ends_with(": 2048 KB so far"));
  }
  SUBCASE("another one does not inherit its types") {
    MiniGuest other = MiniGuest::booted(load_model("other.vmlinux"));
    other.memory.write_text(other.where.phys + kReadOnly + 16, "other");
    put_symbols(other);
    CHECK(watch.settle(other) == "fff");
    CHECK(watch.maps_error().find("has no BTF") != std::string::npos);
  }
}

TEST_CASE("a lost connection forgets what was read: it may be another guest's next time") {
  MiniGuest guest = MiniGuest::booted(load_model());
  put_types(guest);
  Watch watch;
  watch.look(guest);
  REQUIRE(watch.kernel.discovering());
  watch.kernel.forget();
  CHECK_FALSE(watch.kernel.discovering());
  MiniGuest other = MiniGuest::booted(load_model("other.vmlinux"));
  put_symbols(other);
  CHECK(watch.settle(other) == "fff");
  CHECK(watch.maps_error().find("has no BTF") != std::string::npos);
}

TEST_CASE("a reboot from a kernel without BTF into another one is seen") {
  MiniGuest guest = MiniGuest::booted(load_model());
  put_symbols(guest);
  Watch watch;
  REQUIRE(watch.settle(guest) == "fff");
  REQUIRE(watch.kernel.summary().location);
  CHECK(watch.kernel.waits_for_reboot());
  MiniGuest other = MiniGuest::booted(load_model("other.vmlinux"));
  put_symbols(other);
  put_types(other);
  CHECK(watch.settle(other) == "rrr");
}

/// All but the last steps of the boot: an image that can be read, in a kernel that is not proven.
void boot_half(MiniGuest& guest) {
  guest.turn_paging_on();
  guest.map_image();
  guest.fill_image();
}

TEST_CASE("another kernel than one that was read but never came up is discovered as well") {
  MiniGuest guest(load_model());
  boot_half(guest);
  put_symbols(guest);
  put_types(guest);
  Watch watch;
  REQUIRE(watch.settle(guest) == "www");
  REQUIRE(watch.kernel.summary().file);
  MiniGuest other = MiniGuest::booted(load_model("other.vmlinux"));
  put_symbols(other);
  put_types(other);
  REQUIRE(watch.settle(other) == "rrr");
  CHECK(watch.kernel.summary().location->release == "6.98.0-other");
}

TEST_CASE("a file is not completed by what was read of a kernel that ran before its own") {
  MiniGuest other = MiniGuest::booted(load_model("other.vmlinux"));
  put_types(other);
  // The notes of a real kernel are read-only data.
  Bytes note(36);
  REQUIRE(other.memory.read_one(GuestPhys(other.phys_of("__start_notes")), note).has_value());
  other.memory.write(other.where.phys + kReadOnly + 0x100, note);
  Watch watch(load_model("mini.vmlinux.nobtf"));
  watch.look(other);
  REQUIRE(watch.kernel.summary().file->is_complete());
  MiniGuest guest = MiniGuest::booted(load_model());
  CHECK(watch.settle(guest) == "fff");
  CHECK(watch.maps_error().find("has no BTF") != std::string::npos);
}

/// Large reads fail, as they do when a stop has taken too long.
struct Hurried final : PhysMemory {
  explicit Hurried(PhysMemory& behind) : memory(behind) {}
  void read(std::span<PhysRead> reads) override {
    memory.read(reads);
    for (PhysRead& request : reads)
      if (request.into.size() > 4096)
        request.error = Error{.code = ErrorCode::kTimeout, .message = "the snapshot took too long"};
  }
  PhysMemory& memory;
};

TEST_CASE("a read that takes too long is not the end of the image") {
  MiniGuest guest = MiniGuest::booted(load_model());
  put_symbols(guest);
  put_types(guest);
  Watch watch;
  Hurried hurried(guest.memory);
  watch.kernel.registers().store(guest.paging_registers());
  watch.kernel.refresh(hurried);
  watch.kernel.digest();
  CHECK(watch.kernel.discovering());
  CHECK(watch.settle(guest) == "rrr");
}

TEST_CASE("a file without types has them from the guest's memory, and keeps its symbols") {
  MiniGuest guest = MiniGuest::booted(load_model());
  put_types(guest);
  Watch watch(load_model("mini.vmlinux.nobtf"));
  REQUIRE(watch.settle(guest) == "rrr");
  const KernelSummary summary = watch.kernel.summary();
  CHECK(summary.file->symbols_from() == "ELF symbols");
  CHECK(summary.file->types_from() == "BTF in guest memory");
  CHECK(summary.kaslr_slide == guest.where.slide);
}

TEST_CASE("a file of another kernel is not completed from the guest's memory unnoticed") {
  MiniGuest other = MiniGuest::booted(load_model("other.vmlinux"));
  put_types(other);
  Watch watch(load_model("mini.vmlinux.nobtf"));
  CHECK(watch.settle(other) == "fff");
  CHECK(watch.maps_error().find("6.98.0-other") != std::string::npos);
  CHECK(watch.kernel.waits_for_reboot());
}

TEST_CASE("what crash tools are told gives the slide that symbols in memory do not") {
  MiniGuest guest = MiniGuest::booted(load_model());
  put_symbols(guest);
  put_types(guest);
  const std::string text = "OSRELEASE=6.99.1-mini\nKERNELOFFSET=1dc00000\nCONFIG_X=y\n";
  const std::uint64_t page = guest.allocate(4096);
  guest.write(page, std::as_bytes(std::span(text)));
  guest.poke("vmcoreinfo_data", page);
  Watch watch;
  REQUIRE(watch.settle(guest) == "rrr");
  CHECK(watch.kernel.summary().kaslr_slide == 0x1dc00000);
}

}  // namespace
}  // namespace guestscope
