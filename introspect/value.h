// visit_value: a typed walk over the bytes of one value (a map's key or value), printed by someone
// else.
//
// Structures and unions are objects, members of anonymous ones are flattened into their parent;
// arrays are arrays; char arrays are strings when they are text; enumerators go by name; a DATASEC
// is an object of its variables; everything else is a number, a boolean or a pointer. Structures
// that are the kernel's (struct bpf_spin_lock, …) are shown as what they are: special_fields.h.
//
// An error means that nothing was visited. Otherwise exactly one complete, well-nested value was:
// what is damaged inside it is reported in its place through damaged(), and the walk goes on. The
// work is limited by the number of bytes (limits.h), whatever the types say. Bytes beyond the type
// are ignored. Threads: none; the visitor is called from within visit_value(). Does not block.
#pragma once

#include <cstdint>
#include <string_view>

#include "arch/address.h"
#include "arch/bytes.h"
#include "arch/result.h"
#include "introspect/btf.h"
#include "introspect/value_plan.h"

namespace guestscope {

class ValueVisitor {
 public:
  ValueVisitor() = default;
  ValueVisitor(const ValueVisitor&) = delete;
  ValueVisitor& operator=(const ValueVisitor&) = delete;
  virtual ~ValueVisitor() = default;

  virtual void begin_object() = 0;
  /// A member's name as BTF has it: from the guest, so not necessarily UTF-8, nor unique.
  virtual void key(std::string_view name) = 0;
  virtual void end_object() = 0;
  virtual void begin_array() = 0;
  virtual void end_array() = 0;
  virtual void boolean(bool value) = 0;
  virtual void u64(std::uint64_t value) = 0;
  virtual void s64(std::int64_t value) = 0;
  /// The 128 bits high:low, two's complement when signed.
  virtual void u128(std::uint64_t high, std::uint64_t low, bool is_signed) = 0;
  virtual void f64(double value) = 0;
  /// Text of a char array: valid UTF-8 without control characters but tab, newline and return.
  virtual void string(std::string_view text) = 0;
  /// An enumerator's name as BTF has it (see key()).
  virtual void enumerator(std::string_view name, std::uint64_t /*value*/) { string(name); }
  virtual void pointer(GuestVirt address) = 0;
  /// A pointer whose type says that it leads to a function.
  virtual void function(GuestVirt address) { pointer(address); }
  /// Bytes in memory order that have no type to print them by.
  virtual void hex(ByteSpan bytes) = 0;
  virtual void null() = 0;
  /// Stands in the place of a value that cannot be told.
  virtual void damaged(const Error& /*error*/) { null(); }
};

/// For many values: what is known of their types is kept in the plan. kCorrupt: `bytes` are fewer
/// than the type needs, or the type makes no sense; kNotFound: no such type.
Result<void> visit_value(ValuePlan& plan, TypeId type, ByteSpan bytes, ValueVisitor& visitor);
/// For one.
Result<void> visit_value(const Btf& btf, TypeId type, ByteSpan bytes, ValueVisitor& visitor);

}  // namespace guestscope
