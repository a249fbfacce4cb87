#include "introspect/hidden_fields.h"

#include <algorithm>

#include "introspect/limits.h"
#include "introspect/special_fields.h"
#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

enum : std::size_t { kRecord, kLockOffset, kTimerOffset, kPointers };
constexpr FieldNeed kMapFields[] = {{"record", kOptional},
                                    {"spin_lock_off", kOptional},
                                    {"timer_off", kOptional},
                                    {"kptr_off_tab", kOptional}};
constexpr StructNeed kMap = {"bpf_map", kMapFields};

enum : std::size_t { kCount, kFields, kRefcountOffset };
constexpr FieldNeed kRecordFields[] = {{"cnt"}, {"fields"}, {"refcount_off", kOptional}};
constexpr StructNeed kRecordNeed = {"btf_record", kRecordFields};
constexpr FieldNeed kTableFields[] = {{"nr_off"}, {"off"}};  // 5.19 to 6.1
constexpr StructNeed kTableNeed = {"bpf_map_value_off", kTableFields};

enum : std::size_t { kOffset, kSize };
constexpr FieldNeed kFieldFields[] = {{"offset"}, {"size"}};
constexpr StructNeed kFieldNeed = {"btf_field", kFieldFields};
constexpr FieldNeed kPointerFields[] = {{"offset"}};
constexpr StructNeed kPointerNeed = {"bpf_map_value_off_desc", kPointerFields};

// Sizes of the interface with programs, which cannot change.
constexpr std::uint32_t kLockBytes = 4, kTimerBytes = 16, kPointerBytes = 8;

/// Whether a value of the type can have such fields: a structure of a special name, or a pointer
/// with a tag.
class Search {
 public:
  explicit Search(const Btf& btf) : btf_(btf) {}

  bool has_candidate(TypeId id, unsigned depth = 0) {
    const TypeId type = btf_.resolve(id).value_or(0);
    if (depth > kMaxTypeDepth || steps_ == 0) return true;  // the kernel knows
    --steps_;
    switch (btf_.kind(type)) {
      case BtfKind::kPtr: return btf_.kind(btf_.type(type).target) == BtfKind::kTypeTag;
      case BtfKind::kArray: return has_candidate(btf_.array(type).element, depth + 1);
      case BtfKind::kStruct:
      case BtfKind::kUnion:
        if (find_special_field(btf_.name_of(type), btf_.type(type).size) != nullptr) return true;
        return std::ranges::any_of(btf_.members(type), [&](const BtfMember& member) {
          return has_candidate(member.type, depth + 1);
        });
      case BtfKind::kDatasec:
        return std::ranges::any_of(btf_.variables(type), [&](const BtfVariable& variable) {
          return has_candidate(variable.type, depth + 1);
        });
      default: return false;
    }
  }

 private:
  const Btf& btf_;
  std::size_t steps_ = kValueStepsBase;
};

/// The pointer to a list of fields, unless it is null or one of the kernel's error pointers.
bool leads_somewhere(GuestVirt pointer) {
  constexpr std::uint64_t kFirstError = 0xfffffffffffff001;  // IS_ERR()
  return !pointer.is_null() && pointer.value() < kFirstError;
}

Result<StructView> view_of(KernelMemory& memory, StructBatch& batch, GuestVirt address) {
  batch.add(address);
  batch.read(memory);
  return batch[0];
}

/// Calls each(element) for the `count` structures of a flexible array at the end of another.
template <typename Each>
Result<void> for_each_element(KernelMemory& memory, GuestVirt array, std::uint64_t count,
                              const StructLayout& element, Each each) {
  GS_ASSIGN(const Bytes bytes,
            memory.read_bytes(array, std::min(count, kMaxHiddenFields) * element.size()));
  for (std::size_t at = 0; at + element.size() <= bytes.size(); at += element.size()) {
    GS_ASSIGN(const StructView one,
              StructView::over(element, ByteSpan(bytes).subspan(at, element.size())));
    each(one);
  }
  return {};
}

