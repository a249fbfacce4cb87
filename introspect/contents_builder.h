// ContentsBuilder: how the readers of single kinds of map fill a MapContents. Internal to
// introspect/.
#pragma once

#include <functional>

#include "introspect/bpf_maps.h"

namespace guestscope {

class ContentsBuilder {
 public:
  /// `budget`: bytes that this answer may still hold; what is appended is taken from it.
  ContentsBuilder(const MapInfo& map, std::size_t& budget) : budget_(budget) {
    contents_.key_size = map.key_size;
    contents_.value_size = map.value_size;
  }

  void set_indexed() { contents_.indexed = true; }
  void set_cpus(std::vector<unsigned> cpus) { contents_.cpus = std::move(cpus); }
  /// Bytes from one key, or value, to the next inside the records.
  void set_strides(std::size_t key, std::size_t value) {
    contents_.key_stride_ = key;
    contents_.value_stride_ = value;
  }
  std::size_t record_bytes() const {
    return contents_.key_stride_ + contents_.value_stride_ * contents_.cells();
  }
  std::size_t count() const { return contents_.count_; }
  /// False, with a problem, when `more` records would exceed what one answer may hold.
  bool has_room(std::size_t more);

  /// Appends `n` zeroed records and returns their bytes; pointers into earlier records are void.
  std::span<std::byte> append(std::size_t n);
  std::span<std::byte> key_of(std::size_t record);
  std::span<std::byte> value_of(std::size_t record, std::size_t cell);
  void unreadable(std::size_t record, std::size_t cell) {
    const std::size_t index = record * contents_.cells() + cell;
    if (contents_.unreadable_.size() <= index) contents_.unreadable_.resize(index + 1);
    contents_.unreadable_[index] = true;
  }
  /// The order in which records are listed, by their place.
  void set_order(std::vector<std::uint32_t> order) { contents_.order_ = std::move(order); }

  Problems& problems() { return contents_.problems; }
  MapContents finish() { return std::move(contents_); }

 private:
  std::size_t& budget_;
  MapContents contents_;
};

inline std::size_t round_up_8(std::size_t size) { return (size + 7) & ~std::size_t{7}; }

/// The map is an array (elements side by side) or a per-CPU array (pointers side by side).
Result<void> read_array(MapReadContext& context, const MapInfo& map, bool per_cpu,
                        ContentsBuilder& builder);
/// The map is a hash table; per-CPU ones have a pointer in each element's value.
Result<void> read_hash(MapReadContext& context, const MapInfo& map, bool per_cpu,
                       ContentsBuilder& builder);

/// The map is a table of functions that the kernel calls (struct_ops): one value, of a type of the
/// kernel's.
Result<void> read_struct_ops(MapReadContext& context, const MapInfo& map, bool per_cpu,
                             ContentsBuilder& builder);

/// One value of each CPU of each given record, from the per-CPU pointer that belongs to it.
/// `where(i)` names the i-th of them for problems.
void read_per_cpu_values(MapReadContext& context, std::size_t first_record,
                         std::span<const GuestVirt> pointers, std::size_t value_size,
                         const std::function<std::string(std::size_t)>& where,
                         ContentsBuilder& builder);

}  // namespace guestscope
