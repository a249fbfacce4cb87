// Longest-prefix tries: binary trees of prefixes, a child's always longer than its parent's. Where
// two prefixes part, a node without a value holds them together; it is in no list.
//
// The tree is read level by level, one exchange for each, and listed as the kernel lists it: what
// is below a prefix before the prefix itself, zeros before ones. Source of truth:
// kernel/bpf/lpm_trie.c.
#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <bit>
#include <unordered_set>

#include "introspect/contents_builder.h"
#include "introspect/limits.h"
#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

enum Trie : std::size_t { kRoot, kDataSize, kMaxPrefixlen };
constexpr FieldNeed kTrieFields[] = {{"root"}, {"data_size"}, {"max_prefixlen"}};
constexpr StructNeed kTrie = {"lpm_trie", kTrieFields};

enum Node : std::size_t { kChildren, kPrefixlen, kFlags, kData };
constexpr FieldNeed kNodeFields[] = {{"child"}, {"prefixlen"}, {"flags"}, {"data"}};
constexpr StructNeed kNode = {"lpm_trie_node", kNodeFields};

constexpr std::uint64_t kIntermediate = 1;  // LPM_TREE_NODE_FLAG_IM
constexpr std::size_t kPrefixlenBytes = 4;  // of struct bpf_lpm_trie_key, before its data
constexpr std::size_t kMaxDataBytes = 256;  // LPM_DATA_SIZE_MAX
/// About what a node is remembered by, and a prefix as text.
constexpr std::size_t kNodeOverhead = 48;
constexpr std::size_t kFactOverhead = 160;

/// "10.1.2.0/24" for data of 4 bytes, likewise for 16; else nothing.
std::optional<std::string> prefix_text(ByteSpan data, std::uint64_t prefixlen) {
  if (data.size() != 4 && data.size() != 16) return std::nullopt;
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (inet_ntop(data.size() == 4 ? AF_INET : AF_INET6, data.data(), text.data(), text.size()) ==
      nullptr)
    return std::nullopt;
  return fmt::format("{}/{}", text.data(), prefixlen);
}

bool bit_at(ByteSpan data, std::uint64_t index) {
  return (std::to_integer<unsigned>(data[index / 8]) >> (7 - index % 8) & 1U) != 0;
}

/// How many leading bits are equal, `limit` at most.
std::uint64_t common_bits(ByteSpan a, ByteSpan b, std::uint64_t limit) {
  std::uint64_t bits = 0;
  for (std::size_t i = 0; i < a.size() && bits < limit; ++i, bits += 8)
    if (const auto differ = std::to_integer<std::uint8_t>(a[i] ^ b[i]); differ != 0)
      return std::min<std::uint64_t>(limit, bits + static_cast<unsigned>(std::countl_zero(differ)));
  return std::min(limit, bits);
}

/// A node's bytes, up to its data or up to the end of its value.
struct NodeView {
  std::uint64_t child(bool one) const {
    return load_le(bytes.data() + (*layout)[kChildren].offset + (one ? 8 : 0), 8);
  }
  std::uint64_t prefixlen() const { return number(kPrefixlen); }
  bool has_value() const { return (number(kFlags) & kIntermediate) == 0; }
  std::uint64_t number(Node field) const {
    return load_le(bytes.data() + (*layout)[field].offset, (*layout)[field].size);
  }
  ByteSpan data(std::size_t size) const { return bytes.subspan((*layout)[kData].offset, size); }
  ByteSpan value(std::size_t data_size, std::size_t size) const {
    return bytes.subspan((*layout)[kData].offset + data_size, size);
  }

  const StructLayout* layout;
  ByteSpan bytes;
};

class TrieReader {
 public:
  TrieReader(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder)
      : context_(context), map_(map), builder_(builder) {}

