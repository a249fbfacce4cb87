// Processor: what is asked of a processor, whichever it is: which registers decide paging, which
// page tables they name, and where in these a Linux kernel image may lie. One object for each
// machine, without state.
//
// Threads: immutable; any thread may call anything. Only find_kernel_images() blocks (it reads
// guest memory).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "arch/kernel_image.h"
#include "arch/machine.h"
#include "arch/paging.h"

namespace guestscope {

struct RegisterNeed {
  std::string_view name;  ///< as a stub's target description gives it
  bool optional = false;  ///< reads as 0 where the stub does not have it
};

inline constexpr std::size_t kMaxPagingRegisters = 8;

/// Values of Processor::registers(), in their order; the rest is 0.
struct PagingRegisters {
  Machine machine = Machine::kOther;
  std::array<std::uint64_t, kMaxPagingRegisters> values{};

  bool operator==(const PagingRegisters&) const = default;
};

class Processor {
 public:
  Processor() = default;
  Processor(const Processor&) = delete;
  Processor& operator=(const Processor&) = delete;
  virtual ~Processor() = default;

  virtual Machine machine() const = 0;
  virtual std::span<const RegisterNeed> registers() const = 0;
  /// Translation is on, in a mode that a 64-bit Linux kernel runs in.
  virtual bool paging_enabled(const PagingRegisters& registers) const = 0;
  /// The trees that may be the kernel's, likeliest first; empty when paging is off or configured as
  /// no Linux kernel does.
  virtual std::vector<std::shared_ptr<const PagingRegime>> regimes(
      const PagingRegisters& registers) const = 0;
  /// Of which one is the per-CPU base (__per_cpu_offset) of the CPU that has these registers, while
  /// a Linux with its direct map at `page_offset` runs there; empty where no register tells, or
  /// where another boot would have the same.
  virtual std::vector<std::uint64_t> per_cpu_bases(const PagingRegisters& /*registers*/,
                                                   GuestVirt /*page_offset*/) const {
    return {};
  }
  /// Mapped ranges that may be a kernel image, likeliest first. kNotReady when there is none.
  virtual Result<std::vector<KernelImage>> find_kernel_images(const PagingRegime& regime,
                                                              PhysMemory& memory) const = 0;
};

/// Null for kOther.
const Processor* find_processor(Machine machine);
/// By the name that a stub's target description gives the architecture: "i386:x86-64", "aarch64".
/// kOther when unknown.
Machine machine_of_architecture(std::string_view gdb_name);

}  // namespace guestscope
