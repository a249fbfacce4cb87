// Maps of sockets, and what is told of a socket.
#include "tests/unit/introspect/kernel/refs_guest.h"

namespace guestscope {
namespace {

using test::Numbers;
using test::RefsGuest;
using test::text_of;

struct Sockets : RefsGuest {
  std::uint64_t sockmap(const std::vector<std::uint64_t>& sockets, std::uint32_t value_size = 8) {
    mini::bpf_stab table{};
    table.map = header(15, 4, value_size, static_cast<std::uint32_t>(sockets.size()));
    table.sks = put_table(sockets);
    return guest.put(table);
  }
  /// The facts of one socket.
  std::string told(std::uint64_t sock) {
    const MapContents contents = read(sockmap({sock}));
    REQUIRE(contents.size() == 1);
    problems = contents.problems.list();
    return text_of(contents.facts_of(0));
  }
  std::string told(const mini::sock& sock) { return told(guest.put(sock)); }

  std::vector<Problem> problems;
};

TEST_CASE_FIXTURE(Sockets, "a socket has its addresses, its state, its names elsewhere") {
  mini::sock sock = udp_socket(77);
  sock.__sk_common.skc_state = 1;
  sock.__sk_common.skc_daddr = 0x0200000a;
  sock.__sk_common.skc_dport = 0x901f;  // 8080, in network order
  sock.__sk_common.skc_bound_dev_if = 4;
  mini::net net{};
  net.ns.inum = 4026531840;
  sock.__sk_common.skc_net.net = guest.put(net);
  sock.sk_type = 1;
  sock.sk_protocol = 6;
  const std::uint64_t at = guest.put(sock);
  mini::socket_alloc file{};
  file.socket.sk = at;
  file.vfs_inode.i_ino = 5005;
  const std::uint64_t socket = guest.put(file) + offsetof(mini::socket_alloc, socket);
  guest.write_u64(at + offsetof(mini::sock, sk_socket), socket);
  CHECK(told(at) ==
        "{family=inet type=stream protocol=tcp state=established source_address=127.0.0.1 "
        "source_port=5005 destination_address=10.0.0.2 destination_port=8080 ifindex=4 cookie=77 "
        "inode=5005 netns=4026531840}");
  CHECK(problems.empty());
  // A struct socket that is another's by now says nothing.
  guest.write_u64(socket + offsetof(mini::socket, sk), at + 64);
  CHECK(told(at).find("inode") == std::string::npos);
}

TEST_CASE_FIXTURE(Sockets, "addresses of IPv6 are written as RFC 5952 says") {
  mini::sock sock = udp_socket(0);
  sock.__sk_common.skc_family = 10;
  sock.__sk_common.skc_v6_rcv_saddr.bytes[15] = 1;
  sock.__sk_common.skc_v6_daddr.bytes[0] = 0xfe;
  sock.__sk_common.skc_v6_daddr.bytes[1] = 0x80;
  CHECK(told(sock) ==
        "{family=inet6 type=dgram protocol=udp state=close source_address=::1 source_port=5005 "
        "destination_address=fe80:: destination_port=0}");
}

TEST_CASE_FIXTURE(Sockets, "unix sockets have a path, or an abstract name") {
  const auto with_name = [&](std::string_view name, std::int32_t length) {
    mini::unix_sock sock{};
    sock.sk = udp_socket(0);
    sock.sk.__sk_common.skc_family = 1;
    sock.sk.sk_protocol = 0;
    mini::unix_address address{};
    address.len = length;
    const std::uint64_t at = guest.allocate(sizeof address + 128);
    guest.write_object(at, address);
    guest.write(at + offsetof(mini::unix_address, name_start) + 2, std::as_bytes(std::span(name)));
    sock.addr = at;
    return told(guest.put(sock));
  };
  const std::string plain = "{family=unix type=dgram state=close";
  CHECK(with_name("/run/log\0xyz", 2 + 9) == plain + " path=/run/log}");
  CHECK(with_name(std::string_view("\0name", 5), 2 + 5) == plain + " path=@name}");
  for (const std::int32_t absurd : {0, 2, 200, -1}) CHECK(with_name("/x", absurd) == plain + "}");
}

TEST_CASE_FIXTURE(Sockets, "unknown numbers keep their numbers") {
  mini::sock sock = udp_socket(0);
  sock.__sk_common.skc_family = 77;
  sock.__sk_common.skc_state = 200;
  sock.sk_type = 9;
  sock.sk_protocol = 3;
  CHECK(told(sock) == "{family=family_77 type=type_9 protocol=protocol_3 state=state_200}");
}

TEST_CASE_FIXTURE(Sockets, "what a socket leads to may be unreadable; the rest is told") {
  mini::sock sock = udp_socket(5);
  sock.sk_socket = kWild;
  sock.__sk_common.skc_net.net = kWild;
  const std::string text = told(sock);
  CHECK(text.find("cookie=5 inode=null netns=null}") != std::string::npos);
  CHECK(problems.size() == 2);
}

TEST_CASE_FIXTURE(Sockets, "memory that is a socket's no more is a problem, and the slot stays") {
  const mini::sock freed{};
  const MapContents contents =
      read(sockmap({guest.put(freed), kWild, 0, guest.put(udp_socket(5))}));
  CHECK(numbers(contents) == Numbers{0, 1, 3});
  CHECK(contents.facts_of(0).empty());
  CHECK_FALSE(contents.value(0));
  CHECK(value_of(contents, 2) == 5);
  REQUIRE(contents.problems.list().size() == 2);
  CHECK(contents.problems.list()[0].at == "entries with key 0");
}

TEST_CASE_FIXTURE(Sockets, "values are cookies; values of 4 bytes cannot be looked up") {
  const std::uint64_t with = guest.put(udp_socket(5)), without = guest.put(udp_socket(0));
  const MapContents eight = read(sockmap({with, without}));
  CHECK(value_of(eight, 0) == 5);
  CHECK_FALSE(eight.value(1));  // the kernel makes a cookie when it is asked for one
  CHECK(eight.lookup_error == 0);
  CHECK(eight.problems.empty());
  const MapContents four = read(sockmap({with}, 4));
  CHECK_FALSE(four.value(0));
  CHECK(four.lookup_error == 28);
  CHECK(four.facts_of(0).size() > 5);
}

TEST_CASE_FIXTURE(Sockets, "exchanges do not grow with the number of sockets") {
  read(sockmap(std::vector<std::uint64_t>(2, guest.put(udp_socket(1)))));
  const std::size_t few = exchanges;
  CHECK(read(sockmap(std::vector<std::uint64_t>(500, guest.put(udp_socket(1))))).size() == 500);
  CHECK(exchanges == few);
}

TEST_CASE_FIXTURE(Sockets, "a hash of sockets has its keys, bucket by bucket") {
  const auto element = [&](std::uint64_t key, std::uint64_t sock, std::uint64_t next) {
    mini::bpf_shtab_elem entry{};
    entry.sk = sock;
    entry.node.next = next;
    entry.key_start = key;
    return guest.put(entry) + offsetof(mini::bpf_shtab_elem, node);
  };
  const std::uint64_t sock = guest.put(udp_socket(5));
  const std::uint64_t chain = element(0x605040302011, sock, element(0x605040302012, sock, 0));
  mini::bpf_shtab_bucket buckets[2]{};
  buckets[0].head.first = chain;
  buckets[1].head.first = element(0x605040302013, kWild, 0);
  mini::bpf_shtab table{};
  table.map = header(18, 6, 8, 8);
  table.buckets = put_bytes(std::as_bytes(std::span(buckets)));
  table.buckets_num = 2;
  const std::uint64_t map = guest.put(table);
  const MapContents contents = read(map);
  REQUIRE(contents.size() == 3);
  CHECK(load_le(contents.key(0).data(), 6) == 0x605040302011);
  CHECK(load_le(contents.key(1).data(), 6) == 0x605040302012);
  CHECK(load_le(contents.key(2).data(), 6) == 0x605040302013);
  CHECK(value_of(contents, 1) == 5);
  CHECK(contents.facts_of(2).empty());
  CHECK(contents.problems.list().size() == 1);
  CHECK(find(map, bytes_of(0x605040302012, 6)).size() == 1);
  CHECK(find(map, bytes_of(0x605040302014, 6)).size() == 0);
}

TEST_CASE_FIXTURE(Sockets, "sockets that share a port are in a table that follows the map") {
  mini::reuseport_array map{};
  map.map = header(20, 4, 8, 3);
  const MapContents contents =
      read(put_map_with(map, offsetof(mini::reuseport_array, ptrs_start),
                        {0, guest.put(udp_socket(5)), guest.put(udp_socket(6))}));
  CHECK(numbers(contents) == Numbers{1, 2});
  CHECK(value_of(contents, 1) == 6);
}

}  // namespace
}  // namespace guestscope
