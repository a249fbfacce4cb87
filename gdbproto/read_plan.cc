#include "gdbproto/read_plan.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "gdbproto/hex.h"

namespace guestscope::gdb {
namespace {

std::uint64_t begin_of(const PhysRead& read) { return read.address.value(); }
// Cannot overflow: only reads inside the RAM map get this far.
std::uint64_t end_of(const PhysRead& read) { return begin_of(read) + read.into.size(); }

// "E14"; an answer of memory has an even number of digits.
bool is_error(std::string_view payload) { return payload.size() == 3 && payload[0] == 'E'; }

void append_hex(std::string& out, std::uint64_t value) {
  std::array<char, 16> digits{};
  const auto [end, error] = std::to_chars(digits.data(), digits.data() + digits.size(), value, 16);
  out.append(digits.data(), end);
}

}  // namespace

ReadPlan::ReadPlan(std::span<PhysRead> reads, const RamMap& ram, std::uint64_t max_bytes,
                   std::uint64_t gap)
    : reads_(reads), ram_(ram), max_bytes_(max_bytes), gap_(gap) {
  order_.reserve(reads.size());
  for (std::size_t i = 0; i < reads.size(); ++i) {
    PhysRead& read = reads[i];
    read.error.reset();
    if (read.into.empty()) continue;
    if (!ram.contains(read.address, read.into.size())) {
      read.error = Error{.code = ErrorCode::kNotRam,
                         .message = fmt::format("{} bytes are not all RAM", read.into.size()),
                         .path = {},
                         .address = read.address.value()};
      continue;
    }
    total_bytes_ += read.into.size();
    order_.push_back(i);
  }
  std::ranges::sort(order_, {}, [&](std::size_t i) { return reads_[i].address; });
  for (std::size_t i = 1; i < order_.size(); ++i) {
    const std::uint64_t end = end_of(sorted(i - 1));
    const std::uint64_t begin = begin_of(sorted(i));
    if (begin > end && begin - end <= gap_) total_bytes_ += begin - end;
  }
}

ReadPlan::ReadPlan(std::span<PhysRead> reads, const RamMap& ram, std::uint64_t max_bytes,
                   std::vector<std::size_t> only)
    : reads_(reads),
      ram_(ram),
      max_bytes_(max_bytes),
      gap_(0),
      join_(false),
      order_(std::move(only)) {
  for (const std::size_t i : order_) {
    reads_[i].error.reset();
    total_bytes_ += reads_[i].into.size();
  }
}

// A read that follows a packet's bytes without a gap may be cut by the packet's end, which costs
// nothing; one behind a gap must fit, or the gap was read in vain.
bool ReadPlan::joins(const Packet& packet, const PhysRead& read) const {
  if (!join_) return false;
  const std::uint64_t limit = packet.begin + max_bytes_;
  if (begin_of(read) <= packet.end) return begin_of(read) < limit;
  return begin_of(read) - packet.end <= gap_ && end_of(read) <= limit &&
         ram_.contains(GuestPhys(packet.begin), end_of(read) - packet.begin);
}

bool ReadPlan::advance(Cursor& cursor, Packet& packet) const {
  if (cursor.position >= cursor.needed) {
    if (cursor.next == order_.size()) return false;
    const PhysRead& first = sorted(cursor.next++);
    cursor.position = begin_of(first);
    cursor.needed = end_of(first);
  }
  // All within one RAM block, so that position + max_bytes_ can only overflow at the very end of
  // the address space; the minimum is taken of differences.
  packet.begin = cursor.position;
  packet.end = packet.begin + std::min(cursor.needed - packet.begin, max_bytes_);
  while (cursor.next < order_.size() && joins(packet, sorted(cursor.next))) {
    cursor.needed = std::max(cursor.needed, end_of(sorted(cursor.next++)));
    packet.end = packet.begin + std::min(cursor.needed - packet.begin, max_bytes_);
  }
  cursor.position = packet.end;
  return true;
}

Exchange::Sent ReadPlan::send_next(std::string& out) {
  Packet packet;
  if (!advance(sender_, packet)) return Sent::kNothing;
  // Framed in place; digits need no escapes.
  const std::size_t begin = out.size() + 1;
  out += "$m";
  append_hex(out, packet.begin);
  out += ',';
  append_hex(out, packet.end - packet.begin);
  const std::uint8_t sum = checksum(std::string_view(out).substr(begin));
  out += '#';
  if (sum < 16) out += '0';
  append_hex(out, sum);
  return Sent::kQuestion;
}

Result<bool> ReadPlan::on_answer(std::string_view payload) {
  const std::size_t first = receiver_.next;
  Packet packet;
  if (!advance(receiver_, packet))
    return fail(ErrorCode::kProtocol, "the stub answered one read too many");
  // Before anything can fail: fail_unanswered() takes what is partial or not begun.
  for (std::size_t i = first; i < receiver_.next; ++i) partial_.push_back(order_[i]);
  const bool refused = is_error(payload);
  if (!refused && payload.size() != 2 * (packet.end - packet.begin))
    return fail_at(packet.begin, ErrorCode::kProtocol,
                   "the stub answered {} digits to a read of {} bytes", payload.size(),
                   packet.end - packet.begin);
  const bool shared = partial_.size() > 1;
  bool digits_are_good = true;
  for (const std::size_t index : partial_) {
    if (refused)
      refuse(index, packet, payload, shared);
    else
      digits_are_good &= fill(reads_[index], packet, payload);
  }
  if (!digits_are_good)
    return fail_at(packet.begin, ErrorCode::kProtocol, "the stub's answer is not hexadecimal");
  std::erase_if(partial_, [&](std::size_t index) { return end_of(reads_[index]) <= packet.end; });
  return true;
}

bool ReadPlan::fill(PhysRead& read, const Packet& packet, std::string_view digits) const {
  const std::uint64_t begin = std::max(begin_of(read), packet.begin);
  const std::uint64_t end = std::min(end_of(read), packet.end);
  return decode_hex(digits.substr(2 * (begin - packet.begin), 2 * (end - begin)),
                    read.into.subspan(begin - begin_of(read), end - begin));
}

void ReadPlan::refuse(std::size_t index, const Packet& packet, std::string_view payload,
                      bool shared) {
  PhysRead& read = reads_[index];
  if (shared && !read.error) refused_together_.push_back(index);
  read.error = Error{.code = ErrorCode::kNotMapped,
                     .message = fmt::format("the stub refused to read it ({})", payload),
                     .path = {},
                     .address = std::max(begin_of(read), packet.begin)};
}

void ReadPlan::fail_unanswered(const Error& error) {
  for (const std::size_t index : partial_) reads_[index].error = error;
  for (std::size_t i = receiver_.next; i < order_.size(); ++i) reads_[order_[i]].error = error;
}

}  // namespace guestscope::gdb
