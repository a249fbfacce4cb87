#include "gdbproto/packet.h"

#include "gdbproto/hex.h"

namespace guestscope::gdb {
namespace {

constexpr char kEscape = '}';
constexpr char kEscapeBit = 0x20;
constexpr std::string_view kDigits = "0123456789abcdef";

bool is_special(char c) { return c == '$' || c == '#' || c == kEscape || c == '*'; }

constexpr std::size_t kBlockBytes = 64;

struct Block {
  bool special = false;  ///< one of its bytes is
  std::uint8_t sum = 0;
};

/// Without a branch, so that the compiler looks at many bytes at once.
Block look_at(std::string_view bytes) {
  unsigned char special = 0;
  std::uint8_t sum = 0;
  for (std::size_t i = 0; i < kBlockBytes; ++i) {
    const char c = bytes[i];
    special |= static_cast<unsigned char>(c == '$') | static_cast<unsigned char>(c == '#') |
               static_cast<unsigned char>(c == kEscape) | static_cast<unsigned char>(c == '*');
    sum = static_cast<std::uint8_t>(sum + static_cast<std::uint8_t>(c));
  }
  return {.special = special != 0, .sum = sum};
}

}  // namespace

std::uint8_t checksum(std::string_view wire) {
  unsigned sum = 0;
  for (const char c : wire) sum += static_cast<std::uint8_t>(c);
  return static_cast<std::uint8_t>(sum);
}

void append_packet(std::string& out, std::string_view payload) {
  out += '$';
  const std::size_t begin = out.size();
  for (const char c : payload) {
    if (is_special(c)) {
      out += kEscape;
      out += static_cast<char>(c ^ kEscapeBit);
    } else {
      out += c;
    }
  }
  const std::uint8_t sum = checksum(std::string_view(out).substr(begin));
  out += '#';
  out += kDigits[sum >> 4];
  out += kDigits[sum & 15];
}

PacketDecoder::PacketDecoder(std::size_t max_payload) : max_payload_(max_payload) {}

std::optional<PacketDecoder::Event> PacketDecoder::next(std::string_view& input) {
  while (!input.empty()) {
    if (state_ == State::kPayload) take_plain(input);
    if (input.empty()) break;
    const char c = input.front();
    input.remove_prefix(1);
    const auto kind = step(c);
    if (!kind) continue;
    if (*kind == EventKind::kPacket) return Event{*kind, payload_};
    return Event{*kind};
  }
  return std::nullopt;
}

std::optional<PacketDecoder::EventKind> PacketDecoder::step(char c) {
  // A `$` stands nowhere in a packet, not even as a run length: the one before it was cut off.
  if (c == '$' && state_ != State::kIdle) {
    const auto event = damaged();
    begin(false);
    return event;
  }
  switch (state_) {
    case State::kIdle: return between_packets(c);
    case State::kPayload: return in_payload(c);
    case State::kEscape:
      sum_ = static_cast<std::uint8_t>(sum_ + static_cast<std::uint8_t>(c));
      state_ = State::kPayload;
      return append(static_cast<char>(c ^ kEscapeBit));
    case State::kRun: return expand_run(c);
    case State::kChecksumHigh:
      if (!is_hex(c)) return damaged();
      expected_ = static_cast<std::uint8_t>(hex_value(c) << 4);
      state_ = State::kChecksumLow;
      return std::nullopt;
    case State::kChecksumLow: return finish(c);
  }
  return std::nullopt;
}

// The hot path: the bytes up to the next special one, or up to the limit, in one go.
void PacketDecoder::take_plain(std::string_view& input) {
  const std::size_t room = max_payload_ - payload_.size();
  const std::size_t limit = input.size() < room ? input.size() : room;
  std::size_t n = 0;
  unsigned sum = sum_;
  for (; limit - n >= kBlockBytes; n += kBlockBytes) {
    const Block block = look_at(input.substr(n, kBlockBytes));
    if (block.special) break;
    sum += block.sum;
  }
  while (n < limit && !is_special(input[n])) sum += static_cast<std::uint8_t>(input[n++]);
  sum_ = static_cast<std::uint8_t>(sum);
  payload_.append(input.substr(0, n));
  input.remove_prefix(n);
}

std::optional<PacketDecoder::EventKind> PacketDecoder::between_packets(char c) {
  switch (c) {
    case '$': begin(false); return std::nullopt;
    case '%': begin(true); return std::nullopt;
    case '+': return EventKind::kAck;
    case '-': return EventKind::kNak;
    default: return std::nullopt;  // garbage: skip to the next packet
  }
}

std::optional<PacketDecoder::EventKind> PacketDecoder::in_payload(char c) {
  if (c == '#') {
    state_ = State::kChecksumHigh;
    return std::nullopt;
  }
  sum_ = static_cast<std::uint8_t>(sum_ + static_cast<std::uint8_t>(c));
  if (c == kEscape) {
    state_ = State::kEscape;
    return std::nullopt;
  }
  if (c == '*') {
    state_ = State::kRun;
    return std::nullopt;
  }
  return append(c);
}

// `x*c` is x and then c - 29 more of it.
std::optional<PacketDecoder::EventKind> PacketDecoder::expand_run(char c) {
  constexpr char kFirstCount = ' ';
  constexpr char kLastCount = '~';
  constexpr std::size_t kCountBase = 29;
  sum_ = static_cast<std::uint8_t>(sum_ + static_cast<std::uint8_t>(c));
  state_ = State::kPayload;
  if (c < kFirstCount || c > kLastCount || c == '#' || payload_.empty()) return damaged();
  const std::size_t count = static_cast<std::uint8_t>(c) - kCountBase;
  if (count > max_payload_ - payload_.size()) return damaged();
  payload_.append(count, payload_.back());
  return std::nullopt;
}

std::optional<PacketDecoder::EventKind> PacketDecoder::finish(char c) {
  if (!is_hex(c)) return damaged();
  expected_ = static_cast<std::uint8_t>(expected_ | hex_value(c));
  state_ = State::kIdle;
  // We never ask for notifications, so nobody waits for one: they are passed over, damaged or not.
  if (notification_) return std::nullopt;
  return sum_ == expected_ ? EventKind::kPacket : EventKind::kBadChecksum;
}

std::optional<PacketDecoder::EventKind> PacketDecoder::append(char c) {
  if (payload_.size() >= max_payload_) return damaged();
  payload_ += c;
  return std::nullopt;
}

std::optional<PacketDecoder::EventKind> PacketDecoder::damaged() {
  state_ = State::kIdle;
  if (notification_) return std::nullopt;
  return EventKind::kBadPacket;
}

void PacketDecoder::begin(bool notification) {
  payload_.clear();
  sum_ = 0;
  notification_ = notification;
  state_ = State::kPayload;
}

}  // namespace guestscope::gdb
