#include "introspect/layout.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "introspect/bit_field.h"
#include "introspect/limits.h"

namespace guestscope {
namespace {

struct FoundMember {
  BtfMember member;
  std::uint64_t outer_bits = 0;  // where the anonymous structures around it begin
};

bool is_aggregate(BtfKind kind) { return kind == BtfKind::kStruct || kind == BtfKind::kUnion; }

// Searches `type` and its anonymous members, in C's order. `steps` bounds the search as a whole:
// anonymous members that contain each other fan out exponentially.
std::optional<FoundMember> find_member(const Btf& btf, TypeId type, std::string_view name,
                                       unsigned depth, std::size_t& steps) {
  if (depth > kMaxTypeDepth) return std::nullopt;
  for (const BtfMember& member : btf.members(type)) {
    if (steps == 0) return std::nullopt;
    --steps;
    if (member.name == name) return FoundMember{.member = member};
    if (!member.name.empty()) continue;
    const auto inner = btf.resolve(member.type);
    if (!inner || !is_aggregate(btf.kind(*inner))) continue;
    auto found = find_member(btf, *inner, name, depth + 1, steps);
    if (!found) continue;
    found->outer_bits += member.bit_offset;
    return found;
  }
  return std::nullopt;
}

// Calls `visit` with each part of `text` between `separator`s until it returns false.
template <typename Visit>
bool for_each_part(std::string_view text, char separator, Visit visit) {
  for (;;) {
    const std::size_t end = text.find(separator);
    if (!visit(text.substr(0, end))) return false;
    if (end == std::string_view::npos) return true;
    text.remove_prefix(end + 1);
  }
}

}  // namespace

class LayoutBinder {
 public:
  LayoutBinder(const Btf& btf, TypeId type) : btf_(btf), type_(type) {}

  Result<void> bind(std::span<const FieldNeed> needs) {
    const BtfType header = btf_.type(type_);
    if (!is_aggregate(header.kind))
      return fail(ErrorCode::kUnsupported, "BTF of {}: {} is no structure", btf_.name(),
                  btf_.describe(type_));
    layout_.name_ = btf_.describe(type_);
    layout_.type_ = type_;
    layout_.size_ = header.size;
    for (const FieldNeed& need : needs) {
      GS_ASSIGN(const BoundField field, bind_field(need.path));
      if (!field.present && need.need == Need::kRequired) missing_.emplace_back(need.path);
      layout_.extent_ = std::max(layout_.extent_, field.offset + field.size);
      layout_.fields_.push_back(field);
      layout_.pointees_.push_back(field.present ? pointee_of(field.type) : 0);
    }
    return {};
  }

  const std::vector<std::string>& missing() const { return missing_; }
  std::size_t present() const {
    return static_cast<std::size_t>(std::ranges::count_if(layout_.fields_, &BoundField::present));
  }
  StructLayout take() { return std::move(layout_); }
  Error missing_error() const {
    return {.code = ErrorCode::kUnsupported,
            .message = fmt::format("BTF of {}: {} has no {}", btf_.name(), layout_.name_,
                                   fmt::join(missing_, ", "))};
  }

 private:
  Result<BoundField> bind_field(std::string_view alternatives) const {
    Result<BoundField> field = BoundField{};
    for_each_part(alternatives, '|', [&](std::string_view path) {
      field = bind_path(path);
      return field.has_value() && !field->present;
    });
    if (!field) return std::unexpected(std::move(field).error().within(layout_.name_));
    return field;
  }

  Result<BoundField> bind_path(std::string_view path) const {
    TypeId type = type_;
    std::uint64_t bits = 0;
    std::optional<BtfMember> last;
    std::size_t steps = kMaxMemberSteps;
    const bool found = for_each_part(path, '.', [&](std::string_view name) {
      if (last) type = btf_.resolve(last->type).value_or(0);
      const auto member = find_member(btf_, type, name, 0, steps);
      if (!member) return false;
      last = member->member;
      bits += member->outer_bits + member->member.bit_offset;
      return true;
    });
    if (!found) return BoundField{};
    return bound(path, *last, bits);
  }

  // `bits`: from the start of the bound structure, where the member knows only its parent's.
  Result<BoundField> bound(std::string_view path, BtfMember member, std::uint64_t bits) const {
    const auto outside = [&] {
      return fail(ErrorCode::kCorrupt, "BTF of {}: {}.{} lies outside its structure", btf_.name(),
                  layout_.name_, path);
    };
    if (bits / 8 > layout_.size_) return outside();
    const std::uint64_t parent_bytes = (bits - member.bit_offset) / 8;
    GS_ASSIGN(const MemberPlace place, btf_.place(member));
    const std::uint64_t offset = parent_bytes + place.offset;
    if (offset > layout_.size_ || place.size > layout_.size_ - offset) return outside();
    GS_ASSIGN(const std::uint64_t element, element_size(place));
    if (element > UINT32_MAX) return outside();
    return BoundField{.present = true,
                      .is_signed = btf_.is_signed(place.type),
                      .bit_offset = place.bit_offset,
                      .bit_size = place.bit_size,
                      .offset = static_cast<std::uint32_t>(offset),
                      .size = static_cast<std::uint32_t>(place.size),
                      .element_size = static_cast<std::uint32_t>(element),
                      .type = place.type};
  }

