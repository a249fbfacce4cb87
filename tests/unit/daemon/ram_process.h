// RamProcess: a child process that has memory as QEMU has a guest's RAM, and does with it what it
// is told; RamMonitor: the monitor that says where; sockets whose other end a child has.
//
// The child forks without exec, so it inherits every descriptor that is open then, and is killed by
// the destructor or, should the test die, by the kernel.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "arch/phys_memory.h"
#include "daemon/file_descriptor.h"
#include "daemon/host_ram.h"

namespace guestscope::test {

constexpr std::uint64_t kPage = 4096;

/// The byte at `offset` of memory filled with `seed`; never a whole page of zeros.
std::byte pattern(std::uint64_t seed, std::uint64_t offset);

/// What is wrong with a result, for a message that is made even when nothing is.
template <typename T>
std::string why(const Result<T>& result) {
  return result ? "" : result.error().to_string();
}

class RamProcess {
 public:
  RamProcess();
  RamProcess(const RamProcess&) = delete;
  RamProcess& operator=(const RamProcess&) = delete;
  ~RamProcess();

  pid_t pid() const { return pid_; }
  /// Maps memory with a page before and after it that cannot be read, and gives its address.
  std::uint64_t map_anonymous(std::uint64_t size) { return tell('a', size, 0); }
  std::uint64_t map_memfd(std::uint64_t size) { return tell('m', size, 0); }
  /// A file on disk, without a name.
  std::uint64_t map_file(std::uint64_t size) { return tell('f', size, 0); }
  /// The file mapped last.
  void truncate_file(std::uint64_t size) { tell('t', size, 0); }
  void fill(std::uint64_t address, std::uint64_t size, std::uint64_t seed) {
    tell('w', address, size, seed);
  }
  void unmap(std::uint64_t address, std::uint64_t size) { tell('u', address, size); }
  /// Maps new anonymous memory over what is there.
  void map_over(std::uint64_t address, std::uint64_t size) { tell('o', address, size); }
  void protect(std::uint64_t address, std::uint64_t size) { tell('p', address, size); }
  /// Becomes another program, with the same pid.
  void exec() { tell('x', 0, 0); }
  /// Kills it and waits until its pid is free.
  void kill();

 private:
  std::uint64_t tell(char what, std::uint64_t a, std::uint64_t b, std::uint64_t c = 0);

  pid_t pid_ = -1;
  FileDescriptor control_;
};

/// Says what QEMU's monitor says: `info mtree -f` and `gpa2hva`.
struct RamMonitor {
  struct Range {
    std::uint64_t guest = 0;
    std::uint64_t size = 0;
    std::uint64_t host = 0;
    std::string type = "ram";
    std::string name = "pc.ram";
  };
  std::vector<Range> ranges;
  /// Answers in place of the true ones, by command.
  std::map<std::string, Result<std::string>, std::less<>> instead{};
  std::size_t asked = 0;

  Result<std::string> operator()(std::string_view command);
  Monitor monitor() { return std::ref(*this); }
};

/// The guest's memory as the stub would read it: from the process, by another way.
class StubOfProcess final : public PhysMemory {
 public:
  StubOfProcess(pid_t pid, std::vector<RamMonitor::Range> ranges);
  void read(std::span<PhysRead> reads) override;

  std::function<void(std::size_t batch, PhysRead&)> spoil;  ///< called on every read that is good
  std::size_t batches = 0;

 private:
  std::vector<RamMonitor::Range> ranges_;
  FileDescriptor memory_;
};

/// A connection whose far end is still ours.
struct Connection {
  FileDescriptor near;
  FileDescriptor far;
};
/// Over loopback; `listen` and `connect` as inet_pton takes them.
Connection connect_tcp(const char* listen, const char* connect, bool accept = true);
Connection connect_unix(bool accept = true);

/// A child with that pid, which must be free; it has `size` bytes at `address` when that is not 0.
/// Empty where the kernel does not let us choose (CAP_CHECKPOINT_RESTORE).
std::optional<pid_t> fork_as(pid_t pid, std::uint64_t address = 0, std::uint64_t size = 0);
void end_process(pid_t pid);

/// Runs `work` in a child that is user nobody, and gives what it returns.
std::string as_nobody(const std::function<std::string()>& work);

}  // namespace guestscope::test
