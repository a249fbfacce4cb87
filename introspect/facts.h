// Facts: what is known of a thing, as a tree of named plain values, in the order in which it is to
// be told.
//
// For things whose fields differ from kind to kind (the owner of a stored value, a socket, a BPF
// link): decoders say what they found and somebody else prints it. Things that are always the same
// have a struct of their own.
//
// Names are lower case with underscores and are written down in docs/interface.md. A fact that the
// kernel does not have is left out; one that could not be read is null, and a problem says why.
// Text comes from the guest: not necessarily UTF-8. Threads: plain values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "arch/address.h"

namespace guestscope {

class FactValue;
struct Fact;
using Facts = std::vector<Fact>;
using FactList = std::vector<FactValue>;

/// Null, a truth value, a number, text, a guest address, a list or facts of its own.
class FactValue {
 public:
  using Variant = std::variant<std::monostate, bool, std::uint64_t, std::int64_t, double,
                               std::string, GuestVirt, FactList, Facts>;

  // Defined below: a Fact has to be complete where a list of them can be made or destroyed.
  FactValue();
  FactValue(const FactValue& other);
  FactValue(FactValue&& other) noexcept;
  FactValue& operator=(const FactValue& other);
  FactValue& operator=(FactValue&& other) noexcept;
  ~FactValue();
  FactValue(bool value);
  FactValue(std::uint64_t value);
  FactValue(std::int64_t value);
  FactValue(unsigned value);
  FactValue(int value);
  FactValue(double value);
  FactValue(std::string value);
  FactValue(const char* value);
  FactValue(GuestVirt value);
  FactValue(FactList value);
  FactValue(Facts value);

  const Variant& get() const { return value_; }

 private:
  Variant value_;
};

struct Fact {
  std::string name;
  FactValue value;
};

inline FactValue::FactValue() = default;
inline FactValue::FactValue(const FactValue& other) = default;
inline FactValue::FactValue(FactValue&& other) noexcept = default;
inline FactValue& FactValue::operator=(const FactValue& other) = default;
inline FactValue& FactValue::operator=(FactValue&& other) noexcept = default;
inline FactValue::~FactValue() = default;
inline FactValue::FactValue(bool value) : value_(value) {}
inline FactValue::FactValue(std::uint64_t value) : value_(value) {}
inline FactValue::FactValue(std::int64_t value) : value_(value) {}
inline FactValue::FactValue(unsigned value) : value_(std::uint64_t{value}) {}
inline FactValue::FactValue(int value) : value_(std::int64_t{value}) {}
inline FactValue::FactValue(double value) : value_(value) {}
inline FactValue::FactValue(std::string value) : value_(std::move(value)) {}
inline FactValue::FactValue(const char* value) : value_(std::string(value)) {}
inline FactValue::FactValue(GuestVirt value) : value_(value) {}
inline FactValue::FactValue(FactList value) : value_(std::move(value)) {}
inline FactValue::FactValue(Facts value) : value_(std::move(value)) {}

/// The fact with that name, or behind a path of names: "cfs.nr_running". Null: there is none.
inline const FactValue* find_fact(const Facts& facts, std::string_view path) {
  const std::size_t dot = path.find('.');
  for (const Fact& fact : facts) {
    if (fact.name != path.substr(0, dot)) continue;
    if (dot == path.npos) return &fact.value;
    const Facts* inner = std::get_if<Facts>(&fact.value.get());
    return inner == nullptr ? nullptr : find_fact(*inner, path.substr(dot + 1));
  }
  return nullptr;
}

}  // namespace guestscope
