// ContentsBuilder: how the readers of single types of map fill a MapContents; and the list of those
// readers. Internal to introspect/.
#pragma once

#include <algorithm>
#include <functional>

#include "introspect/map_contents.h"

namespace guestscope {

class ContentsBuilder {
 public:
  /// `part`: what is wanted. `budget`: bytes that this answer may still hold; what is appended is
  /// taken from it.
  ContentsBuilder(const MapInfo& map, const MapPart& part, std::size_t& budget)
      : part_(part), budget_(&budget) {
    contents_.key_size = map.key_size;
    contents_.value_size = map.value_size;
  }

  const MapPart& part() const { return part_; }
  void set_part(const MapPart& part) { part_ = part; }

  /// Keys are the numbers from `first` on, and are not stored.
  void set_indexed(std::uint64_t first) {
    contents_.keys = KeyForm::kIndex;
    contents_.first_index_ = first;
  }
  void set_keys(KeyForm keys) { contents_.keys = keys; }
  /// Entries are shown by their facts, and not by their values (which may be there as well).
  void show_facts_only() { contents_.values_shown = false; }
  void set_lookup_error(int error) { contents_.lookup_error = error; }
  void set_cpus(std::vector<unsigned> cpus) { contents_.cpus = std::move(cpus); }
  /// Bytes from one key, or value, to the next inside the records. 0: there are none.
  void set_strides(std::size_t key, std::size_t value) {
    contents_.key_stride_ = key;
    contents_.value_stride_ = value;
  }
  /// For maps whose values have another size than the map says (0, of an arena's pages).
  void set_value_size(std::size_t size) { contents_.value_size = size; }
  /// Keys and values have these types, whatever the map says of them. 0: no type.
  void set_types(std::shared_ptr<const Btf> btf, TypeId key, TypeId value) {
    contents_.btf = std::move(btf);
    contents_.key_type = key;
    contents_.value_type = value;
  }
  std::size_t record_bytes() const { return contents_.record_bytes(); }
  std::size_t count() const { return contents_.count_; }

  /// How many of `wanted` more records the part's limit and the size of a part allow (at least one,
  /// unless the limit is reached).
  std::uint64_t room(std::uint64_t wanted) const;
  /// The records so far are enough for one part.
  bool part_is_full() const;
  std::size_t budget() const { return *budget_; }
  /// For readers that cannot stop in the middle: false, with a problem, when `more` records would
  /// exceed the budget.
  bool has_room(std::size_t more);
  /// Takes so many bytes from the budget for what is held beside the records: facts, and what the
  /// reader itself remembers.
  void charge(std::size_t bytes) { *budget_ -= std::min(*budget_, bytes); }
  /// The next part begins there.
  void stop_at(MapCursor next) { contents_.next = next; }

  /// Appends `n` zeroed records and returns their bytes; pointers into earlier records are void.
  std::span<std::byte> append(std::size_t n);
  /// Appends one record with that key and value (shorter ones leave zeros) and returns its place.
  std::size_t add(ByteSpan key, ByteSpan value);
  /// The same, with an index for a key (KeyForm::kNumber; a key stride of at least 4).
  std::size_t add(std::uint32_t index, ByteSpan value);
  std::span<std::byte> key_of(std::size_t record);
  std::span<std::byte> value_of(std::size_t record, std::size_t cell);
  void set_facts(std::size_t record, Facts facts);
  void add_map_fact(std::string name, FactValue value) {
    contents_.facts.push_back({.name = std::move(name), .value = std::move(value)});
  }
  void unreadable(std::size_t record, std::size_t cell) {
    const std::size_t index = record * contents_.cells() + cell;
    if (contents_.unreadable_.size() <= index) contents_.unreadable_.resize(index + 1);
    contents_.unreadable_[index] = true;
  }
  /// The order in which records are listed, by their place. Records that it lacks are left out.
  void set_order(std::vector<std::uint32_t> order) { contents_.order_ = std::move(order); }

  /// The places of the records that are listed, in that order.
  std::vector<std::uint32_t> listed() const;
  /// Leaves out the records for which `wanted(contents, record)` is false.
  void keep_if(const std::function<bool(const MapContents&, std::size_t)>& wanted);

  Problems& problems() { return contents_.problems; }
  /// Has what `other` has, instead of its own.
  void take(ContentsBuilder& other) { contents_ = std::move(other.contents_); }

  const MapContents& contents() const { return contents_; }
  MapContents finish() { return std::move(contents_); }

 private:
  MapPart part_;
  std::size_t* budget_;
  MapContents contents_;
};

inline std::size_t round_up_8(std::size_t size) { return (size + 7) & ~std::size_t{7}; }

/// How maps of one type are read.
struct MapReader {
  using List = Result<void> (*)(MapReadContext&, const MapInfo&, ContentsBuilder&);
  using Find = Result<void> (*)(MapReadContext&, const MapInfo&, ByteSpan key, ContentsBuilder&);

  std::string_view type;  ///< "percpu_hash"
  List list;              ///< entries from builder.part() on
  /// At most one entry, that of the key. For array-like maps (whose lists begin at the index
  /// part.from.position) find_by_index; null: the map has no keys.
  Find find;
  bool per_cpu = false;  ///< a value for each CPU: context.per_cpu is there, cpus are set
};

/// The types of the map's keys and values, as find_types() gives them to the contents. Fails with
/// kNotFound when the map has none.
Result<std::shared_ptr<const Btf>> types_of(MapReadContext& context, const MapInfo& map);

/// For maps whose keys are indexes below max_entries: a list of one.
Result<void> find_by_index(MapReadContext& context, const MapInfo& map, ByteSpan key,
                           ContentsBuilder& builder);
/// For small maps that know no faster way: the list, from which the key's entry is kept.
Result<void> find_by_listing(MapReadContext& context, const MapInfo& map, ByteSpan key,
                             ContentsBuilder& builder);

/// The readers of each source file: added up in map_contents.cc.
std::span<const MapReader> arena_readers();
std::span<const MapReader> array_readers();
std::span<const MapReader> hash_readers();
std::span<const MapReader> insn_array_readers();
std::span<const MapReader> lpm_readers();
std::span<const MapReader> queue_readers();
std::span<const MapReader> rhash_readers();
std::span<const MapReader> ring_readers();
std::span<const MapReader> stack_readers();
std::span<const MapReader> struct_ops_readers();
std::span<const MapReader> reference_readers();
std::span<const MapReader> device_readers();
std::span<const MapReader> socket_readers();
std::span<const MapReader> storage_readers();
std::span<const MapReader> cgroup_storage_readers();

/// One value of each CPU of each given record, from the per-CPU pointer that belongs to it.
/// `where(i)` names the i-th of them for problems.
void read_per_cpu_values(MapReadContext& context, std::size_t first_record,
                         std::span<const GuestVirt> pointers, std::size_t value_size,
                         const std::function<std::string(std::size_t)>& where,
                         ContentsBuilder& builder);

}  // namespace guestscope
