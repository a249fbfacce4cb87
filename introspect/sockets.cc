#include "introspect/sockets.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>

#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

enum Sock : std::size_t {
  kFamily,
  kState,
  kType,
  kProtocol,
  kSource4,
  kDestination4,
  kSource6,
  kDestination6,
  kSourcePort,
  kDestinationPort,
  kDevice,
  kCookie,
  kNet,
  kSocket,
  kInode,
};
constexpr FieldNeed kSockFields[] = {{"__sk_common.skc_family"},
                                     {"__sk_common.skc_state"},
                                     {"sk_type"},
                                     {"sk_protocol"},
                                     {"__sk_common.skc_rcv_saddr"},
                                     {"__sk_common.skc_daddr"},
                                     {"__sk_common.skc_v6_rcv_saddr", kOptional},
                                     {"__sk_common.skc_v6_daddr", kOptional},
                                     {"__sk_common.skc_num"},
                                     {"__sk_common.skc_dport"},
                                     {"__sk_common.skc_bound_dev_if", kOptional},
                                     {"__sk_common.skc_cookie.counter", kOptional},
                                     {"__sk_common.skc_net.net", kOptional},
                                     {"sk_socket", kOptional},
                                     {"sk_ino", kOptional}};
constexpr StructNeed kSock = {"sock", kSockFields};

// Before sk_ino: a socket lies beside its inode.
enum SocketAlloc : std::size_t { kEmbedded, kBack, kNumber };
constexpr FieldNeed kAllocFields[] = {{"socket"}, {"socket.sk"}, {"vfs_inode.i_ino"}};
constexpr StructNeed kAlloc = {"socket_alloc", kAllocFields};

enum Net : std::size_t { kNamespace };
constexpr FieldNeed kNetFields[] = {{"ns.inum"}};
constexpr StructNeed kNetNeed = {"net", kNetFields};

enum Unix : std::size_t { kAddress };
constexpr FieldNeed kUnixFields[] = {{"addr"}};
constexpr StructNeed kUnix = {"unix_sock", kUnixFields};
enum UnixAddress : std::size_t { kLength, kName };
constexpr FieldNeed kUnixAddressFields[] = {{"len"}, {"name"}};
constexpr StructNeed kUnixAddress = {"unix_address", kUnixAddressFields};

// Numbers that user space passes to socket(2) or reads in /proc/net/tcp: they never change.
// include/linux/socket.h, include/linux/net.h, include/uapi/linux/in.h, include/net/tcp_states.h.
struct Name {
  std::uint64_t number;
  const char* name;
};
constexpr std::uint64_t kUnixFamily = 1;
constexpr std::uint64_t kInetFamily = 2;
constexpr std::uint64_t kInet6Family = 10;
constexpr Name kFamilies[] = {{1, "unix"},       {2, "inet"},    {10, "inet6"}, {15, "key"},
                              {16, "netlink"},   {17, "packet"}, {29, "can"},   {30, "tipc"},
                              {31, "bluetooth"}, {38, "alg"},    {40, "vsock"}, {41, "kcm"},
                              {42, "qipcrtr"},   {43, "smc"},    {44, "xdp"},   {45, "mctp"}};
constexpr Name kTypes[] = {{1, "stream"},    {2, "dgram"}, {3, "raw"},    {4, "rdm"},
                           {5, "seqpacket"}, {6, "dccp"},  {10, "packet"}};
constexpr Name kProtocols[] = {{1, "icmp"},    {2, "igmp"},   {6, "tcp"},       {17, "udp"},
                               {33, "dccp"},   {47, "gre"},   {50, "esp"},      {51, "ah"},
                               {58, "icmpv6"}, {132, "sctp"}, {136, "udplite"}, {255, "raw"},
                               {262, "mptcp"}};
constexpr Name kStates[] = {{1, "established"},    {2, "syn_sent"},   {3, "syn_recv"},
                            {4, "fin_wait1"},      {5, "fin_wait2"},  {6, "time_wait"},
                            {7, "close"},          {8, "close_wait"}, {9, "last_ack"},
                            {10, "listen"},        {11, "closing"},   {12, "new_syn_recv"},
                            {13, "bound_inactive"}};
