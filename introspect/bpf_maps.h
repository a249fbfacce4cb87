// BPF maps: which there are, and what is in them.
//
// Threads: called by the thread that owns the memory; the results are plain values that may travel.
// Source of truth: include/linux/bpf.h, kernel/bpf/arraymap.c, kernel/bpf/hashtab.c,
// kernel/bpf/bpf_struct_ops.c.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "introspect/accessors.h"
#include "introspect/btf_cache.h"
#include "introspect/problem.h"

namespace guestscope {

struct MapInfo {
  std::uint64_t id = 0;
  GuestVirt address;
  std::string name;  ///< guest bytes: not necessarily UTF-8
  std::string type;  ///< "percpu_hash"; "type_40" when the kernel's own types have no name for it
  std::uint64_t key_size = 0;    ///< bytes
  std::uint64_t value_size = 0;  ///< bytes
  std::uint64_t max_entries = 0;
  std::uint64_t flags = 0;
  std::vector<std::string> flag_names;
  bool frozen = false;
  GuestVirt btf_object;      ///< null: no types
  std::uint64_t btf_id = 0;  ///< 0: no types
  TypeId btf_key_type_id = 0;
  TypeId btf_value_type_id = 0;
  TypeId btf_vmlinux_value_type_id = 0;
};

struct MapList {
  std::vector<MapInfo> maps;  ///< in id order
  Problems problems;
};

Result<MapList> read_maps(KernelMemory& memory, const MapModel& model, const MapAccessor& accessor);

/// Keys and values of one map as bytes: records of one size, each a key and one value or one for
/// each CPU.
class MapContents {
 public:
  bool indexed = false;        ///< keys are the numbers 0, 1, …: the record's place
  std::vector<unsigned> cpus;  ///< of per-CPU maps, the CPU of each value; else empty
  std::size_t key_size = 0;
  std::size_t value_size = 0;
  std::shared_ptr<const Btf> btf{};  ///< empty: no types
  TypeId key_type = 0;               ///< 0: no type
  TypeId value_type = 0;
  Problems problems{};

  std::size_t size() const { return order_ ? order_->size() : count_; }
  std::size_t cells() const { return cpus.empty() ? 1 : cpus.size(); }
  ByteSpan key(std::size_t record) const;
  /// The value, or that of the `cell`-th CPU; empty when it could not be read (see problems).
  std::optional<ByteSpan> value(std::size_t record, std::size_t cell = 0) const;

 private:
  friend class ContentsBuilder;

  std::size_t place(std::size_t record) const { return order_ ? (*order_)[record] : record; }

  std::size_t key_stride_ = 0;
  std::size_t value_stride_ = 0;
  std::size_t count_ = 0;
  Bytes records_;
  std::optional<std::vector<std::uint32_t>> order_;  // empty: as stored
  std::vector<bool> unreadable_;  // record * cells + cell; shorter when the rest is readable
};

struct MapReadContext {
  KernelMemory& memory;
  const MapModel& model;
  BtfCache& types;
  std::size_t& budget;  ///< bytes that this answer may still hold (kMaxContentBytes at first)
  const PerCpuOffsets* per_cpu = nullptr;  ///< needed for per-CPU maps only
  GuestVirt kernel_btf{};  ///< where the pointer btf_vmlinux is; null when that is not known
};

/// Everything in the map, in the order in which the kernel itself lists it. kUnsupported for a kind
/// of map that cannot be read; damage inside is in the problems of the contents, and what could be
/// read is still there.
Result<MapContents> read_map_contents(MapReadContext& context, const MapInfo& map);

}  // namespace guestscope
