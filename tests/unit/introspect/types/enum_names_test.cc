#include "introspect/enum_names.h"

#include <doctest/doctest.h>

#include "tests/support/btf_builder.h"

namespace guestscope {
namespace {

BtfBuilder kernel_enums() {
  BtfBuilder builder;
  builder.enumeration(BtfKind::kEnum, "bpf_map_type", 4,
                      {{"BPF_MAP_TYPE_UNSPEC", 0},
                       {"BPF_MAP_TYPE_LRU_HASH", 9},
                       {"BPF_MAP_TYPE_CGROUP_STORAGE_DEPRECATED", 19},
                       {"BPF_MAP_TYPE_CGROUP_STORAGE", 19},
                       {"BPF_MAP_TYPE_OLD_DEPRECATED", 21},
                       {"__MAX_BPF_MAP_TYPE", 33},
                       {"BPF_MAP_TYPE_MAX", 34}});
  builder.enumeration(BtfKind::kEnum, "", 4,
                      {{"BPF_F_NO_PREALLOC", 1}, {"BPF_F_NUMA_NODE", 4}, {"BPF_F_BIG", 1U << 31}});
  builder.enumeration(BtfKind::kEnum64, "system_states", 8,
                      {{"SYSTEM_BOOTING", 0}, {"SYSTEM_RUNNING", 3}, {"OTHER", 1ULL << 40}});
  return builder;
}

}  // namespace

TEST_CASE("names lose their prefix and become lower case") {
  const Btf btf = kernel_enums().build();
  const auto types = EnumNames::of(btf, "bpf_map_type", "BPF_MAP_TYPE_");
  REQUIRE(types);
  CHECK(types->name(0) == "unspec");
  CHECK(types->name(9) == "lru_hash");
  CHECK(types->value("lru_hash") == 9);
  CHECK_FALSE(types->value("LRU_HASH"));
}

TEST_CASE("of two names of one value, the one that is not deprecated is taken") {
  const Btf btf = kernel_enums().build();
  const auto types = EnumNames::of(btf, "bpf_map_type", "BPF_MAP_TYPE_");
  REQUIRE(types);
  CHECK(types->name(19) == "cgroup_storage");
  CHECK(types->name(21) == "old");
}

TEST_CASE("marks of the end of a list are no names, and unknown numbers keep theirs") {
  const Btf btf = kernel_enums().build();
  const auto types = EnumNames::of(btf, "bpf_map_type", "BPF_MAP_TYPE_");
  REQUIRE(types);
  CHECK_FALSE(types->name(33));
  CHECK_FALSE(types->name(34));
  CHECK(types->name_or_number(33, "type") == "type_33");
  CHECK(types->name_or_number(9, "type") == "lru_hash");
  CHECK(types->all().size() == 4);
}

TEST_CASE("an enumeration of 64 bits serves as well") {
  const Btf btf = kernel_enums().build();
  const auto states = EnumNames::of(btf, "system_states", "SYSTEM_");
  REQUIRE(states);
  CHECK(states->name(3) == "running");
  CHECK(states->all().size() == 2);
}

TEST_CASE("flags are named bit by bit, from an anonymous enumeration") {
  const Btf btf = kernel_enums().build();
  const auto flags = EnumNames::containing(btf, "BPF_F_NO_PREALLOC", "BPF_F_");
  REQUIRE(flags);
  CHECK(flags->flags(0).empty());
  CHECK(flags->flags(1 | 2 | 4 | 1ULL << 31 | 1ULL << 63) ==
        std::vector<std::string>{"no_prealloc", "bit_1", "numa_node", "big", "bit_63"});
}

TEST_CASE("a kernel without the enumeration is unsupported, by name") {
  const Btf btf = kernel_enums().build();
  const auto missing = EnumNames::of(btf, "bpf_prog_type", "BPF_PROG_TYPE_");
  REQUIRE_FALSE(missing);
  CHECK(missing.error().code == ErrorCode::kUnsupported);
  CHECK(missing.error().message ==
        "BTF of test: no enum bpf_prog_type with names that begin with BPF_PROG_TYPE_");
  CHECK(EnumNames::containing(btf, "NOWHERE", "").error().code == ErrorCode::kUnsupported);
}

TEST_CASE("an enumerator is found through modifiers, by its exact value") {
  BtfBuilder builder;
  const TypeId plain =
      builder.enumeration(BtfKind::kEnum, "e", 4, {{"MINUS", 0xffffffff}, {"ZERO", 0}}, true);
  const TypeId named = builder.refer(BtfKind::kTypedef, plain, "e_t");
  const Btf btf = builder.build();
  CHECK(enumerator_name(btf, named, UINT64_MAX) == "MINUS");
  CHECK(enumerator_name(btf, named, 0xffffffff) == "");
  CHECK(enumerator_name(btf, plain, 0) == "ZERO");
  CHECK(enumerator_name(btf, 99, 0) == "");
}

}  // namespace guestscope