  Result<void> open() {
    GS_ASSIGN(const StructLayout* trie, context_.layouts.get(kTrie));
    GS_ASSIGN(layout_, context_.layouts.get(kNode));
    StructBatch batch(*trie);
    batch.add(map_.address);
    batch.read(context_.memory);
    GS_ASSIGN(const StructView view, batch[0]);
    root_ = view.u64(kRoot);
    data_size_ = view.u64(kDataSize);
    max_prefixlen_ = view.u64(kMaxPrefixlen);
    if (data_size_ == 0 || data_size_ > kMaxDataBytes || map_.value_size == 0 ||
        map_.key_size != data_size_ + kPrefixlenBytes || max_prefixlen_ > data_size_ * 8 ||
        (*layout_)[kChildren].size != 16)
      return fail_at(map_.address.value(), ErrorCode::kCorrupt,
                     "a trie of prefixes of {} bits in {} bytes, with keys of {}", max_prefixlen_,
                     data_size_, map_.key_size);
    node_bytes_ = (*layout_)[kData].offset + data_size_ + map_.value_size;
    builder_.set_strides(round_up_8(map_.key_size), round_up_8(map_.value_size));
    return {};
  }

  Result<void> list() {
    GS_CHECK(open());
    std::vector<Link> level;
    if (root_ != 0) level.push_back({.address = root_, .parent = kNobody});
    while (!level.empty() && !full_) level = read_level(level);
    builder_.set_order(listing_order());
    return {};
  }

  Result<void> find(ByteSpan key) {
    GS_CHECK(open());
    if (key.size() != map_.key_size) return {};
    const std::uint64_t wanted = load_le(key.data(), kPrefixlenBytes);
    const ByteSpan data = key.subspan(kPrefixlenBytes);
    if (wanted > max_prefixlen_) return {};
    Bytes best;
    std::uint64_t at = root_;
    for (std::optional<std::uint64_t> above; at != 0;) {
      GS_ASSIGN(Bytes bytes, read_node(GuestVirt(at)));
      const NodeView node{.layout = layout_, .bytes = bytes};
      GS_CHECK(check(node, at, above));
      const std::uint64_t length = node.prefixlen();
      if (common_bits(node.data(data_size_), data, std::min(length, wanted)) < length) break;
      at = length == max_prefixlen_ ? 0 : node.child(bit_at(data, length));
      above = length;
      if (node.has_value()) best = std::move(bytes);
    }
    if (!best.empty() && builder_.has_room(1)) add({.layout = layout_, .bytes = best});
    return {};
  }

 private:
  static constexpr std::uint32_t kNobody = ~std::uint32_t{0};
  struct Link {
    std::uint64_t address = 0;
    std::uint32_t parent = kNobody;
    bool one = false;  // which child of it
  };
  struct Place {
    std::array<std::uint32_t, 2> children{kNobody, kNobody};
    std::uint32_t record = kNobody;
    std::uint32_t prefixlen = 0;
  };

  Result<Bytes> read_node(GuestVirt at) {
    auto whole = context_.memory.read_bytes(at, node_bytes_);
    if (whole) return whole;
    // One without a value is shorter, and what is behind it may not be there.
    GS_ASSIGN(Bytes head, context_.memory.read_bytes(at, head_bytes()));
    if (NodeView{.layout = layout_, .bytes = head}.has_value())
      return std::unexpected(std::move(whole).error());
    return head;
  }
  std::size_t head_bytes() const { return node_bytes_ - map_.value_size; }

  /// `above`: the parent's length. Since it always grows, there are no cycles.
  Result<void> check(const NodeView& node, std::uint64_t at,
                     const std::optional<std::uint64_t>& above) const {
    if (node.prefixlen() > max_prefixlen_ || (above && node.prefixlen() <= *above))
      return fail_at(at, ErrorCode::kCorrupt, "a prefix of {} bits below one of {}",
                     node.prefixlen(), above.value_or(0));
    return {};
  }

  std::vector<Link> read_level(std::span<const Link> level) {
    std::vector<Link> below;
    const std::size_t step = std::max<std::size_t>(1, kContentStepBytes / node_bytes_);
    for (std::size_t first = 0; first < level.size() && !full_; first += step)
      read_step(level.subspan(first, std::min(step, level.size() - first)), below);
    return below;
  }

