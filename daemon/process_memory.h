// ProcessMemory: the guest's memory, read from the QEMU process that holds it.
//
// One system call (process_vm_readv) for up to 1024 pieces, at memory speed, while the guest runs
// or stands still: nothing is asked of the stub. So nothing keeps the guest from changing what is
// read meanwhile; whoever wants one instant stops it.
//
// Whose bytes they are. process_vm_readv() goes by pid, which the kernel gives to somebody else
// once QEMU has gone, and QEMU may replace itself by exec (migration mode cpr-exec). So after each
// batch it is checked, by a pidfd and by an open /proc/PID/mem, that the process and its address
// space are still the ones that were opened; if not, nothing that was read is served. That they
// hold this guest, prove() makes sure of, once, before use.
//
// Where things are is found out when opening and by refresh(), which is due when the RAM map
// changes (memory plugged in, a reboot). still_mapped() is the cheap look in between, without the
// monitor: memory that was unplugged may have been replaced by something else at its address.
//
// A page that QEMU has not touched yet is made by reading it, as it is by the stub's reads: on a
// memfd, a file or huge pages that takes memory of the host. Incoming postcopy migration: a read
// waits until the page has come.
//
// Threads: one. read() never waits for the guest or the stub.
// Errors of reads: kNotRam outside the RAM that covers() knows; kNotMapped: the page cannot be read
// (a truncated file behind it); kUnreachable, the whole batch: QEMU has ended; kSystem, the whole
// batch: the kernel refuses. After the last two, open anew.
// Source of truth: process_vm_readv(2), pidfd_open(2), proc(5), Linux fs/proc/base.c (mem_rw).
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "arch/phys_memory.h"
#include "daemon/file_descriptor.h"
#include "daemon/host_ram.h"
#include "daemon/qemu_process.h"

namespace guestscope {

class ProcessMemory final : public PhysMemory {
 public:
  /// Of the processes that have the other end of a stub's connection (processes_behind()), the
  /// first whose memory is proven to be the guest's, which the stub holds now; else why the first
  /// is not.
  static Result<std::unique_ptr<ProcessMemory>> choose(std::vector<QemuProcess> candidates,
                                                       const Monitor& monitor, PhysMemory& stub);
  /// Not proven yet. kSystem: not permitted; kMismatch: the process does not have the memory.
  static Result<std::unique_ptr<ProcessMemory>> open(QemuProcess process, const Monitor& monitor);

  /// Compares pages read both ways, first and last ones of each range and others at random, while
  /// the stub holds the guest. kMismatch: they differ. kNotReady: hardly a
  /// page is not all zero, which proves nothing; the guest has just begun.
  Result<void> prove(PhysMemory& stub);

  void read(std::span<PhysRead> reads) override;

  /// read() in three steps, for who has stopped the guest for the second one: finds out where the
  /// bytes are (some reads get their errors now); copies them; says whether the process is still
  /// the one that was opened. If not, nothing that was copied is to be used. `reads` are borrowed
  /// until the last step.
  void prepare(std::span<PhysRead> reads);
  void copy();
  Result<void> confirm();

  /// All of it can be read here. RAM where it is not can be read through the stub.
  bool covers(GuestPhys address, std::uint64_t size) const;
  const HostRam& ram() const { return ram_; }
  const QemuProcess& process() const { return process_; }

  /// Asks anew where the RAM is. What was proven stays so: the address space is the same.
  Result<void> refresh(const Monitor& monitor);
  /// kMismatch: what was mapped where RAM is has changed: refresh() and prove(). Takes as long as
  /// the kernel needs to list the process's areas, some 0.1 to 1 ms.
  Result<void> still_mapped() const;

 private:
  ProcessMemory(QemuProcess process, FileDescriptor memory);

  const HostRange* range_at(std::uint64_t guest) const;
  Result<void> probe() const;
  void add(std::size_t index);
  std::optional<Error> gone() const;
  void add_resident(const FileDescriptor& pagemap, std::uint64_t guest, std::size_t around,
                    std::vector<std::uint64_t>& pages);
  Result<std::vector<std::uint64_t>> pages_to_compare();
  std::uint64_t random_page();

  QemuProcess process_;
  FileDescriptor memory_;  // its /proc/PID/mem
  HostRam ram_;
  std::mt19937_64 random_;

  // Of the batch under way: its reads, the pieces, and the read that each belongs to.
  std::span<PhysRead> reads_;
  std::vector<iovec> local_;
  std::vector<iovec> remote_;
  std::vector<std::size_t> owner_;
  std::optional<Error> fatal_;
};

}  // namespace guestscope
