// Layouts: the kernel's structures that only some questions need, bound when first asked for.
//
//   constexpr FieldNeed kStackFields[] = {{"head"}, {"tail"}, {"size"}, {"elements"}};
//   constexpr StructNeed kQueue = {"bpf_queue_stack", kStackFields};
//   ...
//   GS_ASSIGN(const StructLayout* queue, layouts.get(kQueue));
//
// What every kernel has to have is bound at once, in KernelModel; this is for what a kernel may
// lack without harm to anybody who does not ask. Needs are told apart by their address: they are
// constants.
//
// Threads: one. A layout stays where it is for as long as the Layouts live. A failure
// (kUnsupported, naming what this kernel's types lack) is remembered as well.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string_view>

#include "introspect/enum_names.h"
#include "introspect/kernel_file.h"
#include "introspect/layout.h"

namespace guestscope {

struct StructNeed {
  std::string_view name;  ///< of a struct, a union, or a typedef of one
  std::span<const FieldNeed> fields;
};

/// The first enum, anonymous or not, that has this enumerator: EnumNames::containing().
struct EnumNeed {
  std::string_view enumerator;
  std::string_view prefix;
};

class Layouts {
 public:
  explicit Layouts(std::shared_ptr<const KernelFile> kernel) : kernel_(std::move(kernel)) {}

  Result<const StructLayout*> get(const StructNeed& need);
  /// Also the structures that have no name of their own, or share it: what a field of another
  /// layout points to or consists of.
  Result<const StructLayout*> get(const StructNeed& need, TypeId type);

  /// Null: this kernel has no such enum.
  const EnumNames* names(const EnumNeed& need);

  const KernelFile& kernel() const { return *kernel_; }
  /// The kernel's own types, kept alive by whoever holds them.
  std::shared_ptr<const Btf> kernel_btf() const { return {kernel_, &kernel_->btf()}; }

 private:
  std::shared_ptr<const KernelFile> kernel_;
  std::map<const StructNeed*, Result<StructLayout>> bound_;
  std::map<const EnumNeed*, Result<EnumNames>> names_;
};

}  // namespace guestscope
