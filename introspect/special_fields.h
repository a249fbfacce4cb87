// Special fields: structures inside of values that belong to the kernel (locks, timers, lists).
//
// The kernel does not hand them out: a look-up by system call has zeros in their place. Their types
// say nothing of what is in them either (`__u64 opaque[2]`, or unnamed padding), so what they are
// is written down here, as members that can be told from the bytes alone. They are recognised as
// the kernel does it, by name and size.
//
// Threads: constants. Source of truth: include/uapi/linux/bpf.h, btf_parse_fields() in
// kernel/bpf/btf.c; struct bpf_async_kern, bpf_rb_node_kern, … in kernel/bpf/helpers.c and
// include/linux/bpf.h.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace guestscope {

struct SpecialMember {
  enum class How : std::uint8_t { kPointer, kNumber, kIsSet };

  std::string_view name;
  std::uint32_t offset = 0;
  std::uint32_t size = 0;
  How how = How::kPointer;
  std::uint64_t mask = ~std::uint64_t{0};  ///< the bits that count
};

struct SpecialField {
  std::string_view type;
  std::uint32_t size = 0;
  std::span<const SpecialMember> members;
};

/// Null: the structure is an ordinary one.
const SpecialField* find_special_field(std::string_view structure, std::uint64_t size);

}  // namespace guestscope