// AF_MAX is 46; a socket of a higher family, or of none, is no socket any more.
constexpr std::uint64_t kFamilyEnd = 128;

std::string name_of(std::span<const Name> names, std::uint64_t number, const char* kind) {
  const auto found = std::ranges::find(names, number, &Name::number);
  return found != names.end() ? found->name : fmt::format("{}_{}", kind, number);
}

std::string address_text(int family, ByteSpan bytes) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (bytes.size() < (family == AF_INET ? 4U : 16U)) return {};
  if (inet_ntop(family, bytes.data(), text.data(), text.size()) == nullptr) return {};
  return text.data();
}

/// What is still to be asked for one socket.
struct Further {
  GuestVirt inode_holder;  // struct socket
  GuestVirt net;
  GuestVirt unix_socket;  // later its address
};

class SocketBatch {
 public:
  SocketBatch(KernelMemory& memory, Layouts& layouts, std::span<const GuestVirt> pointers,
              Problems& problems)
      : memory_(memory),
        layouts_(layouts),
        pointers_(pointers),
        problems_(problems),
        described_(pointers.size()),
        further_(pointers.size()) {}

  std::vector<Result<Facts>> run(const StructLayout& sock) {
    read_structs(memory_, sock, pointers_, [&](std::size_t i, const Result<StructView>& view) {
      if (view)
        describe(i, *view);
      else
        described_[i] = std::unexpected(view.error());
    });
    add_paths();
    add_inodes();
    add_namespaces();
    return std::move(described_);
  }

 private:
  void add(std::size_t i, const char* name, FactValue value) {
    described_[i]->push_back({.name = name, .value = std::move(value)});
  }

  void add_unreadable(std::size_t i, const char* name, const Error& error) {
    add(i, name, {});
    problems_.add(fmt::format("socket at {:#x}.{}", pointers_[i].value(), name), error);
  }

  void describe(std::size_t i, const StructView& view) {
    const std::uint64_t family = view.u64(kFamily);
    if (family == 0 || family >= kFamilyEnd) {
      described_[i] = fail_at(pointers_[i].value(), ErrorCode::kCorrupt,
                              "no socket: an address family {}", family);
      return;
    }
    described_[i].emplace();
    add(i, "family", name_of(kFamilies, family, "family"));
    add(i, "type", name_of(kTypes, view.u64(kType), "type"));
    const bool inet = family == kInetFamily || family == kInet6Family;
    if (const std::uint64_t protocol = view.u64(kProtocol); protocol != 0)
      add(i, "protocol",
          inet ? name_of(kProtocols, protocol, "protocol") : fmt::format("protocol_{}", protocol));
    add(i, "state", name_of(kStates, view.u64(kState), "state"));
    if (inet) add_addresses(i, view, family == kInet6Family);
    if (const std::uint64_t device = view.u64(kDevice); device != 0) add(i, "ifindex", device);
    if (const std::uint64_t cookie = view.u64(kCookie); cookie != 0) add(i, "cookie", cookie);
    if (const std::uint64_t inode = view.u64(kInode); inode != 0) add(i, "inode", inode);
    further_[i] = {.inode_holder = view.has(kInode) ? GuestVirt() : view.pointer(kSocket),
                   .net = view.pointer(kNet),
                   .unix_socket = family == kUnixFamily ? pointers_[i] : GuestVirt()};
  }

  void add_addresses(std::size_t i, const StructView& view, bool six) {
    const auto address = [&](Sock four, Sock sixteen) {
      return six ? address_text(AF_INET6, view.bytes(sixteen))
                 : address_text(AF_INET, view.bytes(four));
    };
    const std::uint64_t port = view.u64(kDestinationPort);  // in network order
    add(i, "source_address", address(kSource4, kSource6));
    add(i, "source_port", view.u64(kSourcePort));
    add(i, "destination_address", address(kDestination4, kDestination6));
    add(i, "destination_port", (port >> 8 & 0xff) | (port & 0xff) << 8);
  }