  void read_step(std::span<const Link> links, std::vector<Link>& below) {
    full_ = !builder_.has_room(links.size());
    if (full_) return;
    ReadBatch whole;
    ReadBatch heads;
    for (const Link& link : links) whole.add(GuestVirt(link.address), node_bytes_);
    whole.read(context_.memory);
    std::vector<std::size_t> head_of(links.size());
    for (std::size_t i = 0; i < links.size(); ++i)
      if (!whole[i]) head_of[i] = heads.add(GuestVirt(links[i].address), head_bytes());
    heads.read(context_.memory);
    for (std::size_t i = 0; i < links.size(); ++i) {
      const auto bytes = whole[i] ? whole[i] : heads[head_of[i]];
      if (!bytes)
        report(bytes.error());
      else
        take(links[i], {.layout = layout_, .bytes = *bytes}, whole[i], below);
    }
  }

  void take(const Link& link, const NodeView& node, const Result<ByteSpan>& whole,
            std::vector<Link>& below) {
    std::optional<std::uint64_t> above;
    if (link.parent != kNobody) above = places_[link.parent].prefixlen;
    if (auto sound = check(node, link.address, above); !sound) return report(sound.error());
    if (!seen_.insert(link.address).second)
      return report({.code = ErrorCode::kCorrupt,
                     .message = "a node below two others",
                     .path = {},
                     .address = link.address});
    const auto place = static_cast<std::uint32_t>(places_.size());
    places_.push_back({.prefixlen = static_cast<std::uint32_t>(node.prefixlen())});
    builder_.charge(kNodeOverhead);
    if (link.parent != kNobody) places_[link.parent].children[link.one ? 1 : 0] = place;
    if (node.has_value() && whole) places_[place].record = add(node);
    if (node.has_value() && !whole) report(whole.error());
    for (const bool one : {false, true})
      if (node.child(one) != 0)
        below.push_back({.address = node.child(one), .parent = place, .one = one});
  }

  std::uint32_t add(const NodeView& node) {
    const auto record = static_cast<std::uint32_t>(builder_.count());
    builder_.append(1);
    const std::span<std::byte> key = builder_.key_of(record);
    for (std::size_t i = 0; i < kPrefixlenBytes; ++i)
      key[i] = static_cast<std::byte>(node.prefixlen() >> (8 * i) & 0xff);
    const ByteSpan data = node.data(data_size_);
    std::ranges::copy(data, key.begin() + kPrefixlenBytes);
    std::ranges::copy(node.value(data_size_, map_.value_size),
                      builder_.value_of(record, 0).begin());
    if (auto text = prefix_text(data, node.prefixlen())) {
      builder_.charge(kFactOverhead);
      Facts facts;
      facts.push_back({.name = "prefix", .value = std::move(*text)});
      builder_.set_facts(record, std::move(facts));
    }
    return record;
  }

  std::vector<std::uint32_t> listing_order() const {
    std::vector<std::uint32_t> order;
    // A node, then its ones, then its zeros: what is to be listed, backwards.
    std::vector<std::uint32_t> rest;
    if (!places_.empty()) rest.push_back(0);
    while (!rest.empty()) {
      const Place& place = places_[rest.back()];
      rest.pop_back();
      if (place.record != kNobody) order.push_back(place.record);
      for (const std::uint32_t child : place.children)
        if (child != kNobody) rest.push_back(child);
    }
    std::ranges::reverse(order);
    return order;
  }

  void report(Error error) { builder_.problems().add("entries", std::move(error)); }

  MapReadContext& context_;
  const MapInfo& map_;
  ContentsBuilder& builder_;
  const StructLayout* layout_ = nullptr;
  std::uint64_t root_ = 0;
  std::uint64_t data_size_ = 0;
  std::uint64_t max_prefixlen_ = 0;
  std::size_t node_bytes_ = 0;
  std::vector<Place> places_;
  std::unordered_set<std::uint64_t> seen_;
  bool full_ = false;
};

Result<void> list_trie(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder) {
  return TrieReader(context, map, builder).list();
}

/// The longest prefix of the key that is there, as a look-up gives it; its own key is the entry's.
Result<void> find_prefix(MapReadContext& context, const MapInfo& map, ByteSpan key,
                         ContentsBuilder& builder) {
  return TrieReader(context, map, builder).find(key);
}

}  // namespace

std::span<const MapReader> lpm_readers() {
  static constexpr MapReader kReaders[] = {
      {.type = "lpm_trie", .list = list_trie, .find = find_prefix}};
  return kReaders;
}

}  // namespace guestscope
