// Btf: a hardened reader of BTF, the kernel's type format, from kernel files and from guest memory.
//
// parse() checks every record once: that it lies within the bytes, that its names and the types it
// refers to exist. After that no access can fail or leave the bytes, and an id that does not exist
// reads as void. What parse() does not refuse is a graph without sense: cycles of typedefs, arrays
// of arrays without end, members outside their structure. The walks here (resolve, size_of, place)
// have limits for that and return kCorrupt.
//
// Owns its bytes or borrows them, as parse() was told; a base must outlive what is split from it,
// and must not move. Threads: immutable. Does not block. Sizes in bytes unless named bits. Source
// of truth: Documentation/bpf/btf.rst and include/uapi/linux/btf.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "arch/bytes.h"
#include "arch/result.h"
#include "introspect/btf_records.h"
#include "introspect/name_index.h"

namespace guestscope {

class Btf {
 public:
  /// An empty one: void is its only type.
  Btf() = default;
  Btf(Btf&&) = default;
  Btf& operator=(Btf&&) = default;

  /// Borrows `bytes`. `name` is for messages ("vmlinux"). With `base`, this is split BTF (a kernel
  /// module's): its ids and string offsets continue those of `base`.
  static Result<Btf> parse(ByteSpan bytes, std::string name, const Btf* base = nullptr);
  /// The same, owning them.
  static Result<Btf> parse(Bytes&& bytes, std::string name, const Btf* base = nullptr);

  const std::string& name() const { return name_; }
  /// Ids go from 0 (void) to type_count() - 1, those of the base included.
  TypeId type_count() const { return first_id_ + static_cast<TypeId>(records_.size()); }
  bool contains(TypeId id) const { return id < type_count(); }

  BtfType type(TypeId id) const;
  BtfKind kind(TypeId id) const { return type(id).kind; }
  std::string_view name_of(TypeId id) const { return string_at(type(id).name_offset); }
  /// "struct rq", "int", "struct (anonymous)": for messages.
  std::string describe(TypeId id) const;

  // Of a type of another kind: an empty list, zeros.
  BtfList<BtfMember> members(TypeId struct_or_union) const;
  BtfList<BtfEnumerator> enumerators(TypeId enum_or_enum64) const;
  BtfList<BtfParam> params(TypeId func_proto) const;
  BtfList<BtfVariable> variables(TypeId datasec) const;
  BtfInt int_info(TypeId integer) const;
  BtfArray array(TypeId array) const;

  /// The first type of that kind and name, own types before those of the base.
  std::optional<TypeId> find(BtfKind kind, std::string_view name) const;
  std::vector<TypeId> find_all(BtfKind kind, std::string_view name) const;

  /// The type behind typedef, const, volatile, restrict, type tags, declaration tags and variables.
  Result<TypeId> resolve(TypeId id) const;
  /// Pointers have 8 bytes, arrays are multiplied. kUnsupported for what has no size (void, forward
  /// declarations, functions).
  Result<std::uint64_t> size_of(TypeId id) const;
  /// Where a member's bytes or bits lie, whichever way the compiler wrote bit fields down.
  Result<MemberPlace> place(const BtfMember& member) const;
  /// Of an INT, ENUM or ENUM64, modifiers in front of it included; false for everything else.
  bool is_signed(TypeId id) const;

  std::string_view string_at(std::uint32_t offset) const;
  /// Behind its last string: where the strings of what is split from it begin.
  std::uint32_t string_end() const {
    return first_string_ + static_cast<std::uint32_t>(strings_.size());
  }
  /// What was parsed, from its header on.
  ByteSpan bytes() const { return bytes_; }
  /// Memory of the indexes and of owned bytes.
  std::size_t memory_bytes() const;

 private:
  friend class BtfParser;

  const std::byte* record(TypeId id) const;
  template <typename Item>
  BtfList<Item> list(TypeId id, std::uint32_t stride) const;
  template <typename Visit>
  void for_each_named(BtfKind kind, std::string_view name, Visit visit) const;

  std::string name_;
  Bytes owned_;
  const Btf* base_ = nullptr;
  ByteSpan bytes_;
  ByteSpan types_;
  ByteSpan strings_;
  TypeId first_id_ = 0;                    ///< id of records_[0]
  std::uint32_t first_string_ = 0;         ///< offset of strings_[0]
  std::vector<std::uint32_t> records_{0};  ///< offset in types_ of each type; [0] of a base is void
  NameIndex index_;                        ///< entry i is type first_id_ + i
};

}  // namespace guestscope
