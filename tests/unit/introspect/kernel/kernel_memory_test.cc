#include "introspect/kernel_memory.h"

#include <doctest/doctest.h>

#include "introspect/read_ahead.h"
#include "introspect/read_cache.h"
#include "introspect/struct_batch.h"
#include "tests/support/mini_guest.h"

namespace guestscope {
namespace {

using test::FakeMemory;
using test::TableBuilder;

constexpr std::uint64_t kVmalloc = 0xffffc90000000000;
constexpr std::uint64_t kLinear = 0xffff888000000000;

struct Kernel {
  Kernel() : tables(physical, 0x1000, false), regime(GuestPhys(0x1000), false, true) {
    linear = {{.begin = GuestVirt(kLinear), .size = 16 << 20, .phys = GuestPhys(0)}};
  }
  KernelMemory memory() { return KernelMemory(physical, regime, linear); }

  FakeMemory physical{16 << 20};
  TableBuilder tables;
  x86_64::Regime regime;
  std::vector<LinearRange> linear;
};

TEST_CASE(
    "a read across scattered pages is put together, and costs one exchange once the tables are "
    "known") {
  Kernel kernel;
  kernel.tables.map(kVmalloc, 0x300000, 1);
  kernel.tables.map(kVmalloc + 4096, 0x200000, 1);
  kernel.physical.write_text(0x300000 + 4090, "abcdef");
  kernel.physical.write_text(0x200000, "ghijkl");
  KernelMemory memory = kernel.memory();
  const auto bytes = memory.read_bytes(GuestVirt(kVmalloc + 4090), 12);
  REQUIRE(bytes.has_value());
  CHECK(text_in(*bytes) == "abcdefghijkl");
  CHECK(kernel.physical.exchanges == 5);
  REQUIRE(memory.read_bytes(GuestVirt(kVmalloc + 100), 8).has_value());
  CHECK(kernel.physical.exchanges == 6);
}

TEST_CASE("linear addresses are read without a walk, however long") {
  Kernel kernel;
  KernelMemory memory = kernel.memory();
  REQUIRE(memory.read_bytes(GuestVirt(kLinear + 100), 3 << 20).has_value());
  CHECK(kernel.physical.exchanges == 1);
  CHECK(kernel.physical.read_count == (3 << 20) / (64 << 10));
}

TEST_CASE("a hole fails the read that touches it, names its address, and spares the others") {
  Kernel kernel;
  kernel.tables.map(kVmalloc, 0x300000, 1);
  KernelMemory memory = kernel.memory();
  ReadBatch batch;
  const auto good = batch.add(GuestVirt(kVmalloc), 8);
  const auto half = batch.add(GuestVirt(kVmalloc + 4092), 8);
  const auto null = batch.add(GuestVirt(), 8);
  const auto beyond_ram = batch.add(GuestVirt(kLinear + (16 << 20) - 4), 4);
  batch.read(memory);
  CHECK(batch[good].has_value());
  CHECK(batch[half].error().to_string() == "at 0xffffc90000001000: page not present (level 1)");
  CHECK(batch[null].error().code == ErrorCode::kNotMapped);
  CHECK(batch[beyond_ram].has_value());
}

TEST_CASE("a read that would wrap around the address space is refused") {
  Kernel kernel;
  KernelMemory memory = kernel.memory();
  CHECK(memory.read_bytes(GuestVirt(~std::uint64_t{0} - 3), 8).error().code ==
        ErrorCode::kNotMapped);
}

TEST_CASE("memory behind a linear address that is not RAM is an error with the virtual address") {
  Kernel kernel;
  kernel.linear[0].size = 64 << 20;
  KernelMemory memory = kernel.memory();
  const auto read = memory.read_bytes(GuestVirt(kLinear + (20 << 20)), 8);
  REQUIRE_FALSE(read);
  CHECK(read.error().code == ErrorCode::kNotRam);
  CHECK(read.error().address == kLinear + (20 << 20));
}

TEST_CASE(
    "a structure is read in the parts that hold its fields, many structures in one exchange") {
  const auto model = test::load_model();
  test::MiniGuest guest = test::MiniGuest::booted(model);
  Kernel kernel;
  constexpr FieldNeed kFields[] = {{"pid"}, {"tgid"}, {"prio"}};
  const StructLayout layout = *StructLayout::bind(model->file->btf(), "task_struct", kFields);
  StructBatch batch(layout);
  mini::task_struct task{};
  task.pid = 77;
  task.prio = -5;
  for (int i = 0; i < 3; ++i) {
    task.tgid = 100 + i;
    const std::uint64_t at = 0x400000 + static_cast<std::uint64_t>(i) * 0x2000;
    kernel.physical.write(at, std::as_bytes(std::span(&task, 1)));
    batch.add(GuestVirt(kLinear + at));
  }
  KernelMemory memory = kernel.memory();
  batch.read(memory);
  CHECK(kernel.physical.exchanges == 1);
  CHECK(kernel.physical.bytes_read < 3 * 300);  // of 7 KB each
  CHECK(batch[2]->s64(0) == 77);
  CHECK(batch[2]->s64(1) == 102);
  CHECK(batch[2]->s64(2) == -5);
}

TEST_CASE("a read cache answers what it has seen and passes errors through") {
  FakeMemory below(1 << 20);
  below.write_u64(0x1000, 42);
  ReadCache cache(below);
  Bytes bytes(8);
  for (int i = 0; i < 3; ++i) {
    REQUIRE(cache.read_one(GuestPhys(0x1000), bytes).has_value());
    CHECK(load_le(bytes.data(), 8) == 42);
  }
  CHECK(below.exchanges == 1);
  CHECK_FALSE(cache.read_one(GuestPhys(2 << 20), bytes));
  CHECK_FALSE(cache.read_one(GuestPhys(2 << 20), bytes));
  CHECK(below.exchanges == 3);
}

TEST_CASE("reading ahead, each piece is taken while the next is read, holes included") {
  Kernel kernel;
  kernel.tables.map(kVmalloc, 0x300000, 1);
  kernel.tables.map(kVmalloc + 4096, 0x200000, 1);
  kernel.physical.write_text(0x300000, "one");
  kernel.physical.write_text(0x200000, "two");
  kernel.physical.write_text(0x400000, "six");
  KernelMemory memory = kernel.memory();
  ReadAhead ahead(memory);
  std::string taken;
  ahead.put_off([&] { taken += "begun;"; });
  const auto take = [&](const Result<ByteSpan>& bytes) {
    taken += std::string(bytes ? text_in(*bytes) : to_string(bytes.error().code)) + ";";
  };
  ahead.read(GuestVirt(kVmalloc), 3, take);
  CHECK(taken == "begun;");
  ahead.read(GuestVirt(kVmalloc + 4096), 3, take);
  CHECK(taken == "begun;one;");
  ahead.read(GuestVirt(kVmalloc + 8192), 3, take);
  CHECK(taken == "begun;one;two;");
  ahead.read(GuestVirt(kLinear + 0x400000), 3, take);
  CHECK(taken == "begun;one;two;not_mapped;");
  ahead.catch_up();
  ahead.catch_up();
  CHECK(taken == "begun;one;two;not_mapped;six;");
}

}  // namespace
}  // namespace guestscope
