// BTF objects: the types that programs have loaded, the kernel's own and its modules'.
//
// Threads: called by the thread that owns the memory; the results are plain values. Fails with
// kUnsupported when the kernel's symbols lack the list, and as reading its root fails.
// Source of truth: kernel/bpf/btf.c.
#pragma once

#include "introspect/bpf_progs.h"

namespace guestscope {

struct BtfInfo {
  std::uint64_t id = 0;
  GuestVirt address;          ///< of the struct btf
  std::string name;           ///< "vmlinux", a module's; empty for what programs have loaded
  std::uint64_t size = 0;     ///< bytes
  bool kernel = false;        ///< the kernel's own or a module's
  std::uint64_t base_id = 0;  ///< the object that it continues; 0: none
  std::vector<std::uint64_t> prog_ids{};
  std::vector<std::uint64_t> map_ids{};
  GuestVirt data;
};

struct BtfObjectList {
  std::vector<BtfInfo> objects;  ///< in id order
  Problems problems;
};

Result<BtfObjectList> read_btf_objects(ProgReadContext& context);

/// The object's own bytes; of a module's types, without the kernel's that they continue.
Result<Bytes> read_btf_bytes(ProgReadContext& context, const BtfInfo& object);

}  // namespace guestscope