  Result<std::uint64_t> element_size(const MemberPlace& place) const {
    if (btf_.kind(place.type) != BtfKind::kArray) return place.size;
    return btf_.size_of(btf_.array(place.type).element);
  }

  TypeId pointee_of(TypeId type) const {
    TypeId at = type;
    bool is_either = false;
    for (unsigned depth = 0; btf_.kind(at) == BtfKind::kArray; ++depth) {
      if (depth > kMaxTypeDepth) return 0;
      at = btf_.resolve(btf_.array(at).element).value_or(0);
      is_either = true;
    }
    if (btf_.kind(at) == BtfKind::kPtr) {
      at = btf_.resolve(btf_.type(at).target).value_or(0);
      is_either = true;
    }
    return is_either ? at : 0;
  }

  const Btf& btf_;
  TypeId type_;
  StructLayout layout_;
  std::vector<std::string> missing_;
};

Result<StructLayout> StructLayout::bind(const Btf& btf, TypeId type,
                                        std::span<const FieldNeed> needs) {
  GS_ASSIGN(const TypeId behind, btf.resolve(type));
  LayoutBinder binder(btf, behind);
  GS_CHECK(binder.bind(needs));
  if (!binder.missing().empty()) return std::unexpected(binder.missing_error());
  return binder.take();
}

namespace {

std::vector<TypeId> candidates(const Btf& btf, std::string_view name) {
  std::vector<TypeId> found;
  for (const BtfKind kind : {BtfKind::kStruct, BtfKind::kUnion, BtfKind::kTypedef})
    for (const TypeId id : btf.find_all(kind, name)) {
      const auto behind = btf.resolve(id);
      if (behind && is_aggregate(btf.kind(*behind)) && found.size() < kMaxLayoutCandidates)
        found.push_back(*behind);
    }
  return found;
}

}  // namespace

Result<StructLayout> StructLayout::bind(const Btf& btf, std::string_view name,
                                        std::span<const FieldNeed> needs) {
  std::optional<LayoutBinder> best;
  std::optional<Error> error;
  for (const TypeId id : candidates(btf, name)) {
    LayoutBinder binder(btf, id);
    if (auto bound = binder.bind(needs); !bound) {
      error = std::move(bound).error();
      continue;
    }
    const auto better = [&] {
      if (binder.missing().size() != best->missing().size())
        return binder.missing().size() < best->missing().size();
      return binder.present() > best->present();
    };
    if (!best || better()) best.emplace(std::move(binder));
  }
  if (best && best->missing().empty()) return best->take();
  if (best) return std::unexpected(best->missing_error());
  if (error) return std::unexpected(std::move(*error));
  return fail(ErrorCode::kUnsupported, "BTF of {}: no structure {}", btf.name(), name);
}

const BoundField& StructLayout::operator[](std::size_t index) const {
  static const BoundField kAbsent;
  return index < fields_.size() ? fields_[index] : kAbsent;
}

TypeId StructLayout::pointee(std::size_t index) const {
  return index < pointees_.size() ? pointees_[index] : 0;
}

Result<StructView> StructView::over(const StructLayout& layout, ByteSpan bytes) {
  if (bytes.size() < layout.extent())
    return fail(ErrorCode::kCorrupt, "{}: {} bytes, but its fields need {}", layout.name(),
                bytes.size(), layout.extent());
  return StructView(layout, bytes);
}

ByteSpan StructView::bytes(std::size_t index) const {
  const BoundField& field = (*layout_)[index];
  return field.present ? bytes_.subspan(field.offset, field.size) : ByteSpan{};
}

std::uint64_t StructView::u64(std::size_t index) const {
  const BoundField& field = (*layout_)[index];
  const ByteSpan own = bytes(index);
  if (field.bit_size != 0) return load_bits(own, field.bit_offset, field.bit_size).low;
  return load_le(own.data(), std::min<std::size_t>(own.size(), 8));
}

std::int64_t StructView::s64(std::size_t index) const {
  const BoundField& field = (*layout_)[index];
  const std::size_t bits = field.bit_size != 0 ? field.bit_size : std::size_t{field.size} * 8;
  if (bits == 0) return 0;
  return sign_extend(u64(index), static_cast<unsigned>(std::min<std::size_t>(bits, 64)));
}

}  // namespace guestscope
