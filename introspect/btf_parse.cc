// Btf::parse: the one place where BTF is checked. Two passes: the first finds where each record
// begins (records vary in length, and only the kind says how), the second checks what they refer
// to, for which the number of types must be known.
#include <utility>

#include "introspect/btf.h"
#include "introspect/limits.h"

namespace guestscope {
namespace {

constexpr std::uint16_t kMagic = 0xeb9f;
constexpr std::uint16_t kSwappedMagic = 0x9feb;
constexpr std::uint8_t kVersion = 1;
constexpr std::size_t kTypeBytes = 12;

struct Header {
  le16 magic;
  std::uint8_t version;
  std::uint8_t flags;
  le32 header_size;
  le32 types_offset;  // from the end of the header
  le32 types_size;
  le32 strings_offset;
  le32 strings_size;
};

// What follows the 12 bytes of a type: `fixed` bytes, or `per_item` for each item. `name_at` and
// `type_at` say where in an item a name offset and a type id lie.
struct KindShape {
  std::uint8_t fixed = 0;
  std::uint8_t per_item = 0;
  bool has_target = false;
  bool items_have_names = false;
  std::int8_t type_at = -1;
};

constexpr KindShape kShapes[kBtfKinds] = {
    {},                                                        // void has no record
    {.fixed = 4},                                              // int
    {.has_target = true},                                      // pointer
    {.fixed = 12},                                             // array: see check_array()
    {.per_item = 12, .items_have_names = true, .type_at = 4},  // struct
    {.per_item = 12, .items_have_names = true, .type_at = 4},  // union
    {.per_item = 8, .items_have_names = true},                 // enum
    {},                                                        // forward declaration
    {.has_target = true},                                      // typedef
    {.has_target = true},                                      // volatile
    {.has_target = true},                                      // const
    {.has_target = true},                                      // restrict
    {.has_target = true},                                      // function; `count` is its linkage
    {.per_item = 8, .has_target = true, .items_have_names = true, .type_at = 4},  // prototype
    {.fixed = 4, .has_target = true},                                             // variable
    {.per_item = 12, .type_at = 0},                                               // data section
    {},                                                                           // floating point
    {.fixed = 4, .has_target = true},                                             // declaration tag
    {.has_target = true},                                                         // type tag
    {.per_item = 12, .items_have_names = true},                                   // enum64
};

}  // namespace

class BtfParser {
 public:
  BtfParser(ByteSpan bytes, Btf& into) : bytes_(bytes), btf_(into) {}

  Result<void> run() {
    GS_CHECK(find_sections());
    GS_CHECK(find_records());
    for (std::size_t entry = first_entry(); entry < btf_.records_.size(); ++entry)
      GS_CHECK(check_record(entry));
    index_names();
    return {};
  }

 private:
  template <typename... Args>
  std::unexpected<Error> damaged(fmt::format_string<Args...> format, Args&&... args) const {
    return fail(ErrorCode::kCorrupt, "BTF of {}: {}", btf_.name_,
                fmt::format(format, std::forward<Args>(args)...));
  }

  // A base's entry 0 is void, which has no record.
  std::size_t first_entry() const { return btf_.base_ == nullptr ? 1 : 0; }
  std::uint32_t word(std::size_t offset) const {
    return static_cast<std::uint32_t>(load_le(&btf_.types_[offset], 4));
  }

  Result<void> find_sections() {
    if (bytes_.size() > kMaxBtfBytes) return damaged("{} bytes are too many", bytes_.size());
    const ByteReader reader(bytes_);
    const auto header = reader.get<Header>(0);
    if (!header) return damaged("its {} bytes are too few for a header", bytes_.size());
    if (header->magic == kSwappedMagic)
      return fail(ErrorCode::kUnsupported, "BTF of {}: big-endian", btf_.name_);
    if (header->magic != kMagic)
      return damaged("no BTF (magic {:#x})", std::uint16_t{header->magic});
    if (header->version != kVersion)
      return fail(ErrorCode::kUnsupported, "BTF of {}: unknown version {}", btf_.name_,
                  header->version);
    const std::size_t body = header->header_size;
    if (body < sizeof(Header) || body > bytes_.size()) return damaged("a header of {} bytes", body);
    const auto types = reader.bytes(body + header->types_offset, header->types_size);
    if (!types) return damaged("truncated: its types reach beyond its {} bytes", bytes_.size());
    const auto strings = reader.bytes(body + header->strings_offset, header->strings_size);
    if (!strings) return damaged("truncated: its strings reach beyond its {} bytes", bytes_.size());
    btf_.types_ = *types;
    btf_.strings_ = *strings;
    return check_strings();
  }

