#include "introspect/topology.h"

#include <doctest/doctest.h>

#include "introspect/cpu_masks.h"
#include "tests/support/mini_guest.h"

namespace guestscope {
namespace {

using test::MiniGuest;
using test::refresh;

struct TopologyGuest {
  TopologyGuest() : guest(MiniGuest::booted(test::load_model())), kernel(guest.model, nullptr) {
    guest.poke("__cpu_present_mask", 0b11);
    guest.poke("housekeeping", 0, offsetof(mini::housekeeping, flags));
    refresh(kernel, guest);
  }

  void set_queue(unsigned cpu, std::uint64_t domain, std::uint64_t root = 0) {
    mini::rq queue{};
    queue.cpu = cpu;
    queue.sd = domain;
    queue.rd = root;
    guest.write_object(guest.area_offset(cpu) + guest.link("runqueues"), queue);
  }
  std::uint64_t text(std::string_view words) {
    std::array<char, 64> bytes{};
    words.copy(bytes.data(), bytes.size() - 1);
    return guest.put(bytes);
  }
  std::uint64_t domain(std::uint64_t parent, std::uint64_t groups, std::uint64_t span) {
    mini::mini_sched_domain made{};
    made.domain.parent = parent;
    made.domain.groups = groups;
    made.domain.name = text("MC");
    made.domain.flags = 0b10 | 512 | 1U << 30;
    made.domain.min_interval = 2;
    made.domain.lb_count[1] = 7;
    made.domain.alb_count = 9;
    made.span = span;
    return guest.put(made);
  }
  /// A ring of groups of one CPU each.
  std::vector<std::uint64_t> ring(unsigned cpus) {
    std::vector<std::uint64_t> at;
    for (unsigned i = 0; i < cpus; ++i) at.push_back(guest.allocate(sizeof(mini::sched_group)));
    for (unsigned i = 0; i < cpus; ++i) {
      mini::sched_group group{};
      group.next = at[(i + 1) % cpus];
      group.group_weight = 1;
      group.sgc = guest.put(mini::sched_group_capacity{.ref = 1, .capacity = 1000 + i});
      group.span_start = std::uint64_t{1} << i;
      guest.write_object(at[i], group);
    }
    return at;
  }
  FactReport read() {
    auto report = kernel.topology(guest.memory);
    if (!report) FAIL(report.error().to_string());
    return *std::move(report);
  }

