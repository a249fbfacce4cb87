// StructLayout: the fields a decoder needs of one kernel structure, declared as data and bound once
// for each kernel; StructView: those fields read from the bytes of one such structure.
//
//   enum : std::size_t { kNrRunning, kHNrQueued, kScxNrRunning };
//   constexpr FieldNeed kRq[] = {
//       {"nr_running"}, {"cfs.h_nr_queued|cfs.h_nr_running"}, {"scx.nr_running", kOptional}};
//   GS_ASSIGN(const StructLayout rq, StructLayout::bind(btf, "rq", kRq));
//   ... read rq.extent() bytes ...
//   GS_ASSIGN(const StructView view, StructView::over(rq, bytes));
//   view.u64(kNrRunning);
//
// A layout is plain data that refers to no Btf. A view borrows its layout and its bytes. Threads:
// both immutable. Neither blocks. One error lists every required field that is missing; a view
// refuses bytes that are too short when it is made, after which reading cannot fail.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "arch/address.h"
#include "arch/bytes.h"
#include "arch/result.h"
#include "introspect/btf.h"

namespace guestscope {

enum class Need : std::uint8_t { kRequired, kOptional };
inline constexpr Need kOptional = Need::kOptional;

struct FieldNeed {
  /// Alternatives divided by '|', the first that exists is taken; each a dotted path through
  /// embedded structures and unions (not pointers), with anonymous members seen through as in C.
  const char* path;
  Need need = Need::kRequired;
};

struct BoundField {
  bool present = false;
  bool is_signed = false;
  std::uint8_t bit_offset = 0;  ///< in the byte at `offset`
  std::uint8_t bit_size = 0;    ///< 0: not a bit field
  std::uint32_t offset = 0;     ///< bytes from the start of the bound structure
  std::uint32_t size = 0;       ///< bytes; 0 for a flexible array
  std::uint32_t element_size =
      0;            ///< of an array (also a flexible one), of one element; else `size`
  TypeId type = 0;  ///< behind modifiers
};

class StructLayout {
 public:
  StructLayout() = default;

  /// `name`: of a struct, a union or a typedef of one. When several types share it, the one that
  /// has all required fields, and of several such the one with most optional fields.
  static Result<StructLayout> bind(const Btf& btf, std::string_view name,
                                   std::span<const FieldNeed> needs);
  static Result<StructLayout> bind(const Btf& btf, TypeId type, std::span<const FieldNeed> needs);

  const std::string& name() const { return name_; }  ///< "struct rq"
  TypeId type() const { return type_; }
  /// sizeof: the distance between two of them in an array.
  std::uint32_t size() const { return size_; }
  /// Bytes from the start that hold every bound field: what has to be read for a view.
  std::uint32_t extent() const { return extent_; }
  std::size_t field_count() const { return fields_.size(); }
  /// In the order of the table; an absent field for an index beyond it.
  const BoundField& operator[](std::size_t index) const;
  /// What a pointer field points to, or what an array field (of pointers, of structures) consists
  /// of: the struct, union or other type behind modifiers. 0 when that is void or the field is
  /// neither.
  TypeId pointee(std::size_t index) const;

 private:
  friend class LayoutBinder;

  std::string name_;
  TypeId type_ = 0;
  std::uint32_t size_ = 0;
  std::uint32_t extent_ = 0;
  std::vector<BoundField> fields_;
  std::vector<TypeId> pointees_;
};

class StructView {
 public:
  /// kCorrupt when `bytes` are fewer than layout.extent().
  static Result<StructView> over(const StructLayout& layout, ByteSpan bytes);

  bool has(std::size_t index) const { return (*layout_)[index].present; }
  /// 0 for an absent field; the first 8 bytes of a longer one.
  std::uint64_t u64(std::size_t index) const;
  /// The same with the sign extended, whatever the field's declared sign.
  std::int64_t s64(std::size_t index) const;
  GuestVirt pointer(std::size_t index) const { return GuestVirt(u64(index)); }
  /// The field's own bytes; empty for an absent field and for a flexible array.
  ByteSpan bytes(std::size_t index) const;
  /// A char array up to its first NUL, or all of it; not necessarily UTF-8.
  std::string_view text(std::size_t index) const { return text_in(bytes(index)); }
  const StructLayout& layout() const { return *layout_; }

 private:
  StructView(const StructLayout& layout, ByteSpan bytes) : layout_(&layout), bytes_(bytes) {}

  const StructLayout* layout_;
  ByteSpan bytes_;
};

}  // namespace guestscope
