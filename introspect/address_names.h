// AddressNames: what the kernel would call the code at an address: "do_idle+0x1a",
// "nf_hook+0x31 [nf_tables]", "bpf_prog_6deef7357e7b4530_count+0x1c [bpf]".
//
// Three sources, for as many addresses at once as possible: the kernel's symbols (one pass over
// them, no reading), and for what lies outside its image the trees in which the kernel itself looks
// up BPF code and modules (an exchange for each of their levels), then the symbols of the modules
// that were met. Nothing is remembered from one call to the next.
//
// Borrows what it is given. Threads: one. Nothing fails: what cannot be told has no name.
// Source of truth: kernel/kallsyms.c, kernel/bpf/core.c (bpf_tree), kernel/module/tree_lookup.c,
// kernel/module/kallsyms.c, include/linux/rbtree_latch.h.
#pragma once

#include <map>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "introspect/kernel_location.h"
#include "introspect/layouts.h"

namespace guestscope {

/// What functions are called, by their addresses.
using FunctionNames = std::unordered_map<std::uint64_t, std::string>;

class AddressNames {
 public:
  AddressNames(KernelMemory& memory, const KernelLocation& location, Layouts& layouts)
      : memory_(&memory), location_(&location), layouts_(&layouts) {}

  /// For each address its name; empty when it has none: no code, or user space's.
  std::vector<std::string> of(std::span<const GuestVirt> addresses);
  std::string of(GuestVirt address) { return std::move(of(std::span(&address, 1)).front()); }

  /// The names of those that are in functions, by themselves: "do_idle" where it begins,
  /// "do_idle+0x1a" inside of it.
  FunctionNames functions(std::span<const GuestVirt> addresses);

  /// Whether it can be the kernel's: the upper half of the address space.
  static bool is_kernel(GuestVirt address) { return address.value() >> 63 != 0; }

 private:
  struct Place {
    std::string name{};  ///< empty: none
    std::uint64_t offset = 0;
    std::string owner{};  ///< what stands in brackets: a module's name; empty for the kernel itself
    bool in_function = false;
  };
  using Names = std::map<std::uint64_t, Place>;

  Names find(std::span<const GuestVirt> addresses);
  void name_image(Names& names) const;
  void name_bpf(Names& names);
  void name_modules(Names& names);
  void name_in_module(GuestVirt module, std::span<const std::uint64_t> addresses, Names& names);

  KernelMemory* memory_;
  const KernelLocation* location_;
  Layouts* layouts_;
};

}  // namespace guestscope
