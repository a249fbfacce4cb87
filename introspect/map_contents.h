// MapContents: what is in one BPF map, whole, in parts, or one entry of it.
//
// An entry has a key and a value (one for each CPU in per-CPU maps) as bytes, which somebody else
// prints by their types; or facts (a socket, the owner of the value, a symbolised stack); or both.
//
// A map may be larger than what one answer should hold or one stop of the guest should read. Its
// contents are therefore read in parts: each says where the next one begins (MapCursor). Which maps
// stop in the middle, and where, is the business of the readers of single types.
//
// Threads: called by the thread that owns the memory; contents are plain values that may travel.
// Fails with kUnsupported for a type of map that cannot be read, with kNotFound when the map is
// gone; damage inside is in the problems of the contents, and what could be read is still there.
// Source of truth: kernel/bpf/*map.c, named in each reader.
#pragma once

#include <functional>
#include <limits>
#include <memory>

#include "introspect/address_names.h"
#include "introspect/bpf_maps.h"
#include "introspect/btf_cache.h"
#include "introspect/facts.h"
#include "introspect/layouts.h"
#include "introspect/problem.h"

namespace guestscope {

/// Where in a map the next part begins: for arrays an index, for hash tables a bucket and the
/// element after which to go on, and so on. Means something for the same map only.
struct MapCursor {
  std::uint64_t position = 0;
  std::uint64_t after = 0;
  auto operator<=>(const MapCursor&) const = default;
};

struct MapPart {
  MapCursor from{};
  /// Entries wanted at most.
  std::uint64_t limit = std::numeric_limits<std::uint64_t>::max();
  bool operator==(const MapPart&) const = default;
};

/// Bytes of every value that the kernel keeps for itself (hidden_fields.h).
struct HiddenField {
  std::uint32_t offset = 0;
  std::uint32_t size = 0;
  std::uint8_t first_byte = 0;  ///< what a system call has there instead; zeros follow
};

enum class KeyForm : std::uint8_t {
  kNone,    ///< entries have no keys (queues)
  kIndex,   ///< 0, 1, …: shown as numbers; every index of the part is there
  kNumber,  ///< an index that is stored with each entry, since others are left out; shown as a
            ///< number
  kBytes,   ///< shown by the key's type
};

class MapContents {
 public:
  KeyForm keys = KeyForm::kBytes;
  /// Values are what the entry is shown by; otherwise its facts are, and the value is only what the
  /// system call would give (`?raw`, `?format=bpftool`).
  bool values_shown = true;
  std::vector<unsigned> cpus;  ///< of per-CPU maps, the CPU of each value; else empty
  std::size_t key_size = 0;
  std::size_t value_size = 0;
  std::shared_ptr<const Btf> btf{};  ///< empty: no types
  TypeId key_type = 0;               ///< 0: no type
  TypeId value_type = 0;
  std::vector<HiddenField> hidden{};
  FunctionNames functions{};  ///< that values point to
  Facts facts{};              ///< of the map as a whole: a ring buffer's positions
  /// What looking up any key of this map gives to user space instead of a value (an errno), as
  /// bpftool would show it; 0 when look-ups work.
  int lookup_error = 0;
  std::optional<MapCursor> next{};  ///< where the next part begins; empty after the last one
  Problems problems{};

  std::size_t size() const { return order_ ? order_->size() : count_; }
  std::size_t cells() const { return cpus.empty() ? 1 : cpus.size(); }
  /// The number that is the key, with KeyForm::kIndex and kNumber.
  std::uint64_t key_number(std::size_t record) const;
  /// The key's bytes; empty with kNone, and with kIndex (see key_number()).
  ByteSpan key(std::size_t record) const;
  /// The value, or that of the `cell`-th CPU; empty when it could not be read (see problems) or
  /// this type of map has none.
  std::optional<ByteSpan> value(std::size_t record, std::size_t cell = 0) const;
  /// Nothing when this type of map has none.
  const Facts& facts_of(std::size_t record) const;

 private:
  friend class ContentsBuilder;

  std::size_t place(std::size_t record) const { return order_ ? (*order_)[record] : record; }
  std::size_t record_bytes() const { return key_stride_ + value_stride_ * cells(); }

  std::uint64_t first_index_ = 0;  // with KeyForm::kIndex, that of the first record
  std::size_t key_stride_ = 0;
  std::size_t value_stride_ = 0;
  std::size_t count_ = 0;
  Bytes records_;
  std::vector<Facts> facts_;                         // by place; empty: none
  std::optional<std::vector<std::uint32_t>> order_;  // empty: as stored
  std::vector<bool> unreadable_;  // place * cells + cell; shorter when the rest is readable
};

/// What readers need beside the map: the guest, and what is known of its kernel.
struct MapReadContext {
  KernelMemory& memory;
  const KernelLocation& location;  ///< location.at(SYMBOL'S VALUE) is its run-time address
  const MapModel& model;
  Layouts& layouts;  ///< layouts.kernel() has the kernel's symbols and types
  BtfCache& types;
  std::size_t& budget;  ///< bytes that this answer may still hold; what is read is taken from it
  const PerCpuOffsets* per_cpu = nullptr;  ///< null while they are not ready
  /// An element of some hash table has had the hash that we compute. Kept for the kernel's life.
  bool& hash_proven;
};

/// What is in the map, in the order in which the kernel itself lists it, from part.from on. Less
/// than there is, with `next` set, when the limit or the budget is reached; types of map that
/// cannot stop in the middle ignore the limit and report what the budget makes them leave out.
Result<MapContents> read_map_contents(MapReadContext& context, const MapInfo& map,
                                      const MapPart& part = {});

/// Makes the bytes of a key from what the map's keys are (keys, key_size, btf, key_type).
using MakeKey = std::function<Result<Bytes>(const MapContents& shape)>;

/// The entry of one key, as the kernel would find it, without walking the map where its type allows
/// that. No entry in the contents: there is none. kInvalidArgument when the map has no keys.
Result<MapContents> read_map_entry(MapReadContext& context, const MapInfo& map,
                                   const MakeKey& make_key);

}  // namespace guestscope
