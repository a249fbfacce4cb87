// HashWalk: the elements of a `struct bpf_htab` as records of a ContentsBuilder. Internal to
// introspect/.
//
// The table is an array of buckets, each the head of a chain of elements. All chains of a range of
// buckets are followed side by side, one exchange for every depth: element after element they would
// cost an exchange each. A chain does not end in a null pointer but in an odd value that names its
// bucket (hlist_nulls); an element that has moved to another bucket is noticed by that, and by its
// hash.
//
// Preallocated tables have all their elements in one array. Where it pays (load_slots), that array
// is read as a whole, elements become records in its order, and the chains are followed without
// the guest; the listing order then leaves out the elements that are free.
//
// Borrows its context, map and builder. Threads: one. Fails only when the table as a whole makes no
// sense; what is damaged inside it is in the builder's problems.
// Source of truth: kernel/bpf/hashtab.c.
#pragma once

#include <set>

#include "introspect/contents_builder.h"

namespace guestscope {

/// What a hash table stores as its values.
enum class HashForm : std::uint8_t {
  kValues,
  kPerCpu,  ///< a per-CPU pointer each: the records have a value for each CPU
};

/// Where a table's parts are, and what an element consists of.
struct HashTable {
  static Result<HashTable> read(MapReadContext& context, const MapInfo& map, HashForm form);

  std::uint32_t hash_of(ByteSpan element, const BoundField& field) const {
    return static_cast<std::uint32_t>(load_le(element.data() + field.offset, field.size));
  }

  GuestVirt buckets;
  std::uint64_t bucket_count = 0;  ///< a power of two
  GuestVirt slots;                 ///< the array of all elements; null when there is none
  std::uint64_t slot_bytes = 0;    ///< from one element of it to the next
  std::optional<std::uint32_t> seed{};
  std::size_t key_offset = 0;
  std::size_t key_bytes = 0;
  std::size_t value_offset = 0;  ///< from the element's beginning
  std::size_t value_bytes = 0;   ///< as stored: a pointer has 8
  std::size_t read_bytes = 0;    ///< of an element, all that is of interest
};

class HashWalk {
 public:
  HashWalk(MapReadContext& context, const MapInfo& map, const HashTable& table, HashForm form,
           ContentsBuilder& builder);

  /// A chain ends with the element of that key. Borrowed.
  void stop_at_key(ByteSpan key) { wanted_key_ = key; }
  /// Reads the heads of `count` buckets from `first` on and follows their chains.
  void follow_buckets(std::uint64_t first, std::uint64_t count);
  /// Reads the array of all elements. To be called before any bucket is followed.
  void load_slots();
  /// Elements that have been listed.
  std::size_t listed() const { return owners_.size(); }
  /// Nothing more can be taken: problems say why.
  bool full() const { return full_; }
  /// Some element's hash could be compared with what its key gives; the first answer stands.
  std::optional<bool> hash_is_ours() const { return hash_is_ours_; }
  /// Puts the records into the order of listing: bucket by bucket, each in chain order; of a chain
  /// with a cycle every element once, and every key once. Those of the first bucket up to the
  /// element at part.from.after are left out, and so are those beyond the part's limit: the next
  /// part then begins there. (A part ends with a bucket when it can.)
  void finish();

 private:
  /// The end of one chain as far as it has been followed; with Brent's search for a cycle: `mark`
  /// is an earlier element, moved up whenever the number of steps since then reaches a power of
  /// two.
  struct Chain {
    std::uint32_t bucket = 0;
    std::uint64_t next = 0;  // address of the element to read, or the odd end value
    std::uint64_t mark = 0;
    std::uint32_t steps = 0;
    std::uint32_t power = 1;

    bool ended() const { return (next & 1) != 0; }
  };
  struct Owner {
    std::uint32_t bucket = 0;
    std::uint32_t record = 0;
  };
  struct Slot {
    std::uint64_t next = 0;
    std::uint32_t hash = 0;
    bool readable = false;
  };
  /// What may be the per-CPU pointers of some elements, from the two places where kernels put them.
  struct PerCpuPointers {
    std::vector<GuestVirt> aligned;
    std::vector<GuestVirt> unaligned;
    std::vector<std::uint32_t> buckets;
  };

  void take_slots(std::size_t first, ByteSpan bytes);
  void take_buckets(std::uint64_t first, ByteSpan heads, std::vector<Chain>& chains);
  void follow(std::vector<Chain> chains);
  bool keep(const Chain& chain);
  bool ends_in_slots(Chain& chain);
  void read_depth(std::span<Chain> chains, std::vector<Chain>& rest);
  bool has_room(std::size_t more);
  bool take(Chain& chain, std::size_t record, std::uint32_t hash, std::uint64_t next);
  void copy_element(ByteSpan element, std::size_t record);
  void read_per_cpu(const PerCpuPointers& found, std::size_t first_record);
  bool lead_somewhere(std::span<const GuestVirt> pointers);
  void compare_hash(ByteSpan element);
  std::optional<std::size_t> slot_at(std::uint64_t address) const;
  std::uint64_t address_of(std::size_t record) const;
  void report(const Chain& chain, const char* what);
  void drop_replaced(std::vector<Owner>& order);
  void cut(std::vector<Owner>& order);

  MapReadContext& context_;
  const MapInfo& map_;
  const HashTable& table_;
  HashForm form_;
  ContentsBuilder& builder_;
  ByteSpan wanted_key_;
  std::vector<Slot> slots_;               // by their place in the array; records of the same place
  std::vector<std::uint64_t> addresses_;  // of the records behind those
  std::vector<Owner> owners_;
  std::set<std::uint32_t> looping_;
  std::optional<bool> pointer_follows_key_;  // once there were elements to tell by
  std::optional<bool> hash_is_ours_;
  bool full_ = false;
};

}  // namespace guestscope