  /// Reads the structure that `where` of each socket points to, where it does.
  template <typename Use>
  void read_further(const StructNeed& need, GuestVirt Further::* where, std::uint64_t offset,
                    Use use) {
    std::vector<std::size_t> owners;
    std::vector<GuestVirt> addresses;
    for (std::size_t i = 0; i < further_.size(); ++i) {
      if (!described_[i] || (further_[i].*where).is_null()) continue;
      owners.push_back(i);
      addresses.push_back((further_[i].*where).wrapping_add(-offset));
    }
    if (owners.empty()) return;
    const auto layout = layouts_.get(need);
    if (!layout) return;
    read_structs(memory_, **layout, addresses,
                 [&](std::size_t n, const Result<StructView>& view) { use(owners[n], view); });
  }

  void add_inodes() {
    const auto layout = layouts_.get(kAlloc);
    if (!layout) return;
    read_further(kAlloc, &Further::inode_holder, (**layout)[kEmbedded].offset,
                 [&](std::size_t i, const Result<StructView>& view) {
                   if (!view)
                     add_unreadable(i, "inode", view.error());
                   else if (view->pointer(kBack) == pointers_[i])
                     add(i, "inode", view->u64(kNumber));
                 });
  }

  void add_namespaces() {
    read_further(kNetNeed, &Further::net, 0, [&](std::size_t i, const Result<StructView>& view) {
      if (view)
        add(i, "netns", view->u64(kNamespace));
      else
        add_unreadable(i, "netns", view.error());
    });
  }

  void add_paths() {
    read_further(kUnix, &Further::unix_socket, 0,
                 [&](std::size_t i, const Result<StructView>& view) {
                   further_[i].unix_socket = view ? view->pointer(kAddress) : GuestVirt();
                   if (!view) add_unreadable(i, "path", view.error());
                 });
    const auto layout = layouts_.get(kUnixAddress);
    if (!layout) return;
    // struct sockaddr_un; `len` counts what of it is used.
    constexpr std::size_t kFamilyBytes = 2, kPathBytes = 108;
    ReadBatch names;
    std::vector<std::size_t> owners;
    read_further(
        kUnixAddress, &Further::unix_socket, 0, [&](std::size_t i, const Result<StructView>& view) {
          const std::uint64_t length = view ? view->u64(kLength) : 0;
          if (length <= kFamilyBytes || length > kFamilyBytes + kPathBytes) return;
          names.add(further_[i].unix_socket.wrapping_add((**layout)[kName].offset + kFamilyBytes),
                    length - kFamilyBytes);
          owners.push_back(i);
        });
    names.read(memory_);
    for (std::size_t n = 0; n < owners.size(); ++n) add_path(owners[n], names[n]);
  }

  void add_path(std::size_t i, const Result<ByteSpan>& bytes) {
    if (!bytes) return add_unreadable(i, "path", bytes.error());
    std::string path;
    if (bytes->front() == std::byte{0}) {
      path = "@";
      for (const std::byte byte : bytes->subspan(1)) path += static_cast<char>(byte);
    } else {
      path = text_in(*bytes);
    }
    add(i, "path", std::move(path));
  }

  KernelMemory& memory_;
  Layouts& layouts_;
  std::span<const GuestVirt> pointers_;
  Problems& problems_;
  std::vector<Result<Facts>> described_;
  std::vector<Further> further_;
};

}  // namespace

std::vector<Result<Facts>> describe_sockets(KernelMemory& memory, Layouts& layouts,
                                            std::span<const GuestVirt> pointers,
                                            Problems& problems) {
  const auto layout = layouts.get(kSock);
  if (!layout) return {pointers.size(), std::unexpected(layout.error())};
  return SocketBatch(memory, layouts, pointers, problems).run(**layout);
}

}  // namespace guestscope
