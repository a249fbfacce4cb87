// ProcessMemory::prove(): the process's memory is the guest's, by comparing.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <iterator>
#include <utility>

#include "daemon/process_memory.h"

namespace guestscope {
namespace {

constexpr std::size_t kPageBytes = 4096;
// Pages compared that are not all zero, enough that chance and an older copy cannot pass; and those
// that are, which prove little but cost as much (45 µs each through the stub).
constexpr std::size_t kWantedFull = 48;
constexpr std::size_t kWantedEmpty = 16;
constexpr std::size_t kLeastFull = 4;
// Places looked at. A guest that has just begun has touched one page in a hundred of its memory.
constexpr std::size_t kTries = 384;
// One look at pagemap: 4 KiB of it, so 2 MiB of memory, and how many pages are taken of these.
constexpr std::size_t kEntries = 512;
constexpr std::size_t kPagesOfTry = 2;
// Ranges of which the first and the last page are compared.
constexpr std::size_t kMaxEnds = 64;
// A device (or vhost) may still be writing what it had begun when the guest was stopped.
constexpr int kAttempts = 3;

using Page = std::array<std::byte, kPageBytes>;

bool is_empty(const Page& page) {
  return std::ranges::all_of(page, [](std::byte byte) { return byte == std::byte{0}; });
}

struct Compared {
  std::vector<std::uint64_t> differ;
  std::size_t full = 0;
  std::size_t read = 0;
  std::optional<Error> error;  // why the stub did not read one
};

std::vector<PhysRead> reads_of(std::span<const std::uint64_t> addresses, std::vector<Page>& pages) {
  pages.resize(addresses.size());
  std::vector<PhysRead> reads;
  reads.reserve(addresses.size());
  for (std::size_t i = 0; i < addresses.size(); ++i)
    reads.push_back({.address = GuestPhys(addresses[i]), .into = pages[i]});
  return reads;
}

Compared compare(std::span<const std::uint64_t> addresses, PhysMemory& ours, PhysMemory& stub) {
  std::vector<Page> our_pages;
  std::vector<Page> stub_pages;
  std::vector<PhysRead> our_reads = reads_of(addresses, our_pages);
  std::vector<PhysRead> stub_reads = reads_of(addresses, stub_pages);
  stub.read(stub_reads);
  ours.read(our_reads);
  Compared compared;
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    if (our_reads[i].error || stub_reads[i].error) {
      if (!compared.error)
        compared.error = our_reads[i].error ? our_reads[i].error : stub_reads[i].error;
      continue;
    }
    ++compared.read;
    if (our_pages[i] != stub_pages[i])
      compared.differ.push_back(addresses[i]);
    else
      compared.full += is_empty(our_pages[i]) ? 0U : 1U;
  }
  return compared;
}

}  // namespace

// Pages that QEMU has touched among the `around` pages about `guest`: by pagemap, since looking at
// the others would make them, and prove nothing.
void ProcessMemory::add_resident(const FileDescriptor& pagemap, std::uint64_t guest,
                                 std::size_t around, std::vector<std::uint64_t>& pages) {
  constexpr std::uint64_t kPresentOrSwapped = std::uint64_t{3} << 62;
  static const auto host_page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const HostRange& range = *range_at(guest);
  std::array<std::uint64_t, kEntries> entries{};
  const std::uint64_t first = (range.host + (guest - range.guest)) / host_page / around * around;
  const ssize_t n = ::pread(pagemap.get(), entries.data(), around * sizeof entries[0],
                            static_cast<off_t>(first * sizeof entries[0]));
  if (n <= 0) return;
  const std::size_t count = static_cast<std::size_t>(n) / sizeof entries[0];
  std::vector<std::uint64_t> there;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t host = (first + i) * host_page;
    if ((entries[i] & kPresentOrSwapped) == 0 || host < range.host) continue;
    const std::uint64_t offset = host - range.host;
    if (offset < range.size && range.size - offset >= kPageBytes)
      there.push_back(range.guest + offset);
  }
  std::ranges::sample(there, std::back_inserter(pages), kPagesOfTry, random_);
}

// Anywhere in some range, or at a distance from one of its ends that is any power of two as likely
// as another: kernels fill memory from its ends.
std::uint64_t ProcessMemory::random_page() {
  const HostRange& range = ram_.ranges[random_() % ram_.ranges.size()];
  const std::uint64_t pages = range.size / kPageBytes;
  if (pages == 0) return range.guest;
  const auto doublings = static_cast<unsigned>(std::bit_width(pages));
  const std::uint64_t reach = std::min(std::uint64_t{1} << (random_() % doublings), pages);
  const std::uint64_t distance = random_() % reach;
  switch (random_() % 3) {
    case 0: return range.guest + distance * kPageBytes;
    case 1: return range.guest + (pages - 1 - distance) * kPageBytes;
    default: return range.guest + random_() % pages * kPageBytes;
  }
}

Result<std::vector<std::uint64_t>> ProcessMemory::pages_to_compare() {
  GS_ASSIGN(const FileDescriptor pagemap, process_.open_file("pagemap"));
  std::vector<std::uint64_t> pages;
  for (std::size_t i = 0; i < std::min(ram_.ranges.size(), kMaxEnds); ++i) {
    const HostRange& range = ram_.ranges[i];
    add_resident(pagemap, range.guest, 1, pages);
    if (range.size >= 2 * kPageBytes)
      add_resident(pagemap, range.guest + (range.size / kPageBytes - 1) * kPageBytes, 1, pages);
  }
  std::vector<std::uint64_t> candidates;
  std::size_t full = 0;
  std::size_t empty = 0;
  Page page;
  for (std::size_t i = 0; i < kTries && full < kWantedFull; ++i) {
    candidates.clear();
    add_resident(pagemap, random_page(), kEntries, candidates);
    for (const std::uint64_t address : candidates) {
      if (std::ranges::find(pages, address) != pages.end()) continue;
      if (!read_one(GuestPhys(address), page)) continue;
      if (is_empty(page) && ++empty > kWantedEmpty) continue;
      if (!is_empty(page)) ++full;
      pages.push_back(address);
    }
  }
  return pages;
}

Result<void> ProcessMemory::prove(PhysMemory& stub) {
  GS_ASSIGN(const std::vector<std::uint64_t> pages, pages_to_compare());
  Compared compared = compare(pages, *this, stub);
  for (int i = 1; i < kAttempts && !compared.differ.empty(); ++i) {
    const std::vector<std::uint64_t> again = std::exchange(compared.differ, {});
    const Compared second = compare(again, *this, stub);
    compared.differ = second.differ;
    compared.full += second.full;
    if (second.error) compared.error = second.error;
  }
  if (!compared.differ.empty())
    return fail_at(compared.differ.front(), ErrorCode::kMismatch,
                   "{} has other bytes there than the stub reads: {} of {} pages differ "
                   "(encrypted memory, or a copy of the guest's memory)",
                   process_.to_string(), compared.differ.size(), pages.size());
  if (compared.read == 0 && compared.error) return std::unexpected(*std::move(compared.error));
  if (compared.full < kLeastFull)
    return fail(ErrorCode::kNotReady,
                "the guest has hardly used its memory yet: nothing that proves it to be {}'s",
                process_.to_string());
  return {};
}

}  // namespace guestscope
