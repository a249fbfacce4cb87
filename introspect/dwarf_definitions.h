// DwarfDefinitions: the different types that a DWARF file defines, one DIE for each.
//
// Threads: none. Nothing fails. Points into the Dwarf.
#pragma once

#include <elfutils/libdw.h>

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "introspect/dwarf_shape.h"

namespace guestscope {

class DwarfDefinitions {
 public:
  struct Definition {
    Dwarf_Die die;
    Shape shape;
  };

  /// A structure, union or enum with a name; see name_shape().
  void add(const Dwarf_Die& die, Shape name, Shape shape) {
    by_name_[name].push_back(static_cast<std::uint32_t>(named_.size()));
    named_.push_back({die, shape});
  }
  /// A base type, typedef or anonymous enum.
  void add_other(const Dwarf_Die& die) { others_.push_back(die); }

  bool empty() const { return named_.empty(); }
  const std::vector<Definition>& named() const { return named_; }
  const std::vector<Dwarf_Die>& others() const { return others_; }
  /// Indexes into named().
  const std::vector<std::uint32_t>& of_name(Shape name) const {
    static const std::vector<std::uint32_t> kNone;
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? kNone : found->second;
  }

 private:
  std::vector<Definition> named_;
  std::vector<Dwarf_Die> others_;
  std::unordered_map<Shape, std::vector<std::uint32_t>> by_name_;
};

}  // namespace guestscope
