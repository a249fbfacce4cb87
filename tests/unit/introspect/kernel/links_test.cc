#include "tests/support/mini_kernel/links.h"

#include <doctest/doctest.h>

#include <cstring>

#include "tests/support/mini_guest.h"

namespace guestscope {
namespace {

namespace raw = mini_links;
using test::MiniGuest;
using test::refresh;

/// "name=value name=[…]": facts for comparison.
std::string text_of(const Facts& facts);
std::string text_of(const FactValue& value) {
  struct ToText {
    std::string operator()(std::monostate) const { return "null"; }
    std::string operator()(bool is) const { return is ? "true" : "false"; }
    std::string operator()(std::uint64_t number) const { return std::to_string(number); }
    std::string operator()(std::int64_t number) const { return std::to_string(number); }
    std::string operator()(double value) const { return std::to_string(value); }
    std::string operator()(const std::string& text) const { return text; }
    std::string operator()(GuestVirt address) const {
      return fmt::format("{:#x}", address.value());
    }
    std::string operator()(const FactList& list) const {
      std::string text = "[";
      for (const FactValue& item : list) text += text_of(item) + ";";
      return text + "]";
    }
    std::string operator()(const Facts& facts) const { return "{" + text_of(facts) + "}"; }
  };
  return std::visit(ToText{}, value.get());
}
std::string text_of(const Facts& facts) {
  std::string text;
  for (const Fact& fact : facts)
    text += (text.empty() ? "" : " ") + fact.name + "=" + text_of(fact.value);
  return text;
}

struct LinkGuest {
  LinkGuest()
      : guest(MiniGuest::booted(test::load_model("links.vmlinux"))), kernel(guest.model, nullptr) {
    refresh(kernel, guest);
  }

  /// A link of a program with that id.
  raw::bpf_link head(std::uint32_t type, std::uint32_t prog_id = 7) {
    mini::bpf_prog_aux aux{};
    aux.id = prog_id;
    aux.refcnt.counter = 1;
    mini::bpf_prog prog{};
    prog.type = 26;
    prog.aux = guest.put(aux);
    raw::bpf_link link{};
    link.refcnt.counter = 1;
    link.type = type;
    link.prog = guest.put(prog);
    return link;
  }
  std::uint64_t put_text(const char* text) {
    const std::uint64_t at = guest.allocate(std::strlen(text) + 1);
    guest.write(at, std::as_bytes(std::span(text, std::strlen(text) + 1)));
    return at;
  }
  void attach(const std::map<std::uint64_t, std::uint64_t>& links) {
    guest.put_idr("link_idr", links);
  }
  LinkList read() {
    auto list = kernel.links(guest.memory);
    if (!list) FAIL(list.error().to_string());
    return *std::move(list);
  }
  std::string facts(std::size_t i = 0) { return text_of(read().links.at(i).facts); }

