#include "daemon/process_memory.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <system_error>
#include <utility>

namespace guestscope {
namespace {

constexpr std::size_t kMaxPieces = IOV_MAX;
// The kernel cuts a call short at 2 GiB less a page, and a call cut short must mean a bad piece.
constexpr std::size_t kMaxPieceBytes = std::size_t{1} << 20;
static_assert(kMaxPieces * kMaxPieceBytes < INT_MAX);
// Behind a bad piece: where one is bad more may be, and each costs the set-up of the whole call.
constexpr std::size_t kPiecesAfterBad = 16;

iovec piece(std::uint64_t address, std::size_t size) {
  return {.iov_base = reinterpret_cast<void*>(address),  // NOLINT(performance-no-int-to-ptr)
          .iov_len = size};
}

Error batch_error(const QemuProcess& process, int reason) {
  if (reason == ESRCH)
    return {.code = ErrorCode::kUnreachable, .message = process.to_string() + " has ended"};
  if (reason == EPERM || reason == EACCES) return process.not_permitted(reason);
  return {.code = reason == ENOSYS ? ErrorCode::kUnsupported : ErrorCode::kSystem,
          .message = fmt::format("process_vm_readv: {}", std::generic_category().message(reason))};
}

// How many whole pieces `bytes` fill.
std::size_t whole_pieces(std::span<const iovec> pieces, std::size_t bytes) {
  std::size_t n = 0;
  while (n < pieces.size() && pieces[n].iov_len <= bytes) bytes -= pieces[n++].iov_len;
  return n;
}

}  // namespace

ProcessMemory::ProcessMemory(QemuProcess process, FileDescriptor memory)
    : process_(std::move(process)), memory_(std::move(memory)), random_(std::random_device{}()) {
  local_.reserve(kMaxPieces);
  remote_.reserve(kMaxPieces);
  owner_.reserve(kMaxPieces);
}

Result<std::unique_ptr<ProcessMemory>> ProcessMemory::open(QemuProcess process,
                                                           const Monitor& monitor) {
  GS_ASSIGN(FileDescriptor memory, process.open_file("mem"));
  std::unique_ptr<ProcessMemory> opened(new ProcessMemory(std::move(process), std::move(memory)));
  GS_CHECK(opened->probe());
  GS_CHECK(opened->refresh(monitor));
  return opened;
}

Result<std::unique_ptr<ProcessMemory>> ProcessMemory::choose(std::vector<QemuProcess> candidates,
                                                             const Monitor& monitor,
                                                             PhysMemory& stub) {
  Error first{.code = ErrorCode::kNotFound, .message = "no process to choose from"};
  bool failed = false;
  for (QemuProcess& candidate : candidates) {
    auto memory = open(std::move(candidate), monitor);
    if (memory) {
      const auto proven = (*memory)->prove(stub);
      if (proven) return memory;
      memory = std::unexpected(proven.error());
    }
    if (!std::exchange(failed, true)) first = std::move(memory).error();
  }
  return std::unexpected(std::move(first));
}

Result<void> ProcessMemory::refresh(const Monitor& monitor) {
  GS_ASSIGN(ram_, find_host_ram(process_, monitor));
  return {};
}

// Page 0 of a process is not mapped: being told so means that all else is permitted.
Result<void> ProcessMemory::probe() const {
  std::byte byte{};
  const iovec local{.iov_base = &byte, .iov_len = 1};
  const iovec remote = piece(0, 1);
  if (::process_vm_readv(process_.pid(), &local, 1, &remote, 1, 0) == 1 || errno == EFAULT)
    return {};
  return std::unexpected(batch_error(process_, errno));
}

const HostRange* ProcessMemory::range_at(std::uint64_t guest) const {
  const auto after = std::ranges::upper_bound(ram_.ranges, guest, {}, &HostRange::guest);
  if (after == ram_.ranges.begin()) return nullptr;
  const HostRange& range = *std::prev(after);
  return guest - range.guest < range.size ? &range : nullptr;
}

bool ProcessMemory::covers(GuestPhys address, std::uint64_t size) const {
  std::uint64_t at = address.value();
  while (const HostRange* range = range_at(at)) {
    const std::uint64_t there = range->size - (at - range->guest);
    if (size <= there) return true;
    size -= there;
    at += there;
  }
  return false;
}

void ProcessMemory::read(std::span<PhysRead> reads) {
  fatal_.reset();
  for (std::size_t at = 0; at < reads.size() && !fatal_; at += kMaxPieces) {
    prepare(reads.subspan(at, std::min(kMaxPieces, reads.size() - at)));
    copy();
  }
  const auto done = confirm();
  if (done) return;
  for (PhysRead& read : reads) read.error = done.error();
}

void ProcessMemory::prepare(std::span<PhysRead> reads) {
  reads_ = reads;
  fatal_.reset();
  local_.clear();
  remote_.clear();
  owner_.clear();
  for (std::size_t i = 0; i < reads.size(); ++i) {
    reads[i].error.reset();
    if (covers(reads[i].address, reads[i].into.size()))
      add(i);
    else
      reads[i].error = Error{.code = ErrorCode::kNotRam,
                             .message = "not RAM that the process has",
                             .path = {},
                             .address = reads[i].address.value()};
  }
}

void ProcessMemory::add(std::size_t index) {
  std::uint64_t at = reads_[index].address.value();
  std::span<std::byte> into = reads_[index].into;
  while (!into.empty()) {
    const HostRange& range = *range_at(at);  // covers() has been there
    const std::uint64_t offset = at - range.guest;
    const auto size = static_cast<std::size_t>(
        std::min<std::uint64_t>({into.size(), range.size - offset, kMaxPieceBytes}));
    local_.push_back({.iov_base = into.data(), .iov_len = size});
    remote_.push_back(piece(range.host + offset, size));
    owner_.push_back(index);
    into = into.subspan(size);
    at += size;
  }
}

// The call stops at the first piece that it cannot read, and says how far it came.
void ProcessMemory::copy() {
  std::size_t window = kMaxPieces;
  for (std::size_t at = 0; at < local_.size() && !fatal_;) {
    const std::size_t n = std::min(window, local_.size() - at);
    const ssize_t got = ::process_vm_readv(process_.pid(), &local_[at], n, &remote_[at], n, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno != EFAULT) {
      fatal_ = batch_error(process_, errno);
      break;
    }
    const auto bytes = static_cast<std::size_t>(std::max<ssize_t>(got, 0));
    const std::size_t whole = whole_pieces(std::span(local_).subspan(at, n), bytes);
    at += whole;
    window = std::min(window * 2, kMaxPieces);
    if (whole == n) continue;
    PhysRead& bad = reads_[owner_[at]];
    bad.error = Error{.code = ErrorCode::kNotMapped,
                      .message = fmt::format("{} cannot be read there", process_.to_string()),
                      .path = {},
                      .address = bad.address.value()};
    window = kPiecesAfterBad;
    ++at;
  }
}

Result<void> ProcessMemory::confirm() {
  if (!fatal_) fatal_ = gone();
  if (fatal_) return std::unexpected(*fatal_);
  return {};
}

// The address space that an open `mem` belongs to is the one at its opening, for good: once that is
// gone, by exit or by exec, reading gives an end of file; before, page 0 is an error (EIO).
std::optional<Error> ProcessMemory::gone() const {
  std::byte byte{};
  if (!process_.alive())
    return Error{.code = ErrorCode::kUnreachable, .message = process_.to_string() + " has ended"};
  if (::pread(memory_.get(), &byte, 1, 0) == 0)
    return Error{.code = ErrorCode::kUnreachable,
                 .message = process_.to_string() + " has become another program"};
  return std::nullopt;
}

Result<void> ProcessMemory::still_mapped() const {
  GS_ASSIGN(const std::string maps, process_.read_file("maps"));
  if (auto error = gone()) return std::unexpected(*std::move(error));
  const std::vector<HostArea> areas = parse_maps(maps);
  for (const HostRange& range : ram_.ranges) {
    const auto parts = mapped_parts(range, areas);
    if (parts.size() != 1 || !(parts.front() == range))
      return fail_at(range.guest, ErrorCode::kMismatch,
                     "{} has mapped something else where the guest's memory was",
                     process_.to_string());
  }
  return {};
}

}  // namespace guestscope