Result<void> add_record(MapReadContext& context, GuestVirt address,
                        std::vector<HiddenField>& fields) {
  GS_ASSIGN(const StructLayout* record, context.layouts.get(kRecordNeed));
  GS_ASSIGN(const StructLayout* field, context.layouts.get(kFieldNeed));
  StructBatch batch(*record);
  GS_ASSIGN(const StructView view, view_of(context.memory, batch, address));
  const auto add = [&](const StructView& one) {
    const auto offset = static_cast<std::uint32_t>(one.u64(kOffset));
    // A count of references begins with one.
    const bool counts = (*record)[kRefcountOffset].present &&
                        view.s64(kRefcountOffset) == static_cast<std::int64_t>(offset);
    fields.push_back({.offset = offset,
                      .size = static_cast<std::uint32_t>(one.u64(kSize)),
                      .first_byte = static_cast<std::uint8_t>(counts ? 1 : 0)});
  };
  return for_each_element(context.memory, address.wrapping_add((*record)[kFields].offset),
                          view.u64(kCount), *field, add);
}

Result<void> add_pointers(MapReadContext& context, GuestVirt address,
                          std::vector<HiddenField>& fields) {
  GS_ASSIGN(const StructLayout* table, context.layouts.get(kTableNeed));
  GS_ASSIGN(const StructLayout* pointer, context.layouts.get(kPointerNeed));
  StructBatch batch(*table);
  GS_ASSIGN(const StructView view, view_of(context.memory, batch, address));
  const auto add = [&](const StructView& one) {
    fields.push_back(
        {.offset = static_cast<std::uint32_t>(one.u64(kOffset)), .size = kPointerBytes});
  };
  return for_each_element(context.memory, address.wrapping_add((*table)[kFields].offset),
                          view.u64(kCount), *pointer, add);
}

}  // namespace

Result<std::vector<HiddenField>> read_hidden_fields(MapReadContext& context, const MapInfo& map,
                                                    const Btf& btf, TypeId value_type) {
  std::vector<HiddenField> fields;
  if (value_type == 0 || !Search(btf).has_candidate(value_type)) return fields;
  GS_ASSIGN(const StructLayout* layout, context.layouts.get(kMap));
  StructBatch batch(*layout);
  GS_ASSIGN(const StructView view, view_of(context.memory, batch, map.address));
  const auto add_at = [&](std::size_t field, std::uint32_t size) {
    if (!(*layout)[field].present || view.s64(field) < 0) return;
    fields.push_back({.offset = static_cast<std::uint32_t>(view.s64(field)), .size = size});
  };
  add_at(kLockOffset, kLockBytes);
  add_at(kTimerOffset, kTimerBytes);
  if ((*layout)[kPointers].present && leads_somewhere(view.pointer(kPointers)))
    GS_CHECK(add_pointers(context, view.pointer(kPointers), fields));
  if ((*layout)[kRecord].present && leads_somewhere(view.pointer(kRecord)))
    GS_CHECK(add_record(context, view.pointer(kRecord), fields));
  std::erase_if(fields, [&](const HiddenField& field) {
    return field.size == 0 || field.offset > map.value_size ||
           field.size > map.value_size - field.offset;
  });
  return fields;
}

ByteSpan as_looked_up(const MapContents& contents, ByteSpan value, Bytes& scratch) {
  if (contents.hidden.empty()) return value;
  scratch.assign(value.begin(), value.end());
  for (const HiddenField& field : contents.hidden) {
    if (field.offset > scratch.size() || field.size > scratch.size() - field.offset) continue;
    std::ranges::fill(std::span(scratch).subspan(field.offset, field.size), std::byte{0});
    if (field.size != 0) scratch[field.offset] = std::byte{field.first_byte};
  }
  return scratch;
}

}  // namespace guestscope
