#include "introspect/layouts.h"

namespace guestscope {

namespace {

Result<const StructLayout*> borrow(const Result<StructLayout>& bound) {
  if (!bound) return std::unexpected(bound.error());
  return &*bound;
}

}  // namespace

Result<const StructLayout*> Layouts::get(const StructNeed& need) {
  auto found = bound_.find(&need);
  if (found == bound_.end())
    found = bound_.emplace(&need, StructLayout::bind(kernel_->btf(), need.name, need.fields)).first;
  return borrow(found->second);
}

Result<const StructLayout*> Layouts::get(const StructNeed& need, TypeId type) {
  auto found = bound_.find(&need);
  if (found == bound_.end())
    found = bound_.emplace(&need, StructLayout::bind(kernel_->btf(), type, need.fields)).first;
  return borrow(found->second);
}

const EnumNames* Layouts::names(const EnumNeed& need) {
  auto found = names_.find(&need);
  if (found == names_.end())
    found =
        names_.emplace(&need, EnumNames::containing(kernel_->btf(), need.enumerator, need.prefix))
            .first;
  return found->second ? &*found->second : nullptr;
}

}  // namespace guestscope
