#include "introspect/idr.h"

#include <doctest/doctest.h>

#include "tests/support/mini_guest.h"

namespace guestscope {
namespace {

using test::MiniGuest;

struct Reading {
  explicit Reading(MiniGuest& from) : guest(from) {
    PagingRegisterCell cell;
    cell.store(guest.paging_registers());
    location = locate_kernel(guest.memory, *guest.model, cell.load()).value();
  }
  std::vector<std::pair<std::uint64_t, std::uint64_t>> read() {
    KernelMemory memory(guest.memory, *location.regime, location.linear);
    const auto entries = read_idr(memory, guest.model->maps->idr,
                                  location.at(guest.link("map_idr")), "maps", problems);
    REQUIRE(entries.has_value());
    std::vector<std::pair<std::uint64_t, std::uint64_t>> list;
    for (const IdrEntry& entry : *entries) list.emplace_back(entry.id, entry.pointer.value());
    return list;
  }
  void set_head(std::uint64_t entry) {
    guest.poke("map_idr", entry, offsetof(mini::xarray, xa_head));
  }

  MiniGuest& guest;
  KernelLocation location;
  Problems problems;
};

using Entries = std::vector<std::pair<std::uint64_t, std::uint64_t>>;

TEST_CASE("ids are the paths through the tree, in order, whatever its depth") {
  MiniGuest guest = MiniGuest::booted(test::load_model());
  Reading reading(guest);
  reading.set_head(0);
  CHECK(reading.read().empty());
  reading.set_head(0xffff9c5340001000);  // a single entry is the head itself, with id 0
  CHECK(reading.read() == Entries{{0, 0xffff9c5340001000}});
  guest.put_idr("map_idr", {{3, 0xa000}, {63, 0xb000}, {64, 0xc000}, {2000, 0xd000}});
  CHECK(reading.read() == Entries{{3, 0xa000}, {63, 0xb000}, {64, 0xc000}, {2000, 0xd000}});
  guest.poke("map_idr", 10, offsetof(mini::idr, idr_base));
  CHECK(reading.read().front().first == 13);
  CHECK(reading.problems.empty());
}

TEST_CASE("a tree costs one exchange a level, not one an entry") {
  MiniGuest guest = MiniGuest::booted(test::load_model());
  std::map<std::uint64_t, std::uint64_t> many;
  for (std::uint64_t id = 0; id < 4000; id += 3) many[id] = 0x1000 + id * 8;
  guest.put_idr("map_idr", many);
  Reading reading(guest);
  const std::size_t before = guest.memory.exchanges;
  CHECK(reading.read().size() == many.size());
  CHECK(guest.memory.exchanges - before == 3);
}

TEST_CASE("marks of the tree itself are not entries") {
  MiniGuest guest = MiniGuest::booted(test::load_model());
  guest.put_idr("map_idr", {{1, 257 << 2 | 2}, {2, 0xa000}, {3, 4096 - 2}});
  Reading reading(guest);
  CHECK(reading.read() == Entries{{2, 0xa000}});
}

TEST_CASE(
    "a tree with a cycle, a false shift or an unmapped branch keeps its good part and says what is "
    "wrong") {
  MiniGuest guest = MiniGuest::booted(test::load_model());
  Reading reading(guest);
  mini::xa_node leaf{};
  leaf.slots[5] = 0xa000;
  mini::xa_node root{};
  root.shift = 6;
  root.slots[1] = guest.put(leaf) | 2;
  root.slots[2] = 0xffffc12300000002;  // unmapped
  leaf.shift = 12;
  root.slots[3] = guest.put(leaf) | 2;
  const std::uint64_t at = guest.allocate(sizeof root);
  root.slots[4] = at | 2;
  guest.write_object(at, root);
  reading.set_head(at | 2);
  CHECK(reading.read() == Entries{{69, 0xa000}});
  REQUIRE(reading.problems.list().size() == 3);
  std::string all;
  for (const Problem& problem : reading.problems.list())
    all += problem.at + ": " + problem.error.message + "\n";
  CHECK(all.find("from id 256 on: its tree has a cycle") != std::string::npos);
  CHECK(all.find("from id 128 on: page not present") != std::string::npos);
  CHECK(all.find("from id 192 on: its tree has a node with shift 12") != std::string::npos);
}

TEST_CASE("a leaf whose entries claim to be nodes ends the walk there") {
  MiniGuest guest = MiniGuest::booted(test::load_model());
  Reading reading(guest);
  mini::xa_node leaf{};
  leaf.slots[0] = guest.put(leaf) | 2;
  reading.set_head(guest.put(leaf) | 2);
  CHECK(reading.read().empty());
  CHECK(reading.problems.list().size() == 1);
}

}  // namespace
}  // namespace guestscope
