// BtfWriter: BTF put together in memory, record by record.
//
// Types are numbered as they are reserved or added; equal records can be shared (intern). Nothing
// is checked but the limits of the format: who reads the bytes passes them through Btf::parse().
//
// Threads: none; one thread fills it. Does not block. Only finish() fails.
// Source of truth: Documentation/bpf/btf.rst and include/uapi/linux/btf.h.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "arch/bytes.h"
#include "introspect/btf_records.h"

namespace guestscope {

/// One type. What `size_or_type`, `count` and `words` hold depends on its kind, as in the format.
struct BtfRecord {
  BtfKind kind = BtfKind::kVoid;
  std::string_view name{};
  bool kind_flag = false;
  std::size_t count = 0;  ///< members, enumerators, parameters; at most kMaxItems
  std::uint32_t size_or_type = 0;
  std::span<const std::uint32_t> words{};  ///< what follows the record's first three words
};

class BtfWriter {
 public:
  /// What the 16 bits of a record's item count can say.
  static constexpr std::size_t kMaxItems = 0xffff;

  BtfWriter();
  BtfWriter(const BtfWriter&) = delete;
  BtfWriter& operator=(const BtfWriter&) = delete;

  /// An id for a type whose record comes later: for types that refer to themselves.
  TypeId reserve();
  void define(TypeId reserved, const BtfRecord& record);
  /// The id of an equal record that was interned before, or a new one.
  TypeId intern(const BtfRecord& record);

  /// The offset of a string, each stored once.
  std::uint32_t text(std::string_view name);

  /// All of it. kCorrupt when it is larger than the format, or kMaxBtfBytes, allows.
  Result<Bytes> finish() const;

 private:
  struct Place {
    std::uint64_t first = 0;  ///< in words_
    std::uint32_t count = 0;
  };
  struct Hash {
    const BtfWriter* writer;
    std::size_t operator()(TypeId id) const;
  };
  struct Equal {
    const BtfWriter* writer;
    bool operator()(TypeId one, TypeId other) const;
  };
  struct TextHash : std::hash<std::string_view> {
    using is_transparent = void;  // NOLINT(readability-identifier-naming): the library's name
  };

  Place append(const BtfRecord& record);
  std::span<const std::uint32_t> record(TypeId id) const;

  std::vector<std::uint32_t> words_;
  std::vector<Place> places_{Place{}};  ///< by id; void has no record
  std::unordered_set<TypeId, Hash, Equal> interned_;
  std::string strings_ = std::string(1, '\0');
  std::unordered_map<std::string, std::uint32_t, TextHash, std::equal_to<>> offsets_;
};

}  // namespace guestscope