  Result<void> check_strings() const {
    // Split BTF may live on its base's strings alone.
    if (btf_.base_ != nullptr && btf_.strings_.empty()) return {};
    if (btf_.strings_.empty() || btf_.strings_.back() != std::byte{0})
      return damaged("its strings are not terminated");
    if (btf_.base_ == nullptr && btf_.strings_.front() != std::byte{0})
      return damaged("its first string is not the empty one");
    return {};
  }

  Result<void> find_records() {
    const ByteReader reader(btf_.types_);
    btf_.records_.assign(first_entry(), 0);
    // Kernels average 44 bytes for a type; a wrong guess costs one more allocation.
    btf_.records_.reserve(btf_.types_.size() / 40);
    for (std::size_t at = 0; at < reader.size();) {
      if (!reader.contains(at, kTypeBytes)) return damaged("its last type is truncated");
      const std::uint32_t info = word(at + 4);
      const std::uint32_t kind = (info >> 24) & 0x1f;
      if (kind == 0 || kind >= kBtfKinds)
        return fail(ErrorCode::kUnsupported, "BTF of {}: type {} is of the unknown kind {}",
                    btf_.name_, btf_.type_count(), kind);
      const std::size_t extra = kShapes[kind].fixed + kShapes[kind].per_item * (info & 0xffff);
      if (!reader.contains(at + kTypeBytes, extra)) return damaged("its last type is truncated");
      btf_.records_.push_back(static_cast<std::uint32_t>(at));
      at += kTypeBytes + extra;
    }
    return {};
  }

  Result<void> check_record(std::size_t entry) const {
    const std::size_t at = btf_.records_[entry];
    const TypeId id = btf_.first_id_ + static_cast<TypeId>(entry);
    const std::uint32_t info = word(at + 4);
    const auto kind = static_cast<BtfKind>((info >> 24) & 0x1f);
    const KindShape& shape = kShapes[static_cast<std::size_t>(kind)];
    GS_CHECK(check_name(id, word(at)));
    if (shape.has_target) GS_CHECK(check_type(id, word(at + 8)));
    if (kind == BtfKind::kArray) {
      GS_CHECK(check_type(id, word(at + kTypeBytes)));
      GS_CHECK(check_type(id, word(at + kTypeBytes + 4)));
    }
    if (shape.per_item == 0) return {};
    const std::size_t end = at + kTypeBytes + shape.per_item * std::size_t{info & 0xffff};
    for (std::size_t item = at + kTypeBytes; item < end; item += shape.per_item) {
      if (shape.items_have_names) GS_CHECK(check_name(id, word(item)));
      if (shape.type_at >= 0)
        GS_CHECK(check_type(id, word(item + static_cast<std::size_t>(shape.type_at))));
    }
    return {};
  }

  Result<void> check_name(TypeId id, std::uint32_t offset) const {
    if (offset < std::uint64_t{btf_.first_string_} + btf_.strings_.size()) return {};
    return damaged("type {} has a name at {}, outside its strings", id, offset);
  }

  Result<void> check_type(TypeId id, TypeId refers_to) const {
    if (btf_.contains(refers_to)) return {};
    return damaged("type {} refers to type {} of {}", id, refers_to, btf_.type_count());
  }

  void index_names() {
    btf_.index_ = NameIndex(btf_.records_.size());
    for (std::size_t entry = btf_.records_.size(); entry-- > first_entry();) {
      const std::string_view name = btf_.string_at(word(btf_.records_[entry]));
      if (!name.empty()) btf_.index_.add(name, static_cast<std::uint32_t>(entry));
    }
  }

  ByteSpan bytes_;
  Btf& btf_;
};

Result<Btf> Btf::parse(ByteSpan bytes, std::string name, const Btf* base) {
  Btf btf;
  btf.name_ = std::move(name);
  btf.base_ = base;
  btf.bytes_ = bytes;
  if (base != nullptr) {
    btf.first_id_ = base->type_count();
    btf.first_string_ = base->string_end();
  }
  GS_CHECK(BtfParser(bytes, btf).run());
  return btf;
}

Result<Btf> Btf::parse(Bytes&& bytes, std::string name, const Btf* base) {
  Bytes owned = std::move(bytes);
  GS_ASSIGN(Btf btf, parse(ByteSpan(owned), std::move(name), base));
  // Moving a vector keeps its elements where they are, and with them types_ and strings_.
  btf.owned_ = std::move(owned);
  return btf;
}

}  // namespace guestscope
