// KernelModel: everything that the kernel file says and the decoders need (symbols, layouts, names
// of enumerators), bound once when the file is opened, before any guest is looked at.
//
// Each part is bound on its own: a kernel without BPF still has run queues. A part that cannot be
// bound keeps the one error that lists all that is missing, and whoever needs the part passes it
// on; it is permanent.
//
// Addresses here are link-time values; KernelLocation turns them into run-time ones.
// Threads: immutable after bind().
#pragma once

#include <memory>

#include "arch/address.h"
#include "arch/result.h"
#include "introspect/enum_names.h"
#include "introspect/kernel_file.h"
#include "introspect/layout.h"

namespace guestscope {

/// Marks in the image that tell where it lies, which kernel it is and how far it has booted.
struct BootModel {
  std::uint64_t text = 0;            ///< _text; _stext where only functions have symbols
  std::optional<std::uint64_t> end;  ///< _end
  std::optional<std::uint64_t> notes_begin;
  std::uint64_t notes_size = 0;
  std::uint64_t banner = 0;
  std::optional<std::uint64_t> root_table;  ///< x86-64: init_top_pgt
  /// What the first mapped byte of the image may be: _text, or _stext where the kernel leaves its
  /// header unmapped (arm64).
  std::vector<std::uint64_t> image_begins;
  std::optional<std::uint64_t> phys_base;      ///< x86-64
  std::optional<std::uint64_t> page_offset;    ///< page_offset_base; absent with a static layout
  std::optional<std::uint64_t> vmalloc_begin;  ///< vmalloc_base; likewise
  std::optional<std::uint64_t> memstart;       ///< arm64: memstart_addr
  std::optional<std::uint64_t> image_voffset;  ///< arm64: kimage_voffset
  std::optional<std::uint64_t> boot_canary;    ///< init_task.stack_canary: random for each boot
  std::optional<std::uint64_t> system_state;
  std::optional<std::uint64_t> jiffies;     ///< advances while some CPU does something
  std::optional<std::uint64_t> vmcoreinfo;  ///< vmcoreinfo_data, a pointer
  EnumNames system_states;
};

/// An IDR: a tree (xarray) from ids to pointers.
struct IdrModel {
  enum Idr : std::size_t { kHead, kBase };
  enum Node : std::size_t { kShift, kSlots };
  StructLayout idr;
  StructLayout node;
};

/// `struct btf`: a BTF object as the kernel holds it. A kernel module's is split from the kernel's
/// own (since 5.11).
struct BtfObjectModel {
  enum Field : std::size_t {
    kData,
    kDataSize,
    kId,
    kBase,
    kIsKernel,
    kFirstId,
    kFirstString,
    kName,
  };
  StructLayout layout;
};

struct MapModel {
  enum Map : std::size_t {
    kType,
    kKeySize,
    kValueSize,
    kMaxEntries,
    kFlags,
    kId,
    kKeyTypeId,
    kValueTypeId,
    kVmlinuxValueTypeId,
    kBtf,
    kName,
    kFrozen,
    kRefcount,
    kExtra,
  };
  enum Array : std::size_t { kElemSize, kValues };
  enum Htab : std::size_t { kBuckets, kBucketCount, kElements, kElementBytes, kSeed };
  enum Bucket : std::size_t { kFirst };
  enum Elem : std::size_t { kNext, kKey, kHash };
  enum StructOps : std::size_t {
    kUserValue,
    kKernelValue,
    kState,
    kUses,
    kReferences,
    kUserReferences,
    kValueBtf,
  };

  std::uint64_t idr_symbol = 0;  ///< map_idr
  /// btf_vmlinux, a pointer to the kernel's own BTF object once something has asked for it.
  std::optional<std::uint64_t> kernel_btf;
  IdrModel idr;
  BtfObjectModel btf;
  StructLayout map;
  StructLayout array;
  StructLayout htab;
  StructLayout bucket;
  StructLayout elem;
  std::optional<StructLayout> struct_ops;  ///< kernels with CONFIG_BPF_JIT
  EnumNames types;
  EnumNames flags;
};

struct ProgModel {
  enum Prog : std::size_t {
    kType,
    kJited,
    kLen,
    kJitedLen,
    kTag,
    kStats,
    kAux,
    kPages,
    kGpl,
    kProgSleepable,
    kAttachType,
    kCode,
    kInsns,
  };
  enum Aux : std::size_t {
    kId,
    kUsedMapCount,
    kUsedMaps,
    kLoadTime,
    kVerifiedInsns,
    kUser,
    kName,
    kBtf,
    kFuncCount,
    kFuncs,
    kRefcount,
    kAuxStats,
    kSleepable,
    kAttachName,
    kAttachTypeId,
    kAttachBtf,
    kTargetProg,
    kFuncInfo,
    kFuncInfoCount,
    kFuncIndex,
    kExceptions,
    kOffload,
  };
  enum Stats : std::size_t { kRuns, kNanoseconds, kMisses };
  enum User : std::size_t { kUid };
  enum MapId : std::size_t { kMapId };

  std::uint64_t idr_symbol = 0;  ///< prog_idr
  std::optional<std::uint64_t> stats_key;
  IdrModel idr;
  BtfObjectModel btf;
  StructLayout prog;
  StructLayout aux;
  StructLayout stats;
  StructLayout user;
  StructLayout map;
  StructLayout key;  ///< static_key_false
  EnumNames types;
  EnumNames attach_types;
};

struct PerCpuModel {
  std::uint64_t offsets = 0;  ///< __per_cpu_offset[]
  std::uint64_t possible = 0;
  std::uint64_t online = 0;
  std::size_t mask_bytes = 0;  ///< sizeof(struct cpumask)
  std::optional<std::uint64_t>
      unset_offset;  ///< __per_cpu_load: what an unset slot holds on some kernels
};

struct RunQueueModel {
  std::uint64_t runqueues = 0;  ///< the per-CPU symbol
  /// Link-time addresses of the scheduling classes that this kernel has, with our names ("fair").
  std::vector<std::pair<std::uint64_t, std::string>> classes;
};

struct KernelModel {
  std::shared_ptr<const KernelFile> file;
  Result<BootModel> boot;
  Result<MapModel> maps;
  Result<ProgModel> progs;
  Result<PerCpuModel> per_cpu;
  Result<RunQueueModel> run_queues;

  static std::shared_ptr<const KernelModel> bind(std::shared_ptr<const KernelFile> file);
};

}  // namespace guestscope
