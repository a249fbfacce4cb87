// RefsGuest: a booted guest with one map, whose entries refer to other things of the kernel; and
// facts as one line of text.
#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <string>

#include "tests/support/mini_guest.h"

namespace guestscope::test {

struct FactText {
  std::string operator()(std::monostate) const { return "null"; }
  std::string operator()(bool value) const { return value ? "true" : "false"; }
  std::string operator()(std::uint64_t value) const { return std::to_string(value); }
  std::string operator()(std::int64_t value) const { return std::to_string(value); }
  std::string operator()(double value) const { return std::to_string(value); }
  std::string operator()(const std::string& value) const { return value; }
  std::string operator()(GuestVirt value) const { return fmt::format("{:#x}", value.value()); }
  std::string operator()(const FactList& list) const {
    std::string text;
    for (const FactValue& value : list) text += std::visit(*this, value.get()) + ",";
    return "[" + text + "]";
  }
  std::string operator()(const Facts& facts) const {
    std::string text;
    for (const Fact& fact : facts) {
      if (!text.empty()) text += ' ';
      text += fact.name + "=" + std::visit(*this, fact.value.get());
    }
    return "{" + text + "}";
  }
};
/// "{pid=7 comm=busy}"
inline std::string text_of(const Facts& facts) { return FactText{}(facts); }

class RefsGuest {
 public:
  static constexpr std::uint64_t kWild = 0xffffc12300000000;  // mapped nowhere

  RefsGuest() : guest(MiniGuest::booted(load_model())), kernel(guest.model, nullptr) {
    refresh(kernel, guest);
  }

  static mini::bpf_map header(std::uint32_t type, std::uint32_t key_size, std::uint32_t value_size,
                              std::uint32_t entries) {
    mini::bpf_map map{};
    map.map_type = type;
    map.key_size = key_size;
    map.value_size = value_size;
    map.max_entries = entries;
    map.refcnt.counter = 1;
    return map;
  }

  std::uint64_t put_bytes(ByteSpan bytes) {
    const std::uint64_t at = guest.allocate(bytes.size());
    guest.write(at, bytes);
    return at;
  }
  std::uint64_t put_text(std::string_view text) {
    const std::string terminated = std::string(text) + '\0';
    return put_bytes(std::as_bytes(std::span(terminated)));
  }
  /// Pointers side by side.
  std::uint64_t put_table(const std::vector<std::uint64_t>& slots) {
    const std::uint64_t at = guest.allocate(slots.size() * 8);
    for (std::size_t i = 0; i < slots.size(); ++i) guest.write_u64(at + i * 8, slots[i]);
    return at;
  }
  /// A map whose slots follow it, at `offset`.
  template <typename Map>
  std::uint64_t put_map_with(const Map& map, std::size_t offset,
                             const std::vector<std::uint64_t>& slots) {
    const std::uint64_t at = guest.allocate(sizeof(Map) + slots.size() * 8);
    guest.write_object(at, map);
    for (std::size_t i = 0; i < slots.size(); ++i) guest.write_u64(at + offset + i * 8, slots[i]);
    return at;
  }

  std::uint64_t put_prog(std::uint32_t id, std::string_view name) {
    mini::bpf_prog_aux aux{};
    aux.id = id;
    name.copy(aux.name, sizeof aux.name);
    mini::bpf_prog prog{};
    prog.aux = guest.put(aux);
    return guest.put(prog);
  }
  std::uint64_t put_map_object(std::uint32_t id, std::string_view name) {
    mini::bpf_map map = header(1, 4, 4, 1);
    map.id = id;
    name.copy(map.name, sizeof map.name);
    return guest.put(map);
  }
  std::uint64_t put_task(std::int32_t pid, std::int32_t tgid, std::string_view comm) {
    mini::task_struct task{};
    task.pid = pid;
    task.tgid = tgid;
    comm.copy(task.comm, sizeof task.comm);
    return guest.put(task);
  }
  std::uint64_t put_node(std::uint64_t parent, std::string_view name, std::uint64_t id) {
    mini::kernfs_node node{};
    node.parent = parent;
    node.name = put_text(name);
    node.id = id;
    return guest.put(node);
  }
  std::uint64_t put_cgroup(std::uint64_t node) {
    mini::cgroup cgroup{};
    cgroup.kn = node;
    const std::uint64_t at = guest.put(cgroup);
    const std::uint64_t ring = at + offsetof(mini::cgroup, bpf.storages);
    guest.write_object(ring, mini::list_head{.next = ring, .prev = ring});
    return at;
  }
  std::uint64_t put_device(std::uint32_t ifindex, std::string_view name) {
    mini::net_device device{};
    device.ifindex = ifindex;
    name.copy(device.name, sizeof device.name);
    return guest.put(device);
  }
  static mini::sock udp_socket(std::uint64_t cookie) {
    mini::sock sock{};
    sock.__sk_common.skc_family = 2;
    sock.__sk_common.skc_state = 7;
    sock.__sk_common.skc_rcv_saddr = 0x0100007f;
    sock.__sk_common.skc_num = 5005;
    sock.__sk_common.skc_cookie.counter = cookie;
    sock.sk_type = 2;
    sock.sk_protocol = 17;
    return sock;
  }

  /// The contents of the map at `map`, the only one there is.
  Result<MapContents> try_read(std::uint64_t map, const MapPart& part = {}) {
    guest.put_idr("map_idr", {{1, map}});
    const auto maps = kernel.maps(guest.memory);
    REQUIRE(maps.has_value());
    REQUIRE(maps->maps.size() == 1);
    exchanges = guest.memory.exchanges;
    auto contents = kernel.map_contents(guest.memory, maps->maps[0], part, budget);
    exchanges = guest.memory.exchanges - exchanges;
    return contents;
  }
  MapContents read(std::uint64_t map, const MapPart& part = {}) {
    auto contents = try_read(map, part);
    if (!contents) FAIL(contents.error().to_string());
    return *std::move(contents);
  }
  MapContents find(std::uint64_t map, const Bytes& key) {
    guest.put_idr("map_idr", {{1, map}});
    const auto maps = kernel.maps(guest.memory);
    REQUIRE(maps.has_value());
    auto contents = kernel.map_entry(guest.memory, maps->maps.at(0),
                                     [&](const MapContents&) -> Result<Bytes> { return key; });
    if (!contents) FAIL(contents.error().to_string());
    return *std::move(contents);
  }
  static Bytes bytes_of(std::uint64_t number, std::size_t size) {
    Bytes bytes(size);
    for (std::size_t i = 0; i < size; ++i)
      bytes[i] = static_cast<std::byte>(i < 8 ? number >> (8 * i) : 0);
    return bytes;
  }
  static std::uint64_t value_of(const MapContents& contents, std::size_t record) {
    const auto value = contents.value(record);
    REQUIRE(value.has_value());
    return load_le(value->data(), std::min<std::size_t>(8, value->size()));
  }
  static std::vector<std::uint64_t> numbers(const MapContents& contents) {
    std::vector<std::uint64_t> keys;
    for (std::size_t i = 0; i < contents.size(); ++i) keys.push_back(contents.key_number(i));
    return keys;
  }

  MiniGuest guest;
  GuestKernel kernel;
  std::size_t exchanges = 0;
  std::size_t budget = kMaxContentBytes;
};

using Numbers = std::vector<std::uint64_t>;

}  // namespace guestscope::test