  MiniGuest guest;
  GuestKernel kernel;
};

TEST_CASE_FIXTURE(LinkGuest, "a tracing link says which type of which object it is attached to") {
  raw::bpf_trampoline trampoline{};
  trampoline.key = (std::uint64_t{1} << 32) | 61'513;
  raw::bpf_tracing_link link{};
  link.link = {.link = head(2), .cookie = 99};
  link.attach_type = 24;
  link.trampoline = guest.put(trampoline);
  attach({{4, guest.put(link)}});
  const LinkList list = read();
  REQUIRE(list.links.size() == 1);
  CHECK(list.problems.empty());
  CHECK(list.links[0].id == 4);
  CHECK(list.links[0].type == "tracing");
  CHECK(list.links[0].prog_id == 7);
  CHECK(facts() ==
        "prog_type=tracing attach_type=trace_fentry cookie=99 target_obj_id=1 "
        "target_btf_id=61513");
}

TEST_CASE_FIXTURE(LinkGuest, "the target of a tracing link has the name that its program holds") {
  mini::btf types{};
  types.id = 1;
  mini::bpf_prog_aux aux{};
  aux.attach_btf = guest.put(types);
  aux.attach_func_name = put_text("do_nanosleep");
  mini::bpf_prog prog{};
  prog.aux = guest.put(aux);
  raw::bpf_tracing_link link{};
  link.link.link = head(2);
  link.link.link.prog = guest.put(prog);
  link.trampoline = guest.put(raw::bpf_trampoline{});
  attach({{1, guest.put(link)}});
  CHECK(facts().ends_with("target_name=do_nanosleep"));
}

TEST_CASE_FIXTURE(LinkGuest, "a link need not come first in what embeds it") {
  raw::net_device device{.name = "eth0", .ifindex = 3};
  raw::bpf_xdp_link link{};
  link.link = head(6);
  link.dev = guest.put(device);
  attach({{1, guest.put(link) + offsetof(raw::bpf_xdp_link, link)}});
  CHECK(facts() == "ifindex=3 devname=eth0");
}

TEST_CASE_FIXTURE(LinkGuest, "a link whose device has gone says index 0") {
  raw::bpf_xdp_link link{};
  link.link = head(6);
  attach({{1, guest.put(link) + offsetof(raw::bpf_xdp_link, link)}});
  CHECK(facts() == "ifindex=0");
  CHECK(read().problems.empty());
}

TEST_CASE_FIXTURE(LinkGuest, "a raw tracepoint has the tracepoint's name") {
  raw::tracepoint tracepoint{.name = put_text("sched_switch")};
  raw::bpf_raw_event_map event{.padding = 0, .tp = guest.put(tracepoint)};
  raw::bpf_raw_tp_link link{.link = head(1), .btp = guest.put(event)};
  attach({{1, guest.put(link)}});
  CHECK(facts() == "tp_name=sched_switch");
}

TEST_CASE_FIXTURE(LinkGuest, "kprobes of one link are listed with what they are in the image") {
  const std::uint64_t place = guest.link("phys_base") + guest.where.slide;
  const std::uint64_t addresses[] = {place, 0xffffffffc0001000};
  const std::uint64_t cookies[] = {5, 6};
  raw::bpf_kprobe_multi_link link{};
  link.link = head(8);
  link.addrs = guest.put(addresses);
  link.cookies = guest.put(cookies);
  link.cnt = 2;
  link.flags = 1;
  attach({{1, guest.put(link)}});
  CHECK(facts() == fmt::format("retprobe=true func_cnt=2 funcs=[{{addr={:#x} func=phys_base "
                               "cookie=5}};{{addr=0xffffffffc0001000 cookie=6}};]",
                               place));
}

struct PerfGuest : LinkGuest {
  void attach_event(const raw::perf_event& event) {
    raw::file file{.padding = 0, .private_data = guest.put(event)};
    raw::bpf_perf_link link{.link = head(7), .perf_file = guest.put(file)};
    attach({{1, guest.put(link)}});
  }
};

TEST_CASE_FIXTURE(PerfGuest, "a perf event of a kprobe is told by the probe that embeds it") {
  raw::trace_kprobe probe{};
  probe.rp.kp = {.nmissed = 2, .addr = 0xffffffff81000040, .offset = 16};
  probe.rp.handler = 0xffffffff81000000;
  probe.rp.nmissed = 3;
  probe.symbol = put_text("do_nanosleep");
  const std::uint64_t list =
      guest.put(probe) + offsetof(raw::trace_kprobe, tp) + offsetof(raw::trace_probe, list);
  raw::trace_probe_event of{};
  of.call.flags = 32;
  of.probes.next = list;
  raw::perf_event event{};
  event.tp_event = guest.put(of) + offsetof(raw::trace_probe_event, call);
  event.bpf_cookie = 8;
  attach_event(event);
  CHECK(facts() ==
        "cookie=8 kind=kretprobe retprobe=true addr=0xffffffff81000040 offset=16 missed=5 "
        "func=do_nanosleep");
}

TEST_CASE_FIXTURE(PerfGuest, "a perf event of a tracepoint has the tracepoint's name") {
  raw::tracepoint tracepoint{.name = put_text("sys_enter")};
  raw::trace_event_call call{.padding = 0, .name = guest.put(tracepoint), .flags = 16};
  raw::perf_event event{};
  event.tp_event = guest.put(call);
  attach_event(event);
  CHECK(facts() == "cookie=0 kind=tracepoint tracepoint=sys_enter");
}

TEST_CASE_FIXTURE(LinkGuest, "uprobes of one link have the file's path through its mounts") {
  const auto entry = [&](const char* name, std::uint64_t parent) {
    raw::dentry made{};
    made.d_parent = parent;
    made.d_name.name = put_text(name);
    return guest.put(made);
  };
  const std::uint64_t root = entry("/", 0);
  guest.write_u64(root + offsetof(raw::dentry, d_parent), root);
  const std::uint64_t mount_point = entry("opt", root);
  const std::uint64_t inner_root = entry("/", 0);
  guest.write_u64(inner_root + offsetof(raw::dentry, d_parent), inner_root);
  const std::uint64_t file = entry("app", entry("bin", inner_root));
  raw::mount outer{};
  outer.mnt.mnt_root = root;
  const std::uint64_t outer_at = guest.put(outer);
  guest.write_u64(outer_at, outer_at);
  raw::mount inner{.mnt_parent = outer_at, .mnt_mountpoint = mount_point, .mnt = {inner_root}};
  const raw::bpf_uprobe probes[] = {{64, 0, 1}, {128, 8, 2}};
  raw::bpf_uprobe_multi_link link{};
  link.path = {.mnt = guest.put(inner) + offsetof(raw::mount, mnt), .dentry = file};
  link.link = head(12);
  link.cnt = 2;
  link.uprobes = guest.put(probes);
  attach({{1, guest.put(link) + offsetof(raw::bpf_uprobe_multi_link, link)}});
  CHECK(facts() ==
        "retprobe=false func_cnt=2 pid=0 path=/opt/bin/app funcs=[{offset=64 ref_ctr_offset=0 "
        "cookie=1};{offset=128 ref_ctr_offset=8 cookie=2};]");
}

TEST_CASE_FIXTURE(LinkGuest, "a path that leads back into itself ends") {
  raw::dentry first{};
  first.d_name.name = put_text("a");
  const std::uint64_t a = guest.put(first);
  first.d_parent = a;
  const std::uint64_t b = guest.put(first);
  guest.write_u64(a + offsetof(raw::dentry, d_parent), b);
  raw::mount mount{};
  raw::bpf_uprobe_multi_link link{};
  link.path = {.mnt = guest.put(mount) + offsetof(raw::mount, mnt), .dentry = a};
  link.link = head(12);
  attach({{1, guest.put(link) + offsetof(raw::bpf_uprobe_multi_link, link)}});
  CHECK(facts().find("path=null") != std::string::npos);
  CHECK(read().problems.list().size() == 1);
}

TEST_CASE_FIXTURE(LinkGuest, "damage in one link leaves the others whole") {
  raw::bpf_kprobe_multi_link absurd{};
  absurd.link = head(8);
  absurd.cnt = 0xffffffff;
  absurd.addrs = 0x1000;
  raw::bpf_tracing_link wild{};
  wild.link.link = head(2);
  wild.trampoline = 0xffffc12300000000;
  raw::bpf_link no_prog = head(1);
  no_prog.prog = 0xffffc12300000000;
  raw::bpf_link dying = head(1);
  dying.refcnt.counter = 0;
  attach({{1, guest.put(absurd)},
          {2, guest.put(wild)},
          {3, guest.put(raw::bpf_raw_tp_link{.link = no_prog, .btp = 0})},
          {4, guest.put(dying)},
          {5, 0xffffc12300000000},
          {6, guest.put(head(200))},
          {7, guest.put(head(3))}});
  const LinkList list = read();
  REQUIRE(list.links.size() == 5);
  CHECK(text_of(list.links[0].facts) == "retprobe=false func_cnt=4294967295 funcs=null");
  CHECK(text_of(list.links[1].facts).find("target_btf_id=null") != std::string::npos);
  CHECK(list.links[2].prog_id == 0);
  CHECK(list.links[3].type == "type_200");
  CHECK(list.links[4].type == "cgroup");  // which this kernel's types do not describe
  CHECK(list.problems.list().size() == 6);
}

TEST_CASE_FIXTURE(LinkGuest, "many links cost as many exchanges as one") {
  const auto cost = [&](std::uint64_t links) {
    std::map<std::uint64_t, std::uint64_t> entries;
    for (std::uint64_t id = 1; id <= links; ++id) {
      raw::tracepoint tracepoint{.name = put_text("sched_switch")};
      raw::bpf_raw_event_map event{.padding = 0, .tp = guest.put(tracepoint)};
      entries[id] = guest.put(raw::bpf_raw_tp_link{.link = head(1), .btp = guest.put(event)});
    }
    attach(entries);
    const std::size_t before = guest.memory.exchanges;
    CHECK(read().links.size() == links);
    return guest.memory.exchanges - before;
  };
  CHECK(cost(1) == cost(50));
}

TEST_CASE("a kernel without a list of links says so") {
  MiniGuest guest = MiniGuest::booted(test::load_model());
  GuestKernel kernel(guest.model, nullptr);
  refresh(kernel, guest);
  const auto links = kernel.links(guest.memory);
  REQUIRE_FALSE(links);
  CHECK(links.error().code == ErrorCode::kUnsupported);
  CHECK(links.error().message.find("link_idr") != std::string::npos);
  CHECK_FALSE(kernel.btf_objects(guest.memory));
}

TEST_CASE_FIXTURE(LinkGuest, "a BTF object names who uses it and what it continues") {
  const std::array<std::byte, 40> data{std::byte{0x9f}, std::byte{0xeb}};
  mini::btf base{};
  base.id = 1;
  base.kernel_btf = 1;
  std::strcpy(base.name, "vmlinux");
  const std::uint64_t base_at = guest.put(base);
  mini::btf own{};
  own.id = 9;
  own.base_btf = base_at;
  own.data = guest.put(data);
  own.data_size = data.size();
  const std::uint64_t own_at = guest.put(own);
  mini::bpf_prog_aux aux{};
  aux.btf = own_at;
  mini::bpf_prog prog{};
  prog.aux = guest.put(aux);
  mini::bpf_map map{};
  map.btf = own_at;
  guest.put_idr("prog_idr", {{3, guest.put(prog)}});
  guest.put_idr("map_idr", {{4, guest.put(map)}, {5, guest.put(map)}});
  guest.put_idr("btf_idr", {{1, base_at}, {9, own_at}});
  const auto list = kernel.btf_objects(guest.memory);
  REQUIRE(list);
  REQUIRE(list->objects.size() == 2);
  CHECK(list->problems.empty());
  CHECK(list->objects[0].name == "vmlinux");
  CHECK(list->objects[0].kernel);
  const BtfInfo& mine = list->objects[1];
  CHECK(mine.id == 9);
  CHECK(mine.size == 40);
  CHECK(mine.base_id == 1);
  CHECK(mine.prog_ids == std::vector<std::uint64_t>{3});
  CHECK(mine.map_ids == std::vector<std::uint64_t>{4, 5});
  const auto bytes = kernel.btf_bytes(guest.memory, mine);
  REQUIRE(bytes);
  CHECK(std::ranges::equal(*bytes, data));
  BtfInfo absurd = mine;
  absurd.size = std::uint64_t{1} << 40;
  CHECK_FALSE(kernel.btf_bytes(guest.memory, absurd));
}

}  // namespace
}  // namespace guestscope
