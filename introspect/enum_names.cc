#include "introspect/enum_names.h"

#include <algorithm>
#include <cctype>

namespace guestscope {
namespace {

constexpr std::string_view kDeprecated = "_DEPRECATED";

std::string lower(std::string_view text) {
  std::string result(text);
  std::ranges::transform(result, result.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

// What is left of an enumerator as a user's name; empty for MAX_BPF_ATTACH_TYPE and its like, which
// mark the end of a list.
std::string_view stem(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return {};
  name.remove_prefix(prefix.size());
  const bool is_mark =
      name.starts_with('_') || name == "MAX" || name.starts_with("MAX_") || name.ends_with("_MAX");
  return is_mark ? std::string_view{} : name;
}

}  // namespace

std::string enumerator_name(const Btf& btf, TypeId type, std::uint64_t value) {
  const auto behind = btf.resolve(type);
  if (!behind) return {};
  for (const BtfEnumerator& each : btf.enumerators(*behind))
    if (each.value == value) return std::string(each.name);
  return {};
}

EnumNames EnumNames::from(const Btf& btf, TypeId type, std::string_view prefix) {
  EnumNames result;
  for (const bool deprecated_ones : {false, true}) {
    for (const BtfEnumerator& each : btf.enumerators(type)) {
      std::string_view name = stem(each.name, prefix);
      if (name.empty() || name.ends_with(kDeprecated) != deprecated_ones) continue;
      if (deprecated_ones) name.remove_suffix(kDeprecated.size());
      // The first of two names for one value stays: bpftool, too, says what libbpf lists first.
      result.names_.try_emplace(each.value, lower(name));
    }
  }
  return result;
}

Result<EnumNames> EnumNames::of(const Btf& btf, std::string_view enum_name,
                                std::string_view prefix) {
  for (const BtfKind kind : {BtfKind::kEnum, BtfKind::kEnum64})
    for (const TypeId id : btf.find_all(kind, enum_name)) {
      EnumNames names = from(btf, id, prefix);
      if (!names.names_.empty()) return names;
    }
  return fail(ErrorCode::kUnsupported, "BTF of {}: no enum {} with names that begin with {}",
              btf.name(), enum_name, prefix);
}

Result<EnumNames> EnumNames::containing(const Btf& btf, std::string_view enumerator,
                                        std::string_view prefix) {
  for (TypeId id = 0; id < btf.type_count(); ++id)
    for (const BtfEnumerator& each : btf.enumerators(id))
      if (each.name == enumerator) return from(btf, id, prefix);
  return fail(ErrorCode::kUnsupported, "BTF of {}: no enum has an enumerator {}", btf.name(),
              enumerator);
}

std::optional<std::string_view> EnumNames::name(std::uint64_t value) const {
  const auto found = names_.find(value);
  if (found == names_.end()) return std::nullopt;
  return found->second;
}

std::string EnumNames::name_or_number(std::uint64_t value, std::string_view kind) const {
  if (const auto known = name(value)) return std::string(*known);
  return fmt::format("{}_{}", kind, value);
}

std::optional<std::uint64_t> EnumNames::value(std::string_view name) const {
  for (const auto& [value, known] : names_)
    if (known == name) return value;
  return std::nullopt;
}

std::vector<std::string> EnumNames::flags(std::uint64_t bits) const {
  std::vector<std::string> result;
  for (unsigned bit = 0; bit < 64; ++bit) {
    const std::uint64_t flag = std::uint64_t{1} << bit;
    if ((bits & flag) == 0) continue;
    const auto known = name(flag);
    result.push_back(known ? std::string(*known) : fmt::format("bit_{}", bit));
  }
  return result;
}

}  // namespace guestscope
