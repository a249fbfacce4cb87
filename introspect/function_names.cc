#include "introspect/function_names.h"

#include <unordered_set>

#include "introspect/address_names.h"
#include "introspect/limits.h"
#include "introspect/value.h"

namespace guestscope {

namespace {

/// Notes the functions that a walk meets, each once.
class Functions final : public ValueVisitor {
 public:
  void begin_object() override {}
  void key(std::string_view /*name*/) override {}
  void end_object() override {}
  void begin_array() override {}
  void end_array() override {}
  void boolean(bool /*value*/) override {}
  void u64(std::uint64_t /*value*/) override {}
  void s64(std::int64_t /*value*/) override {}
  void u128(std::uint64_t /*high*/, std::uint64_t /*low*/, bool /*is_signed*/) override {}
  void f64(double /*value*/) override {}
  void string(std::string_view /*text*/) override {}
  void pointer(GuestVirt /*address*/) override {}
  void hex(ByteSpan /*bytes*/) override {}
  void null() override {}
  void function(GuestVirt address) override {
    if (!AddressNames::is_kernel(address) || full()) return;
    if (met_.insert(address.value()).second) addresses.push_back(address);
  }

  bool full() const { return addresses.size() >= kMaxNamedFunctions; }

  std::vector<GuestVirt> addresses;

 private:
  std::unordered_set<std::uint64_t> met_;
};

}  // namespace

void name_functions(MapReadContext& context, MapContents& contents) {
  if (!contents.values_shown || !contents.btf || contents.value_type == 0) return;
  ValuePlan plan(*contents.btf);
  if (!plan.has_functions(contents.value_type)) return;
  Functions functions;
  for (std::size_t record = 0; record < contents.size() && !functions.full(); ++record)
    for (std::size_t cell = 0; cell < contents.cells(); ++cell)
      // A type that does not fit the value is a problem of whoever shows it.
      if (const auto value = contents.value(record, cell))
        (void)visit_value(plan, contents.value_type, *value, functions);
  if (functions.addresses.empty()) return;
  contents.functions = AddressNames(context.memory, context.location, context.layouts)
                           .functions(functions.addresses);
}

}  // namespace guestscope
