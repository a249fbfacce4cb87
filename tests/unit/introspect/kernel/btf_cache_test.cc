// The kernel's BTF objects in memory: its own, its modules', and what programs have loaded.
#include "tests/unit/introspect/kernel/btf_objects.h"

namespace guestscope {
namespace {

using Fixture = test::BtfObjects;
using test::module_types;

TEST_CASE_FIXTURE(Fixture, "the kernel's own object is the kernel file's BTF, and not read again") {
  const std::uint64_t object = guest.put(kernel_object(own));
  const std::size_t before = guest.memory.bytes_read;
  const auto got = get(object);
  REQUIRE(got.has_value());
  CHECK(got->get() == &file_types());
  CHECK(guest.memory.bytes_read - before < 256);
}

TEST_CASE_FIXTURE(Fixture, "a module's types continue the kernel's") {
  const TypeId idr = *file_types().find(BtfKind::kStruct, "idr");
  const std::uint64_t base = guest.put(kernel_object(own));
  const auto got =
      get(guest.put(module_object(file_types(), base, module_types(file_types(), idr))));
  REQUIRE(got.has_value());
  const Btf& module = **got;
  CHECK(module.name() == "tcp_bbr");
  const auto state = module.find(BtfKind::kStruct, "module_state");
  REQUIRE(state);
  CHECK(*state == file_types().type_count());
  CHECK(module.members(*state)[0].type == idr);
  CHECK(module.name_of(idr) == "idr");
}

TEST_CASE_FIXTURE(Fixture, "an object that is known costs one exchange, and outlives the cache") {
  const std::uint64_t base = guest.put(kernel_object(own));
  const std::uint64_t object =
      guest.put(module_object(file_types(), base, module_types(file_types(), 1)));
  const auto first = get(object);
  REQUIRE(first.has_value());
  const std::size_t before = guest.memory.exchanges;
  CHECK(*get(object) == *first);
  CHECK(guest.memory.exchanges - before == 1);
  const std::shared_ptr<const Btf> kept = *first;
  cache = BtfCache(nullptr);
  guest.model.reset();
  CHECK(kept->find(BtfKind::kStruct, "module_state"));
  CHECK(kept->find(BtfKind::kStruct, "idr"));
}

TEST_CASE_FIXTURE(Fixture, "types read in doubt are known until it is settled, and kept if right") {
  const std::uint64_t base = guest.put(kernel_object(own));
  const std::uint64_t object =
      guest.put(module_object(file_types(), base, module_types(file_types(), 1)));
  for (const bool was_right : {false, true}) {
    CAPTURE(was_right);
    cache.doubt();
    const auto first = get(object);
    REQUIRE(first.has_value());
    CHECK(*get(object) == *first);
    cache.settle(was_right);
    CHECK((*get(object) == *first) == was_right);
    cache.clear();
  }
}

TEST_CASE_FIXTURE(Fixture,
                  "when the file's types are not the kernel's BTF, that is read from its memory") {
  // As if the file's had been made from DWARF: what the guest has counts otherwise.
  BtfBuilder other;
  other.integer("padding", 4, 32);
  const TypeId counter = other.integer("counter_t", 8, 64);
  const Bytes bytes = other.bytes();
  const Btf kernel = other.build();
  const std::uint64_t base = guest.put(kernel_object(bytes));
  const auto own_types = get(base);
  REQUIRE(own_types.has_value());
  CHECK((*own_types)->name() == "vmlinux");
  CHECK((*own_types)->name_of(counter) == "counter_t");
  const auto module = get(guest.put(module_object(kernel, base, module_types(kernel, counter))));
  REQUIRE(module.has_value());
  CHECK((*module)->name_of((*module)->members(kernel.type_count())[0].type) == "counter_t");
  // The base is kept: another module costs its own bytes, and no more of the kernel's.
  mini::btf second = module_object(kernel, base, module_types(kernel, counter, "other_state"));
  second.id = 8;
  const std::uint64_t at = guest.put(second);
  const std::size_t before = guest.memory.read_count;
  REQUIRE(get(at).has_value());
  CHECK(guest.memory.read_count - before == 3);  // two objects, its types
  cache.clear();
  CHECK((*module)->name_of(counter) == "counter_t");
}

TEST_CASE_FIXTURE(Fixture,
                  "types of the same size as the file's are compared by their header too") {
  Bytes other = own;
  // Four bytes from the types to the strings: another kernel's by chance.
  const auto move = [&](std::size_t at, int by) {
    const auto value =
        static_cast<std::uint32_t>(load_le(&other[at], 4) + static_cast<unsigned>(by));
    std::memcpy(&other[at], &value, 4);
  };
  move(12, -4), move(16, -4), move(20, 4);
  const auto got = get(guest.put(kernel_object(other)));
  CHECK((!got || got->get() != &file_types()));
}

TEST_CASE_FIXTURE(Fixture, "a program's own BTF that equals the kernel's in size is its own") {
  mini::btf object = kernel_object(own);
  object.kernel_btf = 0;
  object.id = 12;
  const auto got = get(guest.put(object));
  REQUIRE(got.has_value());
  CHECK(got->get() != &file_types());
  CHECK((*got)->name() == "BTF object 12");
}

TEST_CASE_FIXTURE(Fixture, "before 5.11 the kernel's own object is the one without an id") {
  BtfBuilder old;
  const TypeId number = old.integer("unsigned int", 4, 32);
  const TypeId pointer = old.refer(BtfKind::kPtr, 0);
  old.aggregate(BtfKind::kStruct, "btf", 24,
                {{"data", pointer, 0}, {"data_size", number, 64}, {"id", number, 96}});
  const Btf types = old.build();
  constexpr FieldNeed kFields[] = {
      {"data"}, {"data_size"}, {"id"}, {"base_btf", kOptional}, {"kernel_btf", kOptional}};
  BtfObjectModel model;
  model.layout = *StructLayout::bind(types, "btf", kFields);
  KernelMemory memory(guest.memory, *location.regime, location.linear);
  mini::btf object = kernel_object(own);
  object.id = 0;
  CHECK(cache.get(memory, model, GuestVirt(guest.put(object)))->get() == &file_types());
  object.id = 3;
  CHECK(cache.get(memory, model, GuestVirt(guest.put(object)))->get() != &file_types());
}

TEST_CASE_FIXTURE(Fixture, "types are only split from the kernel's own, and from these very ones") {
  const Bytes bytes = module_types(file_types(), 1);
  const mini::btf kernel = kernel_object(own);
  const mini::btf module = module_object(file_types(), guest.put(kernel), bytes);
  REQUIRE(get(guest.put(module)).has_value());
  cache.clear();

  mini::btf damaged = module;
  damaged.base_btf = guest.put(module);
  CHECK(error(damaged).find("which are not the kernel's own") != std::string::npos);
  mini::btf program = kernel;
  program.kernel_btf = 0;
  program.id = 3;
  damaged.base_btf = guest.put(program);
  CHECK(error(damaged) ==
        "the types of tcp_bbr continue those of BTF object 3, which are not the kernel's own");
  damaged = module;
  damaged.kernel_btf = 0;
  CHECK(error(damaged).starts_with("the types of BTF object 7 continue"));
  damaged = module;
  ++damaged.start_id;
  CHECK(error(damaged).starts_with("the types of tcp_bbr continue others than the kernel's"));
  damaged = module;
  --damaged.start_str_off;
  CHECK(error(damaged).starts_with("the types of tcp_bbr continue others than the kernel's"));
}

TEST_CASE_FIXTURE(Fixture, "an object that is split from itself is no endless loop") {
  const std::uint64_t at = guest.allocate(sizeof(mini::btf));
  guest.write_object(at, module_object(file_types(), at, module_types(file_types(), 1)));
  CHECK_FALSE(get(at));
}

TEST_CASE_FIXTURE(Fixture, "sizes that lie, and data that is not there, are errors") {
  mini::btf object = kernel_object(own);
  object.id = 9;
  object.data_size = 0xffffffff;
  CHECK(error(object) == "vmlinux claims 4294967295 bytes");
  object.data_size = 20;
  CHECK(error(object).starts_with("BTF of vmlinux: its 20 bytes are too few"));
  object.data_size = 0;
  CHECK_FALSE(get(guest.put(object)));
  object.data_size = 48 << 20;
  object.data = 0xffffc12300000000;
  const std::size_t before = guest.memory.bytes_read;
  CHECK(get(guest.put(object)).error().code == ErrorCode::kNotMapped);
  CHECK(guest.memory.bytes_read - before < 64 << 10);
  object.data_size = static_cast<std::uint32_t>(own.size());
  CHECK(get(guest.put(object)).error().code == ErrorCode::kNotMapped);
  CHECK(get(0).error().code == ErrorCode::kNotMapped);
}

TEST_CASE_FIXTURE(Fixture, "a name that is no text is not shown") {
  mini::btf object = kernel_object(own);
  name(object, "\x1b[31m\xff");
  object.data_size = 20;
  CHECK(error(object).starts_with("BTF of BTF object 1:"));
}

}  // namespace
}  // namespace guestscope
