#include "tests/support/mini_guest.h"

#include <doctest/doctest.h>

#include <fstream>

namespace guestscope::test {

namespace {

constexpr std::uint64_t kEarlyRoot = 0x100000;
constexpr std::uint64_t kDirectMapTables = 0x800000;
constexpr std::uint64_t kSlot = 2 << 20;
constexpr std::uint64_t kArea = 0x8000000;  // physical address of CPU 0's per-CPU area
constexpr std::uint64_t kAreaStride = 0x40000;

}  // namespace

std::shared_ptr<const KernelModel> load_model(const std::string& file) {
  auto opened = KernelFile::open(std::string(GUESTSCOPE_FIXTURES) + "/" + file);
  if (!opened) FAIL(opened.error().to_string());
  return KernelModel::bind(*opened);
}

Bytes load_types(const std::string& file) {
  std::ifstream stream(std::string(GUESTSCOPE_FIXTURES) + "/" + file, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(stream)), {});
  REQUIRE_FALSE(text.empty());
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

MiniGuest::MiniGuest(std::shared_ptr<const KernelModel> kernel, Where at)
    : model(std::move(kernel)), where(at) {
  REQUIRE(model->boot.has_value());
}

MiniGuest::MiniGuest(std::shared_ptr<const KernelModel> kernel, Booted /*tag*/)
    : MiniGuest(std::move(kernel)) {
  boot();
}

void MiniGuest::boot() {
  turn_paging_on();
  map_image();
  fill_image();
  set_phys_base();
  set_canary();
  build_direct_map();
  set_possible(0b11);
  set_online(0b11);
  if (model->file->symbols().find("cpus_booted_once_mask")) poke("cpus_booted_once_mask", 0b11);
  set_per_cpu_offset(0, area_offset(0));
  set_per_cpu_offset(1, area_offset(1));
  poke("system_state", 3);
}

void MiniGuest::turn_paging_on() {
  registers = {.cr0 = 0x80050033,
               .cr3 = kEarlyRoot,
               .cr4 = where.five_levels ? 0x16b0U : 0x6b0U,
               .efer = 0xd01};
}

void MiniGuest::map_image() {
  TableBuilder tables(memory, kEarlyRoot, where.five_levels);
  const std::uint64_t base = model->boot->text + where.slide;
  for (std::uint64_t slot = 0; slot < 4; ++slot)
    tables.map(base + slot * kSlot, where.phys + slot * kSlot, 2,
               slot == 0 ? 0 : TableBuilder::kNoExecute);
}

void MiniGuest::fill_image() {
  const BootModel& boot = *model->boot;
  memory.write(phys_of_link(*boot.notes_begin),
               model->file->bytes_at(*boot.notes_begin, boot.notes_size).value());
  memory.write_text(phys_of_link(boot.banner),
                    "Linux version " + model->file->release() + " (builder@host) #1");
}

void MiniGuest::set_phys_base() {
  const std::uint64_t in_area = model->boot->text + where.slide - x86_64::kImageAreaBegin.value();
  poke("phys_base", where.phys - in_area);
}

void MiniGuest::build_direct_map() {
  TableBuilder tables(memory, phys_of("init_top_pgt"), where.five_levels);
  tables.set_next_table(kDirectMapTables);
  for (std::uint64_t at = 0; at < kRam; at += kSlot) tables.map(where.page_offset + at, at, 2);
  // The kernel's half of every root table has the same entries.
  constexpr std::uint64_t kImageEntry = 511 * 8;
  Bytes entry(8);
  static_cast<void>(memory.read_one(GuestPhys(kEarlyRoot + kImageEntry), entry));
  memory.write(phys_of("init_top_pgt") + kImageEntry, entry);
  poke("page_offset_base", where.page_offset);
  poke("vmalloc_base", where.page_offset + (std::uint64_t{1} << 40));
}

void MiniGuest::set_canary() {
  poke("init_task", 0x5eed0000 + where.slide, offsetof(mini::task_struct, stack_canary));
}

void MiniGuest::set_possible(std::uint64_t mask) { poke("__cpu_possible_mask", mask); }
void MiniGuest::set_online(std::uint64_t mask) { poke("__cpu_online_mask", mask); }

void MiniGuest::set_per_cpu_offset(unsigned cpu, std::uint64_t offset) {
  poke("__per_cpu_offset", offset, cpu * std::uint64_t{8});
}

std::uint64_t MiniGuest::area_offset(unsigned cpu) const {
  return where.page_offset + kArea + cpu * kAreaStride;
}

std::uint64_t MiniGuest::link(const std::string& symbol) const {
  return model->file->symbols().require(symbol).value();
}

std::uint64_t MiniGuest::allocate(std::size_t bytes) {
  const std::uint64_t at = next_object_;
  next_object_ += (bytes + 63) & ~std::size_t{63};
  return where.page_offset + at;
}

void MiniGuest::put_idr(const std::string& symbol,
                        const std::map<std::uint64_t, std::uint64_t>& entries) {
  // Two levels: a root of shift 6 over leaves of 64 ids each.
  mini::xa_node root{};
  root.shift = 6;
  std::map<std::uint64_t, mini::xa_node> leaves;
  for (const auto& [id, pointer] : entries) leaves[id / 64].slots[id % 64] = pointer;
  for (const auto& [index, leaf] : leaves) root.slots[index] = put(leaf) | 2;
  poke(symbol, entries.empty() ? 0 : put(root) | 2,
       offsetof(mini::idr, idr_rt) + offsetof(mini::xarray, xa_head));
}

void refresh(GuestKernel& kernel, MiniGuest& guest) {
  kernel.registers().store(guest.paging_registers());
  kernel.refresh(guest.memory);
}

}  // namespace guestscope::test
