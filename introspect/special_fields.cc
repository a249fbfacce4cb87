#include "introspect/special_fields.h"

#include <algorithm>

namespace guestscope {

namespace {

using How = SpecialMember::How;

constexpr SpecialMember kLock[] = {{"locked", 0, 4, How::kIsSet}};
// The pointer to what the kernel allocates when the program initialises it; whether it is armed
// stands there.
constexpr SpecialMember kAsync[] = {{"initialized", 0, 8, How::kIsSet}, {"address", 0, 8}};
constexpr SpecialMember kListHead[] = {{"next", 0, 8}, {"prev", 8, 8}};
constexpr SpecialMember kListNode[] = {{"next", 0, 8}, {"prev", 8, 8}, {"owner", 16, 8}};
constexpr SpecialMember kTree[] = {{"root", 0, 8}, {"leftmost", 8, 8}};
// The low bits of the parent are the node's colour.
constexpr SpecialMember kTreeNode[] = {{"parent", 0, 8, How::kPointer, ~std::uint64_t{3}},
                                       {"right", 8, 8},
                                       {"left", 16, 8},
                                       {"owner", 24, 8}};
constexpr SpecialMember kCount[] = {{"count", 0, 4, How::kNumber}};
// The high bits of the size are flags and the dynptr's type.
constexpr SpecialMember kDynptr[] = {
    {"data", 0, 8}, {"size", 8, 4, How::kNumber, 0xffffff}, {"offset", 12, 4, How::kNumber}};

constexpr SpecialField kFields[] = {
    {"bpf_spin_lock", 4, kLock},      {"bpf_res_spin_lock", 4, kLock},
    {"bpf_timer", 16, kAsync},        {"bpf_wq", 16, kAsync},
    {"bpf_task_work", 8, kAsync},     {"bpf_list_head", 16, kListHead},
    {"bpf_list_node", 24, kListNode}, {"bpf_rb_root", 16, kTree},
    {"bpf_rb_node", 32, kTreeNode},   {"bpf_refcount", 4, kCount},
    {"bpf_dynptr", 16, kDynptr}};

}  // namespace

const SpecialField* find_special_field(std::string_view structure, std::uint64_t size) {
  if (!structure.starts_with("bpf_")) return nullptr;
  const auto* found = std::ranges::find_if(kFields, [&](const SpecialField& field) {
    return field.type == structure && field.size == size;
  });
  return found == std::end(kFields) ? nullptr : found;
}

}  // namespace guestscope
