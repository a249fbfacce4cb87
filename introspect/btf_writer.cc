#include "introspect/btf_writer.h"

#include <algorithm>

#include "introspect/limits.h"

namespace guestscope {
namespace {

constexpr std::uint32_t kHeaderBytes = 24;
constexpr std::uint64_t kMagicAndVersion = 0x0001eb9f;

void put(Bytes& bytes, std::uint64_t value) {
  for (unsigned i = 0; i < 4; ++i) bytes.push_back(static_cast<std::byte>(value >> (8 * i) & 0xff));
}

}  // namespace

BtfWriter::BtfWriter() : interned_(0, Hash{this}, Equal{this}) {}

std::size_t BtfWriter::Hash::operator()(TypeId id) const {
  const auto words = std::as_bytes(writer->record(id));
  return std::hash<std::string_view>{}({reinterpret_cast<const char*>(words.data()), words.size()});
}

bool BtfWriter::Equal::operator()(TypeId one, TypeId other) const {
  return std::ranges::equal(writer->record(one), writer->record(other));
}

std::span<const std::uint32_t> BtfWriter::record(TypeId id) const {
  return std::span(words_).subspan(places_[id].first, places_[id].count);
}

BtfWriter::Place BtfWriter::append(const BtfRecord& record) {
  const std::uint64_t first = words_.size();
  const auto info = static_cast<std::uint32_t>(record.count & kMaxItems) |
                    static_cast<std::uint32_t>(record.kind) << 24 |
                    (record.kind_flag ? 1U << 31 : 0U);
  words_.insert(words_.end(), {text(record.name), info, record.size_or_type});
  words_.insert(words_.end(), record.words.begin(), record.words.end());
  return {.first = first, .count = static_cast<std::uint32_t>(words_.size() - first)};
}

TypeId BtfWriter::reserve() {
  places_.emplace_back();
  return static_cast<TypeId>(places_.size() - 1);
}

void BtfWriter::define(TypeId reserved, const BtfRecord& record) {
  places_[reserved] = append(record);
}

TypeId BtfWriter::intern(const BtfRecord& record) {
  const TypeId id = reserve();
  define(id, record);
  const auto [place, is_new] = interned_.insert(id);
  if (is_new) return id;
  words_.resize(places_[id].first);
  places_.pop_back();
  return *place;
}

std::uint32_t BtfWriter::text(std::string_view name) {
  if (name.empty()) return 0;
  if (const auto known = offsets_.find(name); known != offsets_.end()) return known->second;
  const auto offset = static_cast<std::uint32_t>(strings_.size());
  strings_ += name;
  strings_ += '\0';
  offsets_.emplace(name, offset);
  return offset;
}

Result<Bytes> BtfWriter::finish() const {
  std::uint64_t types_bytes = 0;
  for (const Place& place : places_) types_bytes += std::uint64_t{place.count} * 4;
  const std::uint64_t size = kHeaderBytes + types_bytes + strings_.size();
  if (size > kMaxBtfBytes) return fail(ErrorCode::kCorrupt, "{} bytes of BTF are too many", size);
  Bytes bytes;
  bytes.reserve(size);
  for (const std::uint64_t word : {kMagicAndVersion, std::uint64_t{kHeaderBytes}, std::uint64_t{0},
                                   types_bytes, types_bytes, std::uint64_t{strings_.size()}})
    put(bytes, word);
  for (TypeId id = 1; id < places_.size(); ++id) {
    if (places_[id].count == 0)
      return fail(ErrorCode::kCorrupt, "type {} was reserved and never defined", id);
    for (const std::uint32_t word : record(id)) put(bytes, word);
  }
  const auto text = std::as_bytes(std::span(strings_));
  bytes.insert(bytes.end(), text.begin(), text.end());
  return bytes;
}

}  // namespace guestscope