  MiniGuest guest;
  GuestKernel kernel;
};

const Facts& object(const FactValue& value) { return std::get<Facts>(value.get()); }
const FactList& list(const FactValue* value) {
  REQUIRE(value != nullptr);
  return std::get<FactList>(value->get());
}
std::string text_of(const Facts& facts, std::string_view path) {
  const FactValue* value = find_fact(facts, path);
  REQUIRE(value != nullptr);
  return std::get<std::string>(value->get());
}
std::uint64_t number_of(const Facts& facts, std::string_view path) {
  const FactValue* value = find_fact(facts, path);
  REQUIRE(value != nullptr);
  return std::get<std::uint64_t>(value->get());
}
const Facts& domain_of(const FactReport& report, std::size_t cpu, std::size_t level) {
  const Facts& one = object(list(find_fact(report.facts, "domains")).at(cpu));
  return object(list(find_fact(one, "domains")).at(level));
}

TEST_CASE_FIXTURE(TopologyGuest, "a CPU's domains are told from the lowest up, with their groups") {
  const auto groups = ring(2);
  const std::uint64_t top = domain(0, groups[0], 0b11);
  set_queue(0, domain(top, groups[0], 0b01));
  set_queue(1, 0);
  const FactReport report = read();
  CHECK(report.problems.empty());
  CHECK(text_of(domain_of(report, 0, 0), "span") == "0");
  CHECK(text_of(domain_of(report, 0, 1), "span") == "0-1");
  CHECK(text_of(domain_of(report, 0, 0), "name") == "MC");
  CHECK(number_of(domain_of(report, 0, 0), "min_interval_ms") == 2);
  const FactList& flags = list(find_fact(domain_of(report, 0, 0), "flag_names"));
  REQUIRE(flags.size() == 3);
  CHECK(std::get<std::string>(flags[0].get()) == "balance_exec");
  CHECK(std::get<std::string>(flags[1].get()) == "share_llc");
  CHECK(std::get<std::string>(flags[2].get()) == "bit_30");
  CHECK(number_of(domain_of(report, 0, 0), "balance.idle.lb_count") == 7);
  CHECK(number_of(domain_of(report, 0, 0), "balance.not_idle.lb_count") == 0);
  CHECK(number_of(domain_of(report, 0, 0), "balance.alb_count") == 9);
  const FactList& ring_of = list(find_fact(domain_of(report, 0, 1), "groups"));
  REQUIRE(ring_of.size() == 2);
  CHECK(text_of(object(ring_of[1]), "span") == "1");
  CHECK(number_of(object(ring_of[1]), "capacity") == 1001);
  CHECK(list(find_fact(object(list(find_fact(report.facts, "domains"))[1]), "domains")).empty());
}

TEST_CASE_FIXTURE(TopologyGuest, "sets of CPUs and root domains, with CPUs that are isolated") {
  const std::uint64_t mask = guest.put(std::uint64_t{0b01});
  const std::uint64_t root = guest.put(mini::root_domain{
      .refcount = 1, .span = guest.put(std::uint64_t{0b11}), .online = mask, .overload = 1});
  set_queue(0, 0, root);
  set_queue(1, 0, root);
  CHECK(text_of(read().facts, "cpus.isolated").empty());
  guest.poke("housekeeping", mask, std::uint64_t{1} * 8);
  guest.poke("housekeeping", 0b10, offsetof(mini::housekeeping, flags));
  const FactReport report = read();
  CHECK(report.problems.empty());
  CHECK(text_of(report.facts, "cpus.possible") == "0-1");
  CHECK(text_of(report.facts, "cpus.online") == "0-1");
  CHECK(text_of(report.facts, "cpus.isolated") == "1");
  CHECK(text_of(report.facts, "cpus.nohz_full").empty());
  CHECK(find_fact(report.facts, "cpus.active") == nullptr);
  const FactList& roots = list(find_fact(report.facts, "root_domains"));
  REQUIRE(roots.size() == 1);
  CHECK(text_of(object(roots[0]), "span") == "0-1");
  CHECK(text_of(object(roots[0]), "online") == "0");
  CHECK(std::get<bool>(find_fact(object(roots[0]), "overloaded")->get()));
}

TEST_CASE_FIXTURE(TopologyGuest, "domains that lead back into themselves are reported once") {
  const auto groups = ring(1);
  const std::uint64_t low = domain(0, groups[0], 1);
  const std::uint64_t high = domain(low, groups[0], 1);
  guest.write_u64(low + offsetof(mini::sched_domain, parent), high);
  set_queue(0, low);
  set_queue(1, 0);
  const FactReport report = read();
  REQUIRE(report.problems.list().size() == 1);
  CHECK(report.problems.list()[0].at == "domains[0].domains[2]");
  CHECK(report.problems.list()[0].error.message == "its domain leads back into one below it");
  CHECK(list(find_fact(object(list(find_fact(report.facts, "domains"))[0]), "domains")).size() ==
        2);
}

TEST_CASE_FIXTURE(TopologyGuest, "domains above each other without end are cut off") {
  const auto groups = ring(1);
  std::uint64_t at = 0;
  for (std::size_t i = 0; i < kMaxDomainDepth + 5; ++i) at = domain(at, groups[0], 1);
  set_queue(0, at);
  set_queue(1, 0);
  const FactReport report = read();
  REQUIRE(report.problems.list().size() == 1);
  CHECK(report.problems.list()[0].error.code == ErrorCode::kCorrupt);
  CHECK(list(find_fact(object(list(find_fact(report.facts, "domains"))[0]), "domains")).size() ==
        kMaxDomainDepth);
}

TEST_CASE_FIXTURE(TopologyGuest, "rings that are damaged cost their domain's groups only") {
  const auto groups = ring(3);
  set_queue(0, domain(0, groups[0], 0b111));
  const auto other = ring(2);
  set_queue(1, domain(0, other[0], 0b10));
  SUBCASE("a ring that misses its first group") { guest.write_u64(groups[2], groups[1]); }
  SUBCASE("a ring that leads out of memory") { guest.write_u64(groups[2], 0xffffc12300000000); }
  const FactReport report = read();
  REQUIRE(report.problems.list().size() == 1);
  CHECK(report.problems.list()[0].at == "domains[0].domains[0].groups");
  CHECK(
      std::holds_alternative<std::monostate>(find_fact(domain_of(report, 0, 0), "groups")->get()));
  CHECK(list(find_fact(domain_of(report, 1, 0), "groups")).size() == 2);
}

TEST_CASE_FIXTURE(TopologyGuest,
                  "a domain, a name or a root domain that is not there is a problem") {
  const auto groups = ring(1);
  const std::uint64_t named = domain(0, groups[0], 1);
  guest.write_u64(named + offsetof(mini::sched_domain, name), 0xffffc12300000000);
  set_queue(0, named, 0xffffc12300001000);
  set_queue(1, 0xffffc12300002000);
  const FactReport report = read();
  REQUIRE(report.problems.list().size() == 3);
  CHECK(report.problems.list()[0].at == "domains[1].domains[0]");
  CHECK(report.problems.list()[1].at == "root_domains[0]");
  CHECK(report.problems.list()[2].at == "domains[0].domains[0].name");
}

TEST_CASE_FIXTURE(TopologyGuest, "levels are read side by side: two CPUs cost what one does") {
  const auto groups = ring(2);
  std::vector<std::size_t> exchanges;
  for (const bool both : {false, true}) {
    for (unsigned cpu : {0U, 1U})
      set_queue(cpu, cpu == 0 || both ? domain(domain(0, groups[0], 3), groups[cpu], 1) : 0);
    const std::size_t before = guest.memory.exchanges;
    CHECK(read().problems.empty());
    exchanges.push_back(guest.memory.exchanges - before);
  }
  // The queues, two levels, names and first groups; then the ring's other group, and capacities.
  CHECK(exchanges[0] == 6);
  CHECK(exchanges[1] == 5);
}

TEST_CASE("sets of CPUs are written as the kernel writes them") {
  CHECK(cpu_list({}).empty());
  CHECK(cpu_list({3}) == "3");
  CHECK(cpu_list({0, 1, 2, 5, 7, 8}) == "0-2,5,7-8");
}

}  // namespace
}  // namespace guestscope
